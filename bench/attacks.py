"""The loads that one tenant makes, each bounded in number and in time.

An attack is a generator of phases: at each `yield` its load is at work. `clear` removes what it
made in the attacker's namespace; what it made elsewhere it removes itself when it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from docker.errors import DockerException

from bench.lab import LIMITS, Lab
from bench.registry import Registry
from bench.sandboxes import Sandboxes, gone, in_phase
from dev import engine
from dev.progress import DevError, console

LONGEST_LOAD = 150.0
"""Seconds after which a load of API calls stops, whatever is still waited for."""

MANY_PORTS, SOME_PORTS = 32, 8
FILE_BYTES = 50_000
FOLDERS = 50
SLOW_LAYERS = 6
"""Twice as many as dockerd downloads at once, for all images together."""
STORMED = 8
"""Sandboxes that the API storms write to."""
CALLS_A_SECOND = {"annotations": 40, "pause and resume": 20, "limits": 20, "create and delete": 10}
EXITS = {"command": ["true"], "restartPolicy": "Always"}


@dataclass(frozen=True)
class Phase:
    """A load at work. `over`: it has run out by itself. `end` stops what nothing else would."""

    what: str
    about: str = ""
    """What else there is to say of the load."""
    over: Callable[[], bool] = lambda: False
    end: Callable[[], None] = lambda: None
    pulls: bool = False
    """Others pull meanwhile, too."""


@dataclass(frozen=True)
class Street:
    """Where the two tenants live."""

    lab: Lab
    attacker: Sandboxes
    tenant: Sandboxes
    registry: Registry
    stock: list[str] = field(default_factory=list)
    """The tenant's Sandboxes that run and are there to be deleted under a load."""


Attack = Callable[[Street], AsyncGenerator[Phase]]


async def clear(sandboxes: Sandboxes) -> None:
    """Remove all that the namespace has."""
    present = list(sandboxes.present())
    for name in present:
        with contextlib.suppress(DevError):  # its deletion is under way, or it is gone
            await sandboxes.delete(name)
    try:
        await asyncio.gather(*(sandboxes.until(name, gone) for name in present))
    except DevError as error:
        console.print(f"not all could be removed: {error}", markup=False)


async def _plain(street: Street) -> AsyncGenerator[Phase]:
    count = street.lab.sizes.attack_plain
    made, running = await _arrive(street, "plain", count, street.lab.spec())
    async with running:
        yield Phase(f"{count} plain Sandboxes created at once", over=running.done)
        await running.wait()
    await street.attacker.connect()
    leaving = asyncio.gather(*(street.attacker.remove(name) for name in made))
    async with _Waiting(leaving) as waiting:
        yield Phase(f"{count} plain Sandboxes deleted at once", over=waiting.done)


async def _ports(street: Street) -> AsyncGenerator[Phase]:
    count = street.lab.sizes.attack_ports
    spec = street.lab.spec(ports=ports(MANY_PORTS))
    _, running = await _arrive(street, "ports", count, spec)
    async with running:
        yield Phase(f"{count} with {MANY_PORTS} ports each", over=running.done)


async def _volumes(street: Street) -> AsyncGenerator[Phase]:
    sizes, lab = street.lab.sizes, street.lab
    async with AsyncExitStack() as undo:
        large = f"sandbox-operator/bench-large:{sizes.attack_files}x{FILE_BYTES}"
        await asyncio.to_thread(_build, lab, large, sizes.attack_files)
        undo.push_async_callback(asyncio.to_thread, _remove_image, lab, large)
        undo.push_async_callback(clear, street.attacker)  # first: its containers use the image
        volumes = [{"name": "work", "mountPath": "/large", "managed": {}}]
        spec = lab.spec(image=large, volumes=volumes)
        _, running = await _arrive(street, "volumes", sizes.attack_volumes, spec)
        megabytes = sizes.attack_files * FILE_BYTES / 1e6
        what = f"{sizes.attack_volumes} with a volume over {megabytes:.0f} MB of the image"
        async with running:
            yield Phase(what, about=f"in {sizes.attack_files} files", over=running.done)


async def _exits(street: Street) -> AsyncGenerator[Phase]:
    count = street.lab.sizes.attack_exits
    _, running = await _arrive(street, "exits", count, street.lab.spec(ports=[], **EXITS))
    async with running:
        yield Phase(f"{count} that exit at once")


async def _exits_with_ports(street: Street) -> AsyncGenerator[Phase]:
    count = street.lab.sizes.attack_exits_with_ports
    spec = street.lab.spec(ports=ports(SOME_PORTS), **EXITS)
    _, running = await _arrive(street, "exits", count, spec)
    async with running:
        yield Phase(f"{count} that exit at once, {SOME_PORTS} ports each")


async def _slow_pull(street: Street) -> AsyncGenerator[Phase]:
    registry = street.registry
    image = registry.slow(SLOW_LAYERS)
    _, running = await _arrive(street, "slow", 1, street.lab.spec(image=image))
    async with running:
        await registry.until_trickling()
        what = f"an image of {SLOW_LAYERS} layers at a byte a second"
        about = f"it comes at once after {street.lab.sizes.attack_seconds:g} s"
        yield Phase(what, about, end=registry.release, pulls=True)


async def _storms(street: Street) -> AsyncGenerator[Phase]:
    lab, attacker = street.lab, street.attacker
    stormed = lab.names("stormed", STORMED)
    await attacker.create_all(stormed, lab.spec())

    async def annotate(n: int, name: str) -> None:
        await attacker.annotate(name, {"bench/number": str(n)})

    async def pause_or_resume(n: int, name: str) -> None:
        await (attacker.resume(name) if n // STORMED % 2 else attacker.pause(name))

    async def limit(n: int, name: str) -> None:
        memory = f"{256 + 64 * (n // STORMED % 2)}Mi"
        await attacker.change(name, {"resources": {"limits": LIMITS | {"memory": memory}}})

    async def create_and_delete(_: int, __: str) -> None:
        (name,) = lab.names("brief", 1)
        await attacker.create(name, lab.spec())
        await attacker.delete(name)

    calls = annotate, pause_or_resume, limit, create_and_delete
    storms = [
        asyncio.create_task(_storm(stormed, rate, call))
        for rate, call in zip(CALLS_A_SECOND.values(), calls, strict=True)
    ]
    try:
        about = ", ".join(f"{rate} {kind}" for kind, rate in CALLS_A_SECOND.items())
        yield Phase("API storms", f"calls a second: {about}")
    finally:
        for storm in storms:
            storm.cancel()
        await asyncio.gather(*storms, return_exceptions=True)


async def _storm(boxes: list[str], rate: int, call: Callable[[int, str], Awaitable[None]]) -> None:
    """So many calls a second and no more, for a bounded time."""
    due = began = time.monotonic()
    for n, name in enumerate(itertools.cycle(boxes)):
        await call(n, name)
        due = max(due + 1 / rate, time.monotonic())
        if due > began + LONGEST_LOAD:
            return
        await asyncio.sleep(due - time.monotonic())


ATTACKS: tuple[Attack, ...] = (
    _plain,
    _ports,
    _volumes,
    _exits,
    _exits_with_ports,
    _slow_pull,
    _storms,
)


class _Waiting:
    """Something that is waited for while others are measured; left alone at the end."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    async def __aenter__(self) -> _Waiting:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._future.cancel()
        with contextlib.suppress(asyncio.CancelledError, DevError):
            await self._future

    def done(self) -> bool:
        return self._future.done()

    async def wait(self) -> None:
        await self._future


async def _arrive(
    street: Street, kind: str, count: int, spec: dict[str, object]
) -> tuple[list[str], _Waiting]:
    """Create so many at once; returns when the API server has taken all of them, with what waits
    until they run."""
    made = street.lab.names(kind, count)
    await street.attacker.connect()
    await asyncio.gather(*(street.attacker.create(name, spec) for name in made))
    until = (street.attacker.until(name, in_phase("RUNNING")) for name in made)
    return made, _Waiting(asyncio.gather(*until))


def ports(count: int) -> list[dict[str, object]]:
    return [{"name": f"P_{i}", "containerPort": 8000 + i} for i in range(count)]


def _build(lab: Lab, tag: str, files: int) -> None:
    """The lab's image with so many files in /large; made anew only if the engine has none."""
    each, rest = divmod(files, FOLDERS)
    if rest:
        raise ValueError(f"{files} files do not fill {FOLDERS} folders evenly")
    script = (
        f"head -c {FILE_BYTES} /dev/zero > /file;"
        f" for d in $(seq {FOLDERS}); do mkdir -p /large/$d;"
        f" for f in $(seq {each}); do cp /file /large/$d/$f; done; done"
    )
    with engine.client(lab.docker_host, timeout=300) as client:
        if client.images(name=tag):
            return
        made = client.create_container(lab.image, ["sh", "-c", script], network_disabled=True)
        try:
            client.start(made)
            if client.wait(made)["StatusCode"]:
                raise DevError(f"{tag} could not be made: {client.logs(made)[-300:]!r}")
            repository, _, version = tag.rpartition(":")
            changes = ['CMD ["httpd", "-f", "-p", "8000", "-h", "/www"]']
            client.commit(made, repository=repository, tag=version, changes=changes)
        finally:
            client.remove_container(made, force=True)


def _remove_image(lab: Lab, tag: str) -> None:
    with engine.client(lab.docker_host) as client:
        try:
            client.remove_image(tag)
        except DockerException as error:
            console.print(f"{tag} could not be removed: {error}", markup=False)
