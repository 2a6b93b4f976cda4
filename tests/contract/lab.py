"""What a contract test needs of an engine and of the machine beside it.

Lab     the engine under test, its neighbours, and specs whose containers go when the test ends
Watch   its events as they come in
The commands below mean the same to Docker's busybox and, by `program`, to the engine in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from controller.core.state import Container, Limits
from controller.engines.base import ContainerSpec, Engine, EngineEvent
from controller.engines.memory import Exit

SECONDS = 60
"""How long a test waits for what is due at once."""

SLEEPS = ("sleep", "1000")
EXITS_WITH_3 = ("sh", "-c", "exit 3")
IGNORES_SIGTERM = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
EATS_MEMORY = ("dd", "if=/dev/zero", "of=/dev/null", "bs=512M")
DOES_NOT_EXIST = ("/no/such/program",)

SMALL = Limits(cpu_millis=500, memory_bytes=16 << 20, pids=64)


@dataclass
class Lab:
    engine: Engine
    """Under test."""
    reborn: Engine
    """The same owner's, as after a restart of the operator."""
    stranger: Engine
    """Another owner's on the same machine."""
    image: str
    taken_ports: set[int] | None
    """Where the machine is imagined: its host ports in use."""
    uids: list[str] = field(default_factory=list)

    def spec(self, **changes: Any) -> ContainerSpec:
        """A container that sleeps; it is removed when the test ends."""
        uid = changes.pop("uid", None) or str(uuid.uuid4())
        self.uids.append(uid)
        asked: dict[str, Any] = {
            "namespace": "team-a",
            "name": "box",
            "image": self.image,
            "spec_hash": "v1-abc",
            "stop_grace_seconds": 3,
            "env": {"GREETING": "hello=world"},
            "command": SLEEPS,
        }
        return ContainerSpec(uid=uid, **(asked | changes))

    async def started(self, **changes: Any) -> tuple[ContainerSpec, str]:
        spec = self.spec(**changes)
        container_id = await self.engine.create(spec)
        await self.engine.start(container_id)
        return spec, container_id

    async def container(self, uid: str) -> Container:
        found = (await self.engine.find(uid)).container
        assert found is not None
        return found

    @contextlib.contextmanager
    def port_in_use(self) -> Iterator[int]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
            if self.taken_ports is not None:
                self.taken_ports.add(port)
            yield port
        if self.taken_ports is not None:
            self.taken_ports.remove(port)

    @contextlib.asynccontextmanager
    async def watching(self, engine: Engine | None = None) -> AsyncIterator[Watch]:
        """The events from here on; they are connected once the body begins."""
        watch = Watch()
        task = asyncio.create_task(watch.follow(engine or self.engine))
        try:
            await watch.until(lambda: watch.connected)
            yield watch
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def clean(self) -> None:
        for engine in (self.engine, self.stranger):
            for uid in self.uids:
                held = await engine.find(uid)
                if held.container is not None:
                    await engine.remove(held.container.id)
                for volume in held.volumes + held.retained:
                    await engine.remove_volume(volume)
        self.uids.clear()


class Watch:
    """Events as they come in."""

    def __init__(self) -> None:
        self.connected = False
        self.events: list[EngineEvent] = []
        self._changed = asyncio.Condition()

    async def follow(self, engine: Engine) -> None:
        async for event in engine.events():
            async with self._changed:
                if event is None:
                    self.connected = True
                else:
                    self.events.append(event)
                self._changed.notify_all()

    def actions(self, uid: str) -> list[str]:
        return [event.action for event in self.events if event.uid == uid]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(condition)

    async def until_action(self, uid: str, action: str) -> None:
        await self.until(lambda: action in self.actions(uid))


def program(spec: ContainerSpec) -> Exit | None:
    """What the commands above do where they are imagined."""
    command = tuple(spec.command or ())
    if command == EATS_MEMORY and spec.limits.memory_bytes is not None:
        return Exit(137, oom_killed=True)
    return {EXITS_WITH_3: Exit(3), DOES_NOT_EXIST: Exit(127)}.get(command)
