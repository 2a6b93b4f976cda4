"""An engine in memory, as honest as the contract tests make it, with faults on order.

`MemoryHost` is the machine: its containers, volumes, images and outages. It outlives any number
of `MemoryEngine`s, which are what one owner sees of it. No time passes unless a test holds a verb.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from controller.core import names
from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.core.state import Container, Holdings, Limits, Run
from controller.engines.base import (
    ContainerSpec,
    EngineError,
    EngineEvent,
    EngineInfo,
    EngineRefused,
    EngineUnreachable,
)

MINIMUM_MEMORY = 6 << 20
"""Docker's own."""

_ALIVE = (Run.RUNNING, Run.FROZEN)


@dataclass(frozen=True)
class Exit:
    """How a container ends."""

    code: int
    oom_killed: bool = False


@dataclass
class _Held:
    """A container, or a volume (container None), and whose it is."""

    owner: str
    uid: str
    spec: ContainerSpec
    container: Container | None = None
    volume: str = ""
    retain: bool = False


@dataclass
class MemoryHost:
    """One machine with an engine.

    A verb's name (`create`, `remove_volume`, `events`, ...) selects what a fault applies to.
    """

    engine_id: str = "memory-1"
    images: set[str] = field(default_factory=set)
    registry: set[str] = field(default_factory=set)
    """What can be pulled."""
    runtimes: set[str] = field(default_factory=lambda: {"runc"})
    taken_ports: set[int] = field(default_factory=set)
    """Host ports that something else listens on."""
    program: Callable[[ContainerSpec], Exit | None] = lambda spec: None
    """What a started container does by itself: exit at once, or run on (None)."""
    heeds_sigterm: Callable[[ContainerSpec], bool] = lambda spec: True
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    advisories: tuple[str, ...] = ()
    """What an administrator should know of it."""
    unreachable: bool = False
    lose_events: bool = False
    """Events happen, and nobody is told."""
    calls: list[str] = field(default_factory=list)
    """Every verb that was asked for, in order."""

    def __post_init__(self) -> None:
        self.containers: dict[str, _Held] = {}
        self.volumes: dict[str, _Held] = {}
        self._of: defaultdict[str, list[_Held]] = defaultdict(list)
        self._busy_ports: set[int] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self._failures: dict[str, list[EngineError]] = {}
        self._lost_answers: dict[str, int] = {}
        self._listeners: dict[asyncio.Queue[EngineEvent | None], str] = {}
        self._ids = count(1)
        self._ports = count(32768)

    # ------------------------------------------------------------ faults

    def gate(self, verb: str) -> asyncio.Event:
        """Hold every call of `verb` until the event is set; it has no effect before."""
        return self.gates.setdefault(verb, asyncio.Event())

    def fail_next(self, verb: str, error: EngineError) -> None:
        """The next call of `verb` raises `error` and has no effect."""
        self._failures.setdefault(verb, []).append(error)

    def lose_answer_next(self, verb: str) -> None:
        """The next call of `verb` takes effect, and its caller gets EngineUnreachable."""
        self._lost_answers[verb] = self._lost_answers.get(verb, 0) + 1

    def break_streams(self) -> None:
        """End every event stream, as a restart of the engine does."""
        for queue in self._listeners:
            queue.put_nowait(None)

    def outage(self) -> None:
        self.unreachable = True
        self.break_streams()

    def reboot(self) -> None:
        """Everything that ran, frozen or not, has exited; nobody was told."""
        self.break_streams()
        self._listeners.clear()
        for held in self.containers.values():
            if held.container and held.container.run in _ALIVE:
                self._end(held, Exit(255))

    @contextlib.asynccontextmanager
    async def serve(self, verb: str) -> AsyncGenerator[None, None]:
        """Around a verb's effect: whatever was ordered for it."""
        self.calls.append(verb)
        await asyncio.sleep(0)
        if verb in self.gates:
            await self.gates[verb].wait()
        if self.unreachable:
            raise EngineUnreachable("The engine does not answer.")
        if self._failures.get(verb):
            raise self._failures[verb].pop(0)
        yield
        if self._lost_answers.get(verb):
            self._lost_answers[verb] -= 1
            raise EngineUnreachable("The engine's answer was lost.")

    # ------------------------------------------------------------ what others do to a container

    def of(self, uid: str) -> _Held:
        return next(held for held in self.all_of(uid) if held.container)

    def all_of(self, uid: str) -> list[_Held]:
        """Everything that there is of a UID, whoever made it."""
        return [held for held in self._of.get(uid, ()) if self._is_there(held)]

    def _is_there(self, held: _Held) -> bool:
        if held.container is None:
            return held.volume in self.volumes
        return held.container.id in self.containers

    def external_stop(self, uid: str, exit_code: int = 0) -> None:
        """It exits: by itself, or by someone's `docker stop`."""
        self.exit(self.of(uid), Exit(exit_code))

    def external_kill(self, uid: str) -> None:
        self.exit(self.of(uid), Exit(137))

    def oom_kill(self, uid: str) -> None:
        self.exit(self.of(uid), Exit(137, oom_killed=True))

    def external_remove(self, uid: str) -> None:
        self.remove(self.of(uid))

    def external_pause(self, uid: str) -> None:
        self.turn(self.of(uid), "pause", run=Run.FROZEN)

    def external_unpause(self, uid: str) -> None:
        self.turn(self.of(uid), "unpause", run=Run.RUNNING)

    def external_start(self, uid: str) -> None:
        self.start(self.of(uid))

    # ------------------------------------------------------------ effects

    def emit(self, held: _Held, action: str) -> None:
        assert held.container  # noqa: S101
        if not self.lose_events:
            for queue, owner in self._listeners.items():
                if owner == held.owner:
                    queue.put_nowait(EngineEvent(held.uid, held.container.id, action))

    def turn(self, held: _Held, action: str, **changes: object) -> None:
        assert held.container  # noqa: S101
        held.container = replace(held.container, **changes)  # type: ignore[arg-type]
        self.emit(held, action)

    def add(self, owner: Owner, spec: ContainerSpec) -> str:
        container_id = f"{next(self._ids):064x}"
        for volume in spec.volumes:
            name = names.volume_name(spec.uid, volume.name)
            kept = self.volumes.get(name)
            if kept is None:
                kept = _Held(owner.label, spec.uid, spec, volume=name, retain=volume.retain)
                self.volumes[name] = kept
                self._of[spec.uid].append(kept)
            if (kept.owner, kept.uid) != (owner.label, spec.uid):
                raise _refused(Reason.NAME_CONFLICT, f"Volume {name} is not this Sandbox's.")
        held = self.containers[container_id] = _Held(owner.label, spec.uid, spec)
        self._of[spec.uid].append(held)
        held.container = Container(
            id=container_id,
            name=names.container_name(owner, spec.uid),
            run=Run.CREATED,
            image_id=f"sha256:{hashlib.sha256(spec.image.encode()).hexdigest()}",
            created_at=self.now(),
            spec_hash=spec.spec_hash,
            stop_grace_seconds=spec.stop_grace_seconds,
            limits=spec.limits,
        )
        self.emit(held, "create")
        return container_id

    def start(self, held: _Held) -> None:
        ports: dict[int, int] = {}
        for port in held.spec.ports:
            host_port = port.host_port or next(p for p in self._ports if not self._in_use(p))
            if self._in_use(host_port):
                hint = "free it, or leave hostPort out of spec.ports."
                raise _refused(Reason.PORT_IN_USE, f"Host port {host_port} is in use: {hint}")
            ports[port.container_port] = host_port
        self._busy_ports.update(ports.values())
        self.turn(
            held,
            "start",
            run=Run.RUNNING,
            started_at=self.now(),
            ports=ports,
            exit_code=None,
            oom_killed=False,
        )
        if (end := self.program(held.spec)) is not None:
            self.exit(held, end)

    def _in_use(self, port: int) -> bool:
        return port in self.taken_ports or port in self._busy_ports

    def exit(self, held: _Held, end: Exit) -> None:
        if end.oom_killed:
            self.emit(held, "oom")
        self._end(held, end)
        self.emit(held, "die")

    def _end(self, held: _Held, end: Exit) -> None:
        assert held.container  # noqa: S101
        self._busy_ports.difference_update(held.container.ports.values())
        held.container = replace(
            held.container,
            run=Run.EXITED,
            finished_at=self.now(),
            exit_code=end.code,
            oom_killed=end.oom_killed,
            ports={},
        )

    def remove(self, held: _Held) -> None:
        assert held.container  # noqa: S101
        if held.container.run in _ALIVE:
            self.exit(held, Exit(137))
        del self.containers[held.container.id]
        self._forget(held)
        self.emit(held, "destroy")

    def remove_volume(self, held: _Held) -> None:
        del self.volumes[held.volume]
        self._forget(held)

    def _forget(self, held: _Held) -> None:
        self._of[held.uid].remove(held)
        if not self._of[held.uid]:
            del self._of[held.uid]

    @contextlib.contextmanager
    def listener(self, owner: str) -> Iterator[asyncio.Queue[EngineEvent | None]]:
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._listeners[queue] = owner
        try:
            yield queue
        finally:
            self._listeners.pop(queue, None)


class MemoryEngine:
    """What one owner sees of a `MemoryHost`."""

    def __init__(self, owner: Owner, host: MemoryHost) -> None:
        self.owner = owner
        self.host = host

    async def identify(self) -> EngineInfo:
        async with self.host.serve("identify"):
            return EngineInfo(self.host.engine_id, "memory", tuple(sorted(self.host.runtimes)))

    async def list(self, known: Mapping[str, Holdings] | None = None) -> Mapping[str, Holdings]:
        async with self.host.serve("list"):
            everything = [*self.host.containers.values(), *self.host.volumes.values()]
            uids = {held.uid for held in everything if held.owner == self.owner.label}
            return {uid: self._holdings(uid) for uid in uids}

    async def find(self, uid: str) -> Holdings:
        async with self.host.serve("find"):
            return self._holdings(uid)

    async def inspect(self, container_id: str) -> Container | None:
        async with self.host.serve("inspect"):
            held = self.host.containers.get(container_id)
            return held.container if held is not None and held.owner == self.owner.label else None

    async def create(self, spec: ContainerSpec) -> str:
        async with self.host.serve("create"):
            for held in self.host.all_of(spec.uid):  # the name is a function of the UID
                if held.container is not None:
                    if held.owner == self.owner.label:
                        return held.container.id
                    name = held.container.name
                    raise _refused(Reason.NAME_CONFLICT, f"Container {name} is another's.")
            if spec.image not in self.host.images:
                raise _refused(Reason.IMAGE_NOT_FOUND, f"The engine has no image {spec.image}.")
            if spec.runtime is not None and spec.runtime not in self.host.runtimes:
                raise _refused(Reason.RUNTIME_NOT_FOUND, f"No runtime {spec.runtime}.")
            _check_memory(spec.limits)
            return self.host.add(self.owner, spec)

    async def start(self, container_id: str) -> None:
        async with self.host.serve("start"):
            held, run = self._get(container_id)
            if run is Run.FROZEN:
                raise _refused(Reason.START_FAILED, "The container is frozen: thaw it.")
            if run is not Run.RUNNING:
                self.host.start(held)

    async def signal_stop(self, container_id: str) -> None:
        async with self.host.serve("signal_stop"):
            with contextlib.suppress(_Gone):
                held, run = self._get(container_id)
                if run is Run.FROZEN:
                    self.host.turn(held, "unpause", run=Run.RUNNING)
                if run in _ALIVE and self.host.heeds_sigterm(held.spec):
                    self.host.exit(held, Exit(143))

    async def kill(self, container_id: str) -> None:
        async with self.host.serve("kill"):
            with contextlib.suppress(_Gone):
                held, run = self._get(container_id)
                if run in _ALIVE:
                    self.host.exit(held, Exit(137))

    async def freeze(self, container_id: str) -> None:
        async with self.host.serve("freeze"):
            held, run = self._get(container_id, alive=True)
            if run is not Run.FROZEN:
                self.host.turn(held, "pause", run=Run.FROZEN)

    async def thaw(self, container_id: str) -> None:
        async with self.host.serve("thaw"):
            held, run = self._get(container_id, alive=True)
            if run is Run.FROZEN:
                self.host.turn(held, "unpause", run=Run.RUNNING)

    async def update_limits(self, container_id: str, limits: Limits) -> None:
        async with self.host.serve("update_limits"):
            held, _ = self._get(container_id)
            _check_memory(limits)
            self.host.turn(held, "update", limits=limits)

    async def remove(self, container_id: str) -> None:
        async with self.host.serve("remove"):
            with contextlib.suppress(_Gone):
                self.host.remove(self._get(container_id)[0])

    async def remove_volume(self, volume: str) -> None:
        async with self.host.serve("remove_volume"):
            held = self.host.volumes.get(volume)
            if held is None:
                return
            if held.owner != self.owner.label:
                raise _refused(Reason.NAME_CONFLICT, f"Volume {volume} is another's.")
            if any(other.container for other in self.host.all_of(held.uid)):
                raise _refused(Reason.CLEANUP_FAILED, f"Volume {volume} is in use.")
            self.host.remove_volume(held)

    async def environment(self, container_id: str) -> Mapping[str, str]:
        async with self.host.serve("environment"):
            return dict(self._get(container_id)[0].spec.env)

    async def advisories(self) -> tuple[str, ...]:
        return self.host.advisories

    async def image_present(self, image: str) -> bool:
        async with self.host.serve("image_present"):
            return image in self.host.images

    async def pull(self, image: str) -> None:
        async with self.host.serve("pull"):
            if image not in self.host.registry:
                raise _refused(Reason.IMAGE_NOT_FOUND, f"No registry has image {image}.")
            self.host.images.add(image)

    async def events(self) -> AsyncGenerator[EngineEvent | None, None]:
        with self.host.listener(self.owner.label) as queue:
            async with self.host.serve("events"):
                pass
            yield None
            while (event := await queue.get()) is not None:
                yield event
        raise EngineUnreachable("The engine's event stream ended.")

    async def close(self) -> None:
        """Nothing to end."""

    def _get(self, container_id: str, *, alive: bool = False) -> tuple[_Held, Run]:
        held = self.host.containers.get(container_id)
        if held is None or held.container is None or held.owner != self.owner.label:
            raise _Gone(Reason.CONTAINER_MISSING, "The container is gone.")
        if alive and held.container.run not in _ALIVE:
            raise _refused(Reason.EXITED, "The container is not running.")
        return held, held.container.run

    def _holdings(self, uid: str) -> Holdings:
        mine = [held for held in self.host.all_of(uid) if held.owner == self.owner.label]
        boxes = [held for held in mine if held.container]
        volumes = {held.volume: held for held in mine if held.volume}
        if not boxes and not volumes:
            return Holdings()
        spec = (boxes or [*volumes.values()])[0].spec
        return Holdings(
            container=boxes[0].container if boxes else None,
            volumes=tuple(sorted(name for name, held in volumes.items() if not held.retain)),
            retained=tuple(sorted(name for name, held in volumes.items() if held.retain)),
            namespace=spec.namespace,
            name=spec.name,
        )


class _Gone(EngineRefused):
    """The container is not there, or not this owner's."""


def _refused(reason: Reason, message: str) -> EngineRefused:
    return EngineRefused(reason, message)


def _check_memory(limits: Limits) -> None:
    if limits.memory_bytes is not None and limits.memory_bytes < MINIMUM_MEMORY:
        raise _refused(
            Reason.INVALID_SPEC,
            "spec.resources.limits.memory is below the least that is allowed, 6MB: raise it.",
        )
