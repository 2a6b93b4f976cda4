"""Sandboxes as kubectl and docker see them: declared, watched, and looked at in the engine.

World    a namespace, and the one watch that tells of its Sandboxes
Box      one Sandbox and all its versions since it was made; `until` waits for the next that fits
Docker   the engine, past the operator's back
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import aiohttp
import docker
from docker.errors import NotFound

from controller.core import names
from dev import engine
from dev.images import BUSYBOX
from tests.integration.operator import SECONDS, Json, Plane, Refused, names_path

WEB = {"name": "WEB", "containerPort": 8000}
SLEEPS = ["sleep", "100000"]
IGNORES_SIGTERM = ["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"]
WAITS_FOR_GO = [
    "sh",
    "-c",
    "until [ -e /tmp/go ]; do sleep 0.05; done; exec httpd -f -p 8000 -h /www",
]


@dataclass
class _Story:
    """What the watch told of one UID."""

    versions: list[Json] = field(default_factory=list)
    gone: bool = False


class World:
    """A namespace of its own. `async with` makes it, and its watch."""

    def __init__(self, plane: Plane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.boxes: list[Box] = []
        self._numbers = count()
        self._stories: dict[str, _Story] = {}
        self._told = asyncio.Condition()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        namespace = {"metadata": {"name": self.namespace}}
        await self.plane.call("POST", "/api/v1/namespaces", namespace, ok=(409,))
        self._watch = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def path(self, name: str = "") -> str:
        return f"{names_path(self.namespace)}/{name}" if name else names_path(self.namespace)

    async def box(self, name: str = "", **spec: Any) -> Box:
        """Declare a Sandbox: busybox, unless `spec` says otherwise."""
        spec = {"image": BUSYBOX, "imagePullPolicy": "Never"} | spec
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name or f"box-{next(self._numbers)}"},
            "spec": spec,
        }
        created = await self.plane.call("POST", self.path(), body)
        box = Box(self, created["metadata"]["name"], created["metadata"]["uid"])
        self.boxes.append(box)
        return box

    async def running(self, name: str = "", **spec: Any) -> Box:
        box = await self.box(name, **spec)
        await box.until("RUNNING")
        return box

    async def secret(self, name: str, **values: str) -> None:
        data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
        body = {"metadata": {"name": name}, "data": data}
        await self.plane.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body)

    async def config_map(self, name: str, **values: str) -> None:
        body = {"metadata": {"name": name}, "data": values}
        await self.plane.call("POST", f"/api/v1/namespaces/{self.namespace}/configmaps", body)

    async def event(self, box: Box, reason: str) -> Json:
        """The first Event on a Sandbox with this reason; it may come a little later."""
        only = f"involvedObject.uid={box.uid},reason={reason}"
        query = {"watch": "1", "resourceVersion": "0", "fieldSelector": only}
        address = f"{self.plane.url}/api/v1/namespaces/{self.namespace}/events"
        async with asyncio.timeout(SECONDS):
            async with self.plane.session().get(address, params=query) as response:
                async for line in response.content:
                    return dict(json.loads(line)["object"])
        raise AssertionError(f"the watch of Events ended without {reason} of {box.name}")

    async def events(self) -> list[Json]:
        listed = await self.plane.call("GET", f"/api/v1/namespaces/{self.namespace}/events")
        return list(listed["items"])

    async def clear(self) -> None:
        """Delete every Sandbox, and wait for the end of the last."""
        for box in self.boxes:
            if not box.gone:
                await box.delete()
        for box in self.boxes:
            await box.until_gone()
        self.boxes.clear()

    def story(self, uid: str) -> _Story:
        return self._stories.setdefault(uid, _Story())

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds), self._told:
            await self._told.wait_for(condition)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, Refused, TimeoutError, ConnectionError):
                listed = await self.plane.call("GET", self.path())
                alive = {obj["metadata"]["uid"]: obj for obj in listed["items"]}
                async with self._told:  # also of an empty list: those who wait for the last to go
                    for uid, story in self._stories.items():
                        story.gone |= uid not in alive and bool(story.versions)
                    self._told.notify_all()
                for obj in alive.values():
                    await self._tell("MODIFIED", obj)
                version = listed["metadata"]["resourceVersion"]
                query = {"watch": "1", "resourceVersion": version}
                url = self.plane.url + self.path()
                async with self.plane.session().get(url, params=query) as response:
                    response.raise_for_status()  # one that is starting refuses
                    async for line in response.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        await self._tell(event["type"], event["object"])
            await asyncio.sleep(0.1)  # the API server is away, or has closed the watch

    async def _tell(self, kind: str, obj: Json) -> None:
        story = self.story(obj["metadata"]["uid"])
        known = {v["metadata"]["resourceVersion"] for v in story.versions[-1:]}
        if obj["metadata"]["resourceVersion"] not in known:
            story.versions.append(obj)
        async with self._told:
            story.gone |= kind == "DELETED"
            self._told.notify_all()


@dataclass
class Box:
    """One Sandbox. `until` goes on from the version that the last `until` found."""

    world: World
    name: str
    uid: str
    at: int = 0

    @property
    def container_name(self) -> str:
        """The engine's name of its container."""
        return names.container_name(names.Owner(self.world.plane.uid, ""), self.uid)

    @property
    def versions(self) -> list[Json]:
        return self.world.story(self.uid).versions

    @property
    def gone(self) -> bool:
        return self.world.story(self.uid).gone

    @property
    def latest(self) -> Json:
        return self.versions[-1]

    @property
    def status(self) -> Json:
        return dict(self.latest.get("status") or {})

    async def until(
        self,
        phase: str | None = None,
        reason: str | None = None,
        where: Callable[[Json], bool] = lambda obj: True,
        seconds: float = SECONDS,
    ) -> Json:
        """The first version from here on of this phase, reason of Ready, and whatever `where`
        asks for, whose status was made for its spec."""

        def fits(obj: Json) -> bool:
            status = obj.get("status") or {}
            if phase is not None:
                if status.get("phase") != phase:
                    return False
                if status.get("observedGeneration") != obj["metadata"]["generation"]:
                    return False
            if reason is not None and condition(obj, "Ready").get("reason") != reason:
                return False
            return where(obj)

        def found() -> bool:
            while self.at < len(self.versions):
                if fits(self.versions[self.at]):
                    return True
                self.at += 1
            return False

        try:
            await self.world.until(lambda: found() or self.gone, seconds)
        except TimeoutError:
            raise AssertionError(
                f"{self.name} was never {phase} {reason or ''} in {seconds:g} s, but {self.told()}"
            ) from None
        if self.at >= len(self.versions):
            raise AssertionError(f"{self.name} went without being {phase} {reason or ''}")
        return self.versions[self.at]

    async def until_gone(self, seconds: float = SECONDS) -> None:
        try:
            await self.world.until(lambda: self.gone, seconds)
        except TimeoutError:
            raise AssertionError(f"{self.name} is not gone, but {self.told()}") from None

    def told(self) -> list[str]:
        """Phases, reasons and messages, in order."""
        trail: list[str] = []
        for obj in self.versions:
            ready = condition(obj, "Ready")
            words = (obj.get("status", {}).get("phase"), ready.get("reason"), ready.get("message"))
            line = " ".join(str(word) for word in words if word)
            if not trail or trail[-1] != line:
                trail.append(line)
        return trail

    def phases(self) -> list[str]:
        trail: list[str] = []
        for obj in self.versions:
            phase = (obj.get("status") or {}).get("phase")
            if phase is not None and (not trail or trail[-1] != phase):
                trail.append(phase)
        return trail

    async def patch(self, **spec: Any) -> None:
        """Change the spec. What is waited for next comes after this."""
        changed = await self.world.plane.call("PATCH", self.world.path(self.name), {"spec": spec})
        generation = changed["metadata"]["generation"]
        await self.until(where=lambda obj: obj["metadata"]["generation"] >= generation)

    async def pause(self) -> None:
        await self.patch(operatingMode="Paused")

    async def resume(self) -> None:
        await self.patch(operatingMode="Running")

    async def delete(self) -> None:
        body = {"preconditions": {"uid": self.uid}}
        await self.world.plane.call("DELETE", self.world.path(self.name), body, ok=(404, 409))

    async def secret(self) -> Json | None:
        """The generated Secret."""
        name = names.secret_name(self.name)
        path = f"/api/v1/namespaces/{self.world.namespace}/secrets/{name}"
        found = await self.world.plane.call("GET", path, ok=(404,))
        return None if found.get("code") == 404 else found

    async def key(self) -> str:
        """The generated session key."""
        secret = await self.secret()
        assert secret is not None
        return base64.b64decode(secret["data"][names.SECRET_KEY]).decode()


def condition(obj: Json, type_: str) -> Json:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((dict(c) for c in conditions if c["type"] == type_), {})


def conditions(obj: Json) -> dict[str, bool]:
    """Every condition's type, and whether it is True."""
    return {c["type"]: c["status"] == "True" for c in obj["status"]["conditions"]}


def url(obj: Json, port: str = "WEB") -> str:
    return str(next(u["url"] for u in obj["status"]["exposedUrls"] if u["name"] == port))


async def fetch(
    address: str, headers: dict[str, str] | None = None, seconds: float = 10
) -> tuple[int, str]:
    """Status and text. Raises TimeoutError where nothing answers in time."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(address, headers=headers) as response,
    ):
        return response.status, await response.text()


class Docker:
    """A Docker engine as its administrator uses it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._client = engine.client(host)

    async def __call__(self, ask: Callable[[docker.APIClient], Any]) -> Any:
        return await asyncio.to_thread(ask, self._client)

    def close(self) -> None:
        self._client.close()

    async def inspect(self, box: Box) -> Json:
        """The container of a Sandbox, in Docker's words; empty where it has none."""

        def inspect(client: docker.APIClient) -> Json:
            try:
                return dict(client.inspect_container(box.container_name))
            except NotFound:
                return {}

        return dict(await self(inspect))

    async def state(self, box: Box) -> str:
        """created, running, paused, exited; or absent."""
        details = await self.inspect(box)
        return str(details["State"]["Status"]) if details else "absent"

    async def left(self, box: Box) -> list[str]:
        """Names of all containers and volumes that carry the Sandbox's UID."""
        return await self.labelled(f"{names.UID_LABEL}={box.uid}")

    async def labelled(self, label: str) -> list[str]:
        def find(client: docker.APIClient) -> list[str]:
            only = {"label": label}
            containers = client.containers(all=True, filters=only)
            volumes = client.volumes(filters=only)["Volumes"] or []
            return [c["Names"][0] for c in containers] + [v["Name"] for v in volumes]

        return list(await self(find))

    async def run(self, box: Box, *command: str) -> tuple[int, str]:
        """A command in a Sandbox's container: its exit code and output."""

        def run(client: docker.APIClient) -> tuple[int, str]:
            made = client.exec_create(box.container_name, list(command))
            output = client.exec_start(made["Id"])
            return client.exec_inspect(made["Id"])["ExitCode"], output.decode().strip()

        code, output = await self(run)
        return int(code), str(output)

    def now(self) -> float:
        """From here on, for `happened`."""
        return time.time()

    async def happened(self, box: Box, action: str, since: float) -> Json:
        """The first event of this action on the Sandbox's container after `since`."""

        def listen(client: docker.APIClient) -> Json | None:
            only = {"label": f"{names.UID_LABEL}={box.uid}", "event": action}
            deadline = int(time.time() + SECONDS)
            # Docker takes fractions of a second, which its client's types do not know.
            since_: Any = f"{since:.9f}"
            stream = client.events(since=since_, until=deadline, filters=only, decode=True)
            try:
                return next(stream, None)
            finally:
                stream.close()

        event = await self(listen)
        assert event is not None, f"Docker tells of no {action} of {box.name}"
        return dict(event)
