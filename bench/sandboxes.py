"""Sandboxes as a client sees them: create, delete, and one watch that notes when it was told.

Small on purpose: what measures runs on the same processors as what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from controller.core import names
from dev import pki
from dev.apiserver import ADMIN_GROUP, ControlPlane
from dev.progress import DevError, console

Json = dict[str, Any]

NAMESPACE = "default"
SECONDS = 180
_CONNECTIONS = 128
"""So many requests are under way at once: a burst of a hundred is one, and some beside it."""
_KEPT_SECONDS = 80
"""Unused connections; the API server closes them after 90 s."""
_LINE = 1 << 20


@dataclass(frozen=True)
class Told:
    """One event of the watch: `at` is monotonic, `clock` is Unix time."""

    at: float
    clock: float
    kind: str
    obj: Json

    @property
    def phase(self) -> str:
        return str((self.obj.get("status") or {}).get("phase", ""))

    @property
    def reason(self) -> str:
        """The reason of the condition Ready."""
        conditions = (self.obj.get("status") or {}).get("conditions") or []
        return next((str(c["reason"]) for c in conditions if c["type"] == "Ready"), "")

    @property
    def uid(self) -> str:
        return str(self.obj["metadata"]["uid"])

    @property
    def container_id(self) -> str:
        return str(self.obj["status"]["container"]["id"])

    @property
    def marked(self) -> bool:
        """Deletion was asked for."""
        return "deletionTimestamp" in self.obj["metadata"]

    @property
    def gone(self) -> bool:
        return self.kind == "DELETED"


Wanted = Callable[[Told], bool]


def in_phase(phase: str) -> Wanted:
    return lambda told: told.phase == phase and not told.gone


def gone(told: Told) -> bool:
    return told.gone


class Sandboxes:
    """The Sandboxes of one namespace, to be used as an async context."""

    def __init__(self, cluster: ControlPlane, namespace: str = NAMESPACE) -> None:
        """The namespace is made if there is none."""
        self._base = cluster.url
        self._namespace = namespace
        self._path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"
        self._tls = _tls(cluster.directory / "pki")
        self._history: dict[str, list[Told]] = defaultdict(list)
        self._waiting: dict[str, list[tuple[Wanted, asyncio.Future[Told]]]] = defaultdict(list)

    async def __aenter__(self) -> Sandboxes:
        self._session = aiohttp.ClientSession(
            self._base,
            connector=aiohttp.TCPConnector(
                ssl=self._tls,
                limit=_CONNECTIONS + 1,  # the watch
                keepalive_timeout=_KEPT_SECONDS,
            ),
            timeout=aiohttp.ClientTimeout(total=60),
            read_bufsize=_LINE,
        )
        try:
            await self.connect()
            await self._ensure_namespace()
            version = (await self._list())["metadata"]["resourceVersion"]
        except BaseException:
            await self._session.close()
            raise
        self._watching = asyncio.create_task(self._watch(version))
        self._watching.add_done_callback(self._broke)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        await self._session.close()

    async def connect(self) -> None:
        """Make all connections that are missing, so that a burst measures none: each takes
        10 ms."""
        await asyncio.gather(*(self._call("GET", "/readyz") for _ in range(_CONNECTIONS)))

    async def create(self, name: str, spec: Json) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": spec,
        }
        await self._call("POST", self._path, body)

    async def delete(self, name: str) -> None:
        await self._call("DELETE", f"{self._path}/{name}")

    async def annotate(self, name: str, annotations: dict[str, str]) -> None:
        """A change that needs nothing done."""
        await self._patch(name, {"metadata": {"annotations": annotations}})

    async def pause(self, name: str) -> None:
        """Wish it paused, by the method of its spec."""
        await self.change(name, {"operatingMode": "Paused"})

    async def resume(self, name: str) -> None:
        await self.change(name, {"operatingMode": "Running"})

    async def change(self, name: str, spec: Json) -> None:
        """Merge this into its spec."""
        await self._patch(name, {"spec": spec})

    async def create_running(self, name: str, spec: Json) -> float:
        """Seconds from the call to the watch event with phase RUNNING."""
        began = time.monotonic()
        await self.create(name, spec)
        return (await self.until(name, in_phase("RUNNING"))).at - began

    async def create_all(self, wanted: Iterable[str], spec: Json) -> float:
        """Create all at once; seconds from the first call to the last RUNNING."""
        began = time.monotonic()
        await asyncio.gather(*(self.create_running(name, spec) for name in wanted))
        return time.monotonic() - began

    async def remove(self, name: str) -> float:
        """Delete it; when it was gone, monotonic."""
        await self.delete(name)
        return (await self.until(name, gone)).at

    async def remove_all(self, unwanted: Iterable[str]) -> None:
        """Delete all at once, and wait until they are gone."""
        await asyncio.gather(*(self.remove(name) for name in unwanted))

    def history(self, name: str) -> list[Told]:
        return self._history[name]

    def present(self) -> dict[str, str]:
        """The phase of each that exists, by name."""
        return {n: told[-1].phase for n, told in self._history.items() if not told[-1].gone}

    def last(self, name: str) -> Told:
        return self._history[name][-1]

    async def until(self, name: str, wanted: Wanted, *, after: float = 0.0) -> Told:
        """The first event of this name after `after` (monotonic) that is `wanted`."""
        for told in self._history[name]:
            if told.at > after and wanted(told):
                return told
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting[name].append((lambda t: t.at > after and wanted(t), future))
        try:
            return await asyncio.wait_for(future, SECONDS)
        except TimeoutError:
            trail = [f"{t.kind} {t.phase} {t.reason}" for t in self._history[name][-5:]]
            raise DevError(f"{name} did not get there in {SECONDS} s, but: {trail}") from None

    async def _watch(self, version: str) -> None:
        """For ever: the API server ends watches whose client was too slow for it."""
        endless = aiohttp.ClientTimeout(total=None)
        while True:
            query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "36000"}
            async with self._session.get(self._path, params=query, timeout=endless) as response:
                async for line in response.content:
                    at, clock = time.monotonic(), time.time()
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise DevError(f"the watch broke: {event['object'].get('message')}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(Told(at, clock, event["type"], event["object"]))
            console.print("the API server ended the watch; it goes on where it ended")

    def _broke(self, watching: asyncio.Task[None]) -> None:
        """Nobody waits for events that will not come."""
        if not watching.cancelled() and (error := watching.exception()):
            for _, future in [w for waiting in self._waiting.values() for w in waiting]:
                if not future.done():
                    future.set_exception(error)

    def _take(self, told: Told) -> None:
        told.obj["metadata"].pop("managedFields", None)
        name = told.obj["metadata"]["name"]
        self._history[name].append(told)
        still = []
        for wanted, future in self._waiting.pop(name, []):
            if future.done():
                continue
            if wanted(told):
                future.set_result(told)
            else:
                still.append((wanted, future))
        if still:
            self._waiting[name] = still

    async def _ensure_namespace(self) -> None:
        if self._namespace != NAMESPACE:
            body = {"metadata": {"name": self._namespace}}
            async with self._session.post("/api/v1/namespaces", json=body) as response:
                if response.status != 409:
                    response.raise_for_status()

    async def _list(self) -> Json:
        """A list; a CRD that is younger than a second may not be served yet."""
        while True:
            async with self._session.get(self._path) as response:
                if response.status != 429:
                    response.raise_for_status()
                    return dict(await response.json())
            await asyncio.sleep(0.1)

    async def _patch(self, name: str, body: Json) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        await self._call("PATCH", f"{self._path}/{name}", body, headers)

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> Json:
        async with self._session.request(method, path, json=body, headers=headers) as response:
            text = await response.text()
            if response.status >= 300:
                raise DevError(f"{method} {path}: {response.status} {text[:500]}")
            return dict(json.loads(text)) if text.startswith("{") else {}


def _tls(keys: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    context.load_cert_chain(*pki.client(keys, "bench", [ADMIN_GROUP]))
    return context
