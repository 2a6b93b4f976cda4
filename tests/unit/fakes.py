"""The operator on an API server and an engine that are both in memory.

FakeApi    the calls of `kube.api.KubeApi`, with the API server's semantics where they matter
Clock      the time, which only tests move
Operator   every part that `app.serve` wires, without kopf; killed and started again at will
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from controller.core import names
from controller.core.names import Owner
from controller.core.rules import Rules
from controller.core.state import EngineView
from controller.engines.memory import MemoryEngine, MemoryHost
from controller.enginewatch import EngineWatch
from controller.entries import Engines, Entries, Entry
from controller.handlers import Watch
from controller.kube.api import ApiUnreachable, Conflict, Forbidden, KubeApi, NotFound, TooLarge
from controller.kube.events import EventPoster
from controller.operations import Operations
from controller.prober import Prober
from controller.reconciler import Reconciler
from controller.workqueue import WorkQueue

IMAGE = "box"
NAMESPACE = "team"
OWNER = Owner("cluster", "default")
Obj = dict[str, Any]


class Clock:
    """The time. It stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        # Two moments are never the same, as with a real clock.
        self.time += timedelta(microseconds=1)
        return self.time


class FakeApi:
    """One API server. Every effect is told to `watchers` a turn of the event loop later."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.sandboxes: dict[tuple[str, str], Obj] = {}
        self.secrets: dict[tuple[str, str], Obj] = {}
        self.config_maps: dict[tuple[str, str], Obj] = {}
        self.terminating: set[str] = set()
        self.events: list[Obj] = []
        self.writes: list[str] = []
        """What the operator wrote, in order, as "status", "metadata", "create secret", ..."""
        self.reads: list[str] = []
        self.watchers: list[Callable[[str, Obj], None]] = []
        self.down = False
        self.written_at = float("-inf")
        self.limit: int | None = None
        """Bytes of JSON that an object may have, as etcd has a limit; None: no limit."""
        self.changed = asyncio.Event()
        self._failures: dict[str, list[Exception]] = {}
        self._lost: list[str] = []
        self._now = now
        self._version = 0

    # What users do

    def create(
        self, name: str = "a", *, namespace: str = NAMESPACE, uid: str | None = None, **spec: Any
    ) -> Obj:
        self._version += 1
        obj = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid or f"uid-{name}-{self._version}",
                "generation": 1,
                "creationTimestamp": _second(self._now()),
                "resourceVersion": str(self._version),
            },
            "spec": {"image": IMAGE} | spec,
        }
        self.sandboxes[namespace, name] = obj
        self._tell("ADDED", obj)
        return copy.deepcopy(obj)

    def change(self, name: str = "a", **spec: Any) -> None:
        """Merge into the spec, as a user's patch does."""
        obj = self.sandboxes[NAMESPACE, name]
        generation = obj["metadata"]["generation"] + 1
        self._store(obj, {"spec": spec, "metadata": {"generation": generation}})

    def annotate(self, name: str = "a", **metadata: Any) -> None:
        self._store(self.sandboxes[NAMESPACE, name], {"metadata": metadata})

    def delete(self, name: str = "a") -> None:
        obj = self.sandboxes[NAMESPACE, name]
        if not obj["metadata"].get("finalizers"):
            self._remove(obj)
            return
        meta = {
            "deletionTimestamp": _second(self._now()),
            "generation": obj["metadata"]["generation"] + 1,
        }
        self._store(obj, {"metadata": meta})

    def lose(self, name: str = "a") -> None:
        """The object goes and no watch is told: kopf tells no DELETED after a relist."""
        del self.sandboxes[NAMESPACE, name]

    def get(self, name: str = "a") -> Obj:
        return copy.deepcopy(self.sandboxes[NAMESPACE, name])

    def fail_next(self, method: str, error: Exception) -> None:
        """The next call of `method` raises `error` and has no effect."""
        self._failures.setdefault(method, []).append(error)

    def lose_answer_next(self, method: str) -> None:
        """The next call of `method` takes effect, and its caller gets ApiUnreachable."""
        self._lost.append(method)

    # KubeApi

    async def list_sandboxes(self, namespace: str | None = None) -> list[Obj]:
        await self._turn("list_sandboxes")
        return [
            copy.deepcopy(o) for (ns, _), o in self.sandboxes.items() if namespace in (None, ns)
        ]

    async def get_sandbox(self, namespace: str, name: str) -> Obj:
        await self._turn("get_sandbox")
        return copy.deepcopy(_found(self.sandboxes, namespace, name))

    async def get_whole_sandbox(self, namespace: str, name: str) -> Obj:
        await self._turn("get_whole_sandbox")
        return copy.deepcopy(_found(self.sandboxes, namespace, name))

    async def patch_metadata(
        self, namespace: str, name: str, uid: str, resource_version: str, changes: Mapping[str, Any]
    ) -> Obj:
        await self._turn("patch_metadata")
        obj = _found(self.sandboxes, namespace, name)
        meta = obj["metadata"]
        if (meta["uid"], meta["resourceVersion"]) != (uid, resource_version):
            raise Conflict("the object has been modified", 409, "Conflict")
        self.writes.append("metadata")
        self._store(obj, {"metadata": changes})
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            self._remove(obj)
        self._answer("patch_metadata")
        return copy.deepcopy(obj)

    async def patch_status(
        self, namespace: str, name: str, uid: str, changes: Mapping[str, Any]
    ) -> Obj:
        await self._turn("patch_status")
        obj = _found(self.sandboxes, namespace, name)
        if obj["metadata"]["uid"] != uid:
            raise Conflict("uid mismatch", 409, "Conflict")
        self.writes.append("status")
        self._store(obj, {"status": changes})
        self._answer("patch_status")
        return copy.deepcopy(obj)

    async def get_secret(self, namespace: str, name: str) -> Obj:
        await self._turn("get_secret")
        return copy.deepcopy(_found(self.secrets, namespace, name))

    async def create_secret(self, namespace: str, secret: Mapping[str, Any]) -> Obj:
        await self._turn("create_secret")
        name = secret["metadata"]["name"]
        if namespace in self.terminating:
            raise Forbidden("unable to create: it is being terminated", 403, "Forbidden")
        if (namespace, name) in self.secrets:
            raise Conflict("already exists", 409, "AlreadyExists")
        self.writes.append("create secret")
        made = self.put_secret(name, secret["data"], secret["metadata"]["labels"], namespace)
        self._answer("create_secret")
        return made

    def put_secret(
        self,
        name: str,
        data: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        namespace: str = NAMESPACE,
    ) -> Obj:
        self._version += 1
        metadata = {"name": name, "uid": f"secret-{self._version}", "labels": dict(labels or {})}
        self.secrets[namespace, name] = {"metadata": metadata, "data": dict(data)}
        self.changed.set()
        return copy.deepcopy(self.secrets[namespace, name])

    async def delete_secret(self, namespace: str, name: str, uid: str) -> None:
        await self._turn("delete_secret")
        if _found(self.secrets, namespace, name)["metadata"]["uid"] != uid:
            raise Conflict("uid precondition", 409, "Conflict")
        self.writes.append("delete secret")
        del self.secrets[namespace, name]
        self.changed.set()
        self._answer("delete_secret")

    async def get_config_map(self, namespace: str, name: str) -> Obj:
        await self._turn("get_config_map")
        return copy.deepcopy(_found(self.config_maps, namespace, name))

    async def get_namespace(self, name: str) -> Obj:
        await self._turn("get_namespace")
        meta = {"name": name, "uid": f"ns-{name}"}
        if name in self.terminating:
            meta["deletionTimestamp"] = _second(self._now())
        return {"metadata": meta}

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        await self._turn("create_event")
        self.written_at = asyncio.get_running_loop().time()
        self.events.append(copy.deepcopy(dict(event)))

    # The store

    async def _turn(self, method: str) -> None:
        self.reads.append(method)
        await asyncio.sleep(0)
        if self.down:
            raise ApiUnreachable(f"{method}: no answer")
        if self._failures.get(method):
            raise self._failures[method].pop(0)

    def _answer(self, method: str) -> None:
        if method in self._lost:
            self._lost.remove(method)
            raise ApiUnreachable(f"{method}: the answer was lost")

    def _store(self, obj: Obj, changes: Mapping[str, Any]) -> None:
        before = copy.deepcopy(obj)
        _merge(obj, changes)
        if self.limit is not None and len(json.dumps(obj)) > max(
            self.limit, len(json.dumps(before))
        ):
            obj.clear()
            obj.update(before)
            raise TooLarge("etcdserver: request is too large", 500)
        self.written_at = asyncio.get_running_loop().time()
        if "status" in obj:
            obj["status"].setdefault("phase", "STARTING")  # the CRD's default
        if obj != before:
            self._version += 1
            obj["metadata"]["resourceVersion"] = str(self._version)
            self._tell("MODIFIED", obj)

    def _remove(self, obj: Obj) -> None:
        meta = obj["metadata"]
        self.sandboxes.pop((meta["namespace"], meta["name"]), None)
        self._tell("DELETED", obj)

    def _tell(self, type_: str, obj: Obj) -> None:
        self.changed.set()
        for watcher in self.watchers:
            asyncio.get_running_loop().call_soon(watcher, type_, copy.deepcopy(obj))


def _second(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _found(store: Mapping[tuple[str, str], Obj], namespace: str, name: str) -> Obj:
    if (namespace, name) not in store:
        raise NotFound(f"{name} not found", 404, "NotFound")
    return store[namespace, name]


def _merge(target: Obj, changes: Mapping[str, Any]) -> None:
    """JSON merge patch (RFC 7386)."""
    for name, value in changes.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping):
            if not isinstance(target.get(name), dict):
                target[name] = {}
            _merge(target[name], value)
        else:
            target[name] = copy.deepcopy(value)


class Operator:
    """All parts over `api` and `host`. `start` after `kill` is a restart after kill -9."""

    def __init__(self, *, rules: Rules | None = None, namespaces: tuple[str, ...] = ()) -> None:
        self.clock = Clock()
        self.api = FakeApi(self.clock)
        self.host = MemoryHost(images={IMAGE}, now=self.clock)
        self.accepted: frozenset[str] = frozenset()
        self._rules = rules or Rules()
        self._namespaces = namespaces
        self._tasks: list[asyncio.Task[None]] = []
        self.watching = True

    async def start(self, *, engine_first: bool = False) -> None:
        """Start as new. Which of the two is listed first is chance in a real one."""
        api = cast(KubeApi, self.api)
        engine = MemoryEngine(OWNER, self.host)
        self.entries = Entries()
        self.queue = WorkQueue(self.entries.namespace, at_once=4)
        self.engines = Engines(EngineView(accepted_ids=self.accepted))
        events = EventPoster(api, "default", self.queue.calm)
        self.prober = Prober(self.queue, 8)
        self.operations = Operations(
            engine,
            api,
            self.queue,
            self._rules,
            self.engines,
            publish_address="127.0.0.1",
            at_once=4,
            now=self.clock,
        )
        self.reconciler = Reconciler(
            api=api,
            entries=self.entries,
            queue=self.queue,
            operations=self.operations,
            prober=self.prober,
            events=events,
            engine=self.engines,
            rules=self._rules,
            probe_host="127.0.0.1",
            now=self.clock,
        )
        self.enginewatch = EngineWatch(
            engine=engine,
            api=api,
            entries=self.entries,
            queue=self.queue,
            reconciler=self.reconciler,
            engines=self.engines,
            namespaces=self._namespaces,
            resync_seconds=60,
            now=self.clock,
        )
        self._watch = Watch(
            entries=self.entries,
            queue=self.queue,
            reconciler=self.reconciler,
            api=api,
            credentials=cast(Any, None),
            namespaces=self._namespaces,
        )
        self.api.watchers = [self._take]
        if not engine_first:
            await self._list_objects()
        works = [self.reconciler.work() for _ in range(5)]
        self._tasks = [
            asyncio.create_task(work)
            for work in (
                *works,
                events.run(),
                self.enginewatch.follow(),
                self.reconciler.delete_bereaved_secrets(),
            )
        ]
        await self.settle()
        if engine_first:
            await self._list_objects()
            await self.settle()

    async def _list_objects(self) -> None:
        for obj in await self.api.list_sandboxes():
            self._watch.take(None, obj)

    def _take(self, type_: str, obj: Obj) -> None:
        if self.watching:
            self._watch.take(type_, obj)

    async def kill(self) -> None:
        """End at once, as kill -9 does: nothing is finished, nothing is written."""
        self.api.watchers = []
        flights = [e.in_flight.task for e in self.entries if e.in_flight and e.in_flight.task]
        tasks = [*self._tasks, *flights]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.prober.close()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    # Waiting

    async def settle(self) -> None:
        """Let everything go on until nothing has anything to do without time or an event.

        Nothing here waits for more than a few turns of the event loop: fifty idle ones are rest.
        """
        idle = 0
        async with asyncio.timeout(10):
            while idle < 50:
                await asyncio.sleep(0)
                idle = 0 if len(self.queue) else idle + 1

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for something that takes real time: a reconnection, a backoff."""
        async with asyncio.timeout(10):
            while not met():
                self.api.changed.clear()
                await self.api.changed.wait()
        await self.settle()

    async def advance(self, seconds: float) -> None:
        """Let so much time go by."""
        self.clock.time += timedelta(seconds=seconds)
        for entry in self.entries:
            self.queue.add(entry.uid)
        await self.settle()

    async def resync(self) -> None:
        await self.enginewatch.resync_once()
        await self.settle()

    # Looking

    def entry(self, name: str = "a") -> Entry:
        found = self.entries.get(self.api.get(name)["metadata"]["uid"])
        assert found is not None
        return found

    def uid(self, name: str = "a") -> str:
        return str(self.api.get(name)["metadata"]["uid"])

    def told(self, name: str = "a") -> tuple[str, str]:
        """Phase and reason, as `PHASE/Reason` in two parts."""
        status = self.api.get(name).get("status") or {}
        ready = [c for c in status.get("conditions", ()) if c["type"] == "Ready"]
        return status.get("phase", ""), ready[0]["reason"] if ready else ""

    def key(self, name: str = "a") -> str:
        """The entry of the generated Secret, as stored (base64)."""
        return str(self.api.secrets[NAMESPACE, names.secret_name(name)]["data"][names.SECRET_KEY])

    def exists(self, name: str = "a") -> bool:
        return (NAMESPACE, name) in self.api.sandboxes

    @property
    def containers(self) -> int:
        return len(self.host.containers)
