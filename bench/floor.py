"""`python -m bench.floor`: the same writes and the same calls, by a loop that decides nothing.

A process of its own, so that its processor time can be told. It reads one JSON object, `Task`, from
standard input and prints one, `Outcome`. For each life it makes the requests that the operator
makes for one Sandbox from its creation until it is gone, in the same order and with bodies of the
same size, by aiohttp, and the same calls of docker-py, as it comes, by as many threads. It watches
nothing, looks at no answer and recovers from nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import aiohttp
import docker
import uvloop

from controller.core import names

Json = dict[str, Any]

NAMESPACE = "floor"
_NAMESPACES = "/api/v1/namespaces"
_CORE = f"{_NAMESPACES}/{NAMESPACE}"
_SANDBOXES = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}"
_MERGE = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True)
class Task:
    """What to do. Paths are of PEM files."""

    url: str
    authority: str
    certificate: str
    key: str
    spec: Json
    status: Json
    """Of a Sandbox that the operator brought to RUNNING."""
    prefix: str
    lives: int
    in_flight: int
    docker_host: str = ""
    """Empty: no engine is called."""
    container: Json | None = None
    """Body of the container's creation; its labels get each life's UID."""
    threads: int = 8
    delete: bool = True
    """Delete them again; else they stay as they were created."""


@dataclass(frozen=True)
class Outcome:
    """What it took, in seconds."""

    creations: list[float]
    """Of each: from the POST of the Sandbox until its status RUNNING was stored."""
    all_created: float
    """From the first POST until the last was RUNNING."""
    processor: float
    """Processor time of this process for the operator's part of all lives, which is all but the
    POST and the DELETE of the Sandbox."""
    writes: int
    """To the API server, without the user's."""


class Floor:
    """One run over one session of aiohttp."""

    def __init__(self, task: Task, session: aiohttp.ClientSession) -> None:
        self._task = task
        self._session = session
        self._writes = 0
        self._events: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(task.threads)
        self._docker: Any = None
        if task.docker_host:
            self._docker = docker.APIClient(
                task.docker_host, version="auto", timeout=600, max_pool_size=task.threads
            )
            self._docker.trust_env = False

    async def run(self) -> Outcome:
        """All lives, so many in flight at once."""
        # Connections are made before anything is measured, as the operator's were long ago.
        await asyncio.gather(
            *(self._call("GET", "/version", {}) for _ in range(self._task.in_flight))
        )
        boxes = [f"{self._task.prefix}-{i}" for i in range(self._task.lives)]
        if self._task.delete:
            # The user's part first, so that none of its processor time is counted.
            made = dict(zip(boxes, await self._in_flight(boxes, self._post), strict=True))
            began = time.process_time()
            containers = await self._in_flight(boxes, lambda box: self._create(made[box]))
            await self._all_posted()
            processor = time.process_time() - began
            await self._in_flight(boxes, self._mark)
            began = time.process_time()
            ended = dict(zip(boxes, containers, strict=True))
            await self._in_flight(boxes, lambda box: self._end(made[box], ended[box]))
            await self._all_posted()
            processor += time.process_time() - began
            return Outcome([], 0.0, processor, self._writes)
        began = time.monotonic()
        creations = await self._in_flight(boxes, self._created)
        took = time.monotonic() - began
        await self._all_posted()
        return Outcome(creations, took, 0.0, self._writes)

    async def _in_flight(self, boxes: list[str], work: Any) -> list[Any]:
        waiting = iter(enumerate(boxes))
        results: list[Any] = [None] * len(boxes)

        async def take() -> None:
            for index, box in waiting:
                results[index] = await work(box)

        await asyncio.gather(*(take() for _ in range(self._task.in_flight)))
        return results

    async def _all_posted(self) -> None:
        if self._events:
            await asyncio.wait(set(self._events))

    async def _created(self, box: str) -> float:
        began = time.monotonic()
        await self._create(await self._post(box))
        return time.monotonic() - began

    # The user's part

    async def _post(self, box: str) -> Json:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": box},
            "spec": self._task.spec,
        }
        return await self._call("POST", _SANDBOXES, body)

    async def _mark(self, box: str) -> None:
        await self._call("DELETE", f"{_SANDBOXES}/{box}", {})

    # The operator's part

    async def _create(self, sandbox: Json) -> str:
        """Claim, Secret, container, status; returns the container's ID."""
        meta = sandbox["metadata"]
        path = f"{_SANDBOXES}/{meta['name']}"
        key = secrets.token_urlsafe(32)
        labels = {names.NAME_LABEL: meta["name"], names.KEY_HASH_LABEL: names.key_hash(key)}
        claim = {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "finalizers": [names.FINALIZER],
            "labels": labels,
        }
        await self._write("PATCH", path, {"metadata": claim})
        await self._write("POST", f"{_CORE}/secrets", _secret(meta, key))
        container = ""
        if self._docker is not None:
            container = await self._in_thread(self._run_container, meta["uid"])
        status = {"metadata": {"uid": meta["uid"]}, "status": self._task.status}
        await self._write("PATCH", f"{path}/status", status)
        self._post_event(meta, "Ready")
        return container

    async def _end(self, sandbox: Json, container: str) -> None:
        """DELETING, Secret, container, finalizer."""
        meta, status = sandbox["metadata"], self._task.status
        path = f"{_SANDBOXES}/{meta['name']}"
        changes = {
            "phase": "DELETING",
            "conditions": status["conditions"],
            "exposedUrls": None,
            "sessionApiKeySecretRef": None,
        }
        uid = meta["uid"]
        await self._write("PATCH", f"{path}/status", {"metadata": {"uid": uid}, "status": changes})
        self._post_event(meta, "Deleting")
        secret = f"{_CORE}/secrets/{names.secret_name(meta['name'])}"
        await self._write("DELETE", secret, {"preconditions": {}})
        if self._docker is not None:
            await self._in_thread(self._signal, container)
            await self._in_thread(self._remove, container)
            await self._in_thread(self._find, uid)
        await self._write("PATCH", path, {"metadata": {"uid": uid, "finalizers": None}})

    def _post_event(self, meta: Json, reason: str) -> None:
        posting = asyncio.create_task(self._write("POST", f"{_CORE}/events", _event(meta, reason)))
        self._events.add(posting)
        posting.add_done_callback(self._events.discard)

    # docker-py's calls, as engines/docker makes them

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(call, *arguments))

    def _run_container(self, uid: str) -> str:
        template = self._task.container or {}
        labels = {**template["Labels"], names.UID_LABEL: uid}
        body = {**template, "Labels": labels}
        made = self._docker.create_container_from_config(body, f"sbx-{uid}")["Id"]
        self._docker.start(made)
        self._docker.inspect_container(made)
        return str(made)

    def _signal(self, container: str) -> None:
        self._docker.inspect_container(container)
        self._docker.kill(container, "SIGTERM")

    def _remove(self, container: str) -> None:
        self._docker.remove_container(container, v=True, force=True)

    def _find(self, uid: str) -> None:
        labels = (self._task.container or {})["Labels"] | {names.UID_LABEL: uid}
        owned = [f"{name}={labels[name]}" for name in (names.OWNER_LABEL, names.UID_LABEL)]
        self._docker.containers(all=True, filters={"label": owned})
        self._docker.volumes(filters={"name": names.volume_name(uid, "")})

    # The wire

    async def _write(self, method: str, path: str, body: Json) -> None:
        self._writes += 1
        await self._call(method, path, body)

    async def _call(self, method: str, path: str, body: Json) -> Json:
        headers = _MERGE if method == "PATCH" else None
        async with self._session.request(method, path, json=body, headers=headers) as response:
            raw = await response.read()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {raw[:300]!r}")
            return dict(json.loads(raw))


def _secret(meta: Json, key: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": names.secret_name(meta["name"]),
            "labels": {names.UID_LABEL: meta["uid"], names.NAME_LABEL: meta["name"]},
            "ownerReferences": [_reference(meta)],
        },
        "data": {names.SECRET_KEY: base64.b64encode(key.encode()).decode()},
    }


def _event(meta: Json, reason: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{secrets.token_hex(8)}"},
        "involvedObject": _reference(meta) | {"namespace": NAMESPACE},
        "type": "Normal",
        "reason": reason,
        "message": "as the operator posts them, of about this length",
        "source": {"component": names.FIELD_MANAGER},
        "action": "Reconcile",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingComponent": names.FIELD_MANAGER,
        "reportingInstance": "default",
    }


def _reference(meta: Json) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": meta["name"],
        "uid": meta["uid"],
    }


async def main(task: Task) -> Outcome:
    context = ssl.create_default_context(cafile=task.authority)
    context.load_cert_chain(task.certificate, task.key)
    connector = aiohttp.TCPConnector(ssl=context, limit=64)
    async with aiohttp.ClientSession(task.url, connector=connector) as session:
        async with session.post(_NAMESPACES, json={"metadata": {"name": NAMESPACE}}) as response:
            if response.status not in (201, 409):
                raise RuntimeError(f"namespace {NAMESPACE}: {response.status}")
        return await Floor(task, session).run()


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(main(Task(**json.load(sys.stdin)))))))
