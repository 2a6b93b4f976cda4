"""The noisy neighbour: what one tenant's load does to another tenant.

The attacker has a namespace of its own and makes each load of `ATTACKS` in turn. Meanwhile a
tenant in another namespace creates plain Sandboxes and deletes them, one after the other, and
docker-py does the same with plain containers: what the engine itself can under this load. The same
is measured calm, before the first attack and after the last.

Targets. Create: the p95 under attack is at most three times the calm p95, where docker-py's own p95
stays within three times its calm one. Where it does not, the engine is the limit: the row has no
target, and its note has docker-py's factor to compare with. deletionTimestamp to DELETING: p99 at
most 50 ms, always. The p95, and not the median: a tenant that waits twenty seconds once has few
samples of the wait and many of the calm after it.

Each load is bounded in number and time and is removed before the next begins. A sample that began
under a load is waited for, with the load still there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from docker.errors import DockerException

from bench.attacks import ATTACKS, Attack, Phase, Street, clear
from bench.creations import GRACE_SECONDS
from bench.deletions import mark_latency
from bench.figures import FEW, OWN_QUIET, Figures, Row, at_most, compared, milliseconds
from bench.lab import Lab
from bench.registry import Registry
from bench.sandboxes import Sandboxes
from dev.progress import DevError, console

SCENARIO = "neighbours"
ATTACKER, TENANT = "noisy", "quiet"
"""Their namespaces."""
CREATE_BOUND = 3.0
MARK_BOUND_MS = 50
PERCENT = 95

SECONDS_BETWEEN = 1.0
"""From the end of docker-py's container to its next, and of one pull to the next: they are there to
measure, and must not be a load of their own."""
CALM_AGAIN = 1.5
"""Calm again: a create takes at most so many times the calm median."""
SECONDS_TO_CALM = 30.0


@dataclass(frozen=True)
class Lives:
    """Seconds, of the tenant's Sandboxes and of docker-py's containers."""

    create: list[float] = field(default_factory=list)
    mark: list[float] = field(default_factory=list)
    """deletionTimestamp to DELETING."""
    gone: list[float] = field(default_factory=list)
    """DELETE to gone."""
    pull: list[float] = field(default_factory=list)
    """POST to RUNNING with an image that is pulled."""
    others_create: list[float] = field(default_factory=list)
    others_remove: list[float] = field(default_factory=list)
    others_pull: list[float] = field(default_factory=list)
    """Pull, create and start."""

    def __add__(self, other: Lives) -> Lives:
        both = zip(self._all(), other._all(), strict=True)
        return Lives(*(mine + others for mine, others in both))

    def _all(self) -> tuple[list[float], ...]:
        return (
            self.create,
            self.mark,
            self.gone,
            self.pull,
            self.others_create,
            self.others_remove,
            self.others_pull,
        )


async def noisy(lab: Lab) -> list[Row]:
    """Every attack, between two calm spans. One that could not be measured misses its targets and
    costs the others nothing."""
    async with AsyncExitStack() as undo:
        registry = await undo.enter_async_context(Registry(lab.docker_host, lab.image))
        attacker = await undo.enter_async_context(Sandboxes(lab.plane, ATTACKER))
        tenant = await undo.enter_async_context(Sandboxes(lab.plane, TENANT))
        undo.push_async_callback(clear, attacker)
        undo.push_async_callback(clear, tenant)
        street = Street(lab, attacker, tenant, registry)
        await _warm_up(street)
        await _restock(street)
        calm = await _measure(street, Phase("calm"))
        pulling = await _measure(street, Phase("calm, and pulling", pulls=True))
        calm = replace(calm, pull=pulling.pull, others_pull=pulling.others_pull)
        measured: list[tuple[Phase, Lives]] = []
        for attack in lab.track(ATTACKS, "noisy neighbour"):
            measured += await _under(street, attack)
            await _until_calm(street, milliseconds(calm.create).median / 1000)
        await _restock(street)
        calm += await _measure(street, Phase("calm again"))
    return [
        *calm_rows(calm),
        *(row for phase, lives in measured for row in attack_rows(phase, calm, lives)),
        summary([lives for _, lives in measured]),
    ]


async def _under(street: Street, attack: Attack) -> list[tuple[Phase, Lives]]:
    """What was measured in each of the attack's phases, which are removed again."""
    measured = []
    what = attack.__name__.strip("_")
    await _restock(street)
    try:
        async with aclosing(attack(street)) as phases:
            async for phase in phases:
                what = phase.what
                measured.append((phase, await _measure(street, phase)))
    except (DevError, DockerException) as error:
        console.print(f"{what}: not measured: {error}", markup=False)
        if what not in [phase.what for phase, _ in measured]:
            measured.append((Phase(what), Lives()))
        street.stock.clear()
        await clear(street.tenant)
    finally:
        await clear(street.attacker)
    return measured


async def _measure(street: Street, phase: Phase) -> Lives:
    """Until the load is over, and no longer than `attack_seconds`; what began then is waited
    for."""
    lives, ends = Lives(), time.monotonic() + street.lab.sizes.attack_seconds
    console.print(f"  {phase.what}")

    def over() -> bool:
        return phase.over() or time.monotonic() >= ends

    timer = asyncio.get_running_loop().call_later(street.lab.sizes.attack_seconds, phase.end)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(over, 0.0, partial(_live, street, lives)))
            group.create_task(_delete_stock(street, lives, over))
            group.create_task(_repeat(over, SECONDS_BETWEEN, partial(_other_life, street, lives)))
            if phase.pulls:
                for pull in (_pull, _other_pull):
                    group.create_task(_repeat(over, SECONDS_BETWEEN, partial(pull, street, lives)))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        timer.cancel()
        phase.end()
    return lives


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of them, so that who calls can tell what it was."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _repeat(
    over: Callable[[], bool], pause: float, act: Callable[[], Awaitable[None]]
) -> None:
    """At least once."""
    while True:
        await act()
        if over():
            return
        await asyncio.sleep(pause)


async def _live(street: Street, lives: Lives) -> None:
    """One Sandbox of the tenant's."""
    (name,) = street.lab.names("tenant", 1)
    lives.create.append(await street.tenant.create_running(name, street.lab.spec()))
    await _delete(street, lives, name)


async def _delete(street: Street, lives: Lives, name: str) -> None:
    began = time.monotonic()
    lives.gone.append(await street.tenant.remove(name) - began)
    lives.mark.append(mark_latency(street.tenant.history(name)))


async def _restock(street: Street) -> None:
    """Enough for two phases."""
    missing = 2 * street.lab.sizes.attack_deletions - len(street.stock)
    made = street.lab.names("stock", missing)
    await street.tenant.create_all(made, street.lab.spec())
    street.stock.extend(made)


async def _delete_stock(street: Street, lives: Lives, over: Callable[[], bool]) -> None:
    """Evenly over the time of the load; none waits for the one before it."""
    sizes = street.lab.sizes
    async with asyncio.TaskGroup() as group:
        for _ in range(sizes.attack_deletions):
            group.create_task(_delete(street, lives, street.stock.pop()))
            await asyncio.sleep(sizes.attack_seconds / sizes.attack_deletions)
            if over():
                return


async def _other_life(street: Street, lives: Lives) -> None:
    """One container of docker-py's."""
    baseline = street.lab.baseline
    made, took = await asyncio.to_thread(baseline.create, street.lab.spec())
    lives.others_create.append(took)
    began = time.monotonic()
    await asyncio.to_thread(baseline.stop_and_remove, made, GRACE_SECONDS)
    lives.others_remove.append(time.monotonic() - began)


async def _pull(street: Street, lives: Lives) -> None:
    (name,) = street.lab.names("puller", 1)
    spec = street.lab.spec(image=street.registry.small())
    lives.pull.append(await street.tenant.create_running(name, spec))
    await street.tenant.remove(name)


async def _other_pull(street: Street, lives: Lives) -> None:
    baseline, image = street.lab.baseline, street.registry.small()
    pulled = await asyncio.to_thread(baseline.pull, image)
    made, created = await asyncio.to_thread(baseline.create, street.lab.spec(image=image))
    lives.others_pull.append(pulled + created)
    await asyncio.to_thread(baseline.remove, made)


async def _warm_up(street: Street) -> None:
    """Connections, and the layers that all images of the registry share."""
    for _ in range(2):
        ignored = Lives()
        await _live(street, ignored)
        await _other_life(street, ignored)
        await _pull(street, ignored)
        await _other_pull(street, ignored)


async def _until_calm(street: Street, calm: float) -> None:
    """Until a create takes about as long as before the attacks; for a bounded time."""
    ends = time.monotonic() + SECONDS_TO_CALM
    while time.monotonic() < ends:
        lives = Lives()
        await _live(street, lives)
        if lives.create[0] <= CALM_AGAIN * calm:
            return
    console.print(
        f"not calm again after {SECONDS_TO_CALM:g} s; the next attack begins all the same"
    )


# What is told of it.


def calm_rows(calm: Lives) -> list[Row]:
    mark = at_most(SCENARIO, "calm: deletionTimestamp to DELETING", _ms(calm.mark), MARK_BOUND_MS)
    return [
        _beside_docker_py("calm: create, POST to RUNNING", calm.create, calm.others_create),
        mark,
        _beside_docker_py("calm: delete until gone", calm.gone, calm.others_remove),
        _beside_docker_py("calm: create and pull", calm.pull, calm.others_pull),
    ]


def attack_rows(phase: Phase, calm: Lives, under: Lives) -> list[Row]:
    """One attack: creations held to the target, marks, deletions, and creations that pull if there
    were any."""
    what = phase.what
    mark = at_most(
        SCENARIO,
        f"{what}: deletionTimestamp to DELETING",
        _ms(under.mark),
        MARK_BOUND_MS,
        note=_worst(under.mark),
    )
    create = _held(
        f"{what}: create", under.create, calm.create, under.others_create, calm.others_create
    )
    if phase.about:
        create = replace(create, note=f"{phase.about}; {create.note}")
    end = f"{what}: delete until gone"
    rows = [
        create,
        mark,
        _told(end, under.gone, calm.gone, under.others_remove, calm.others_remove),
    ]
    if under.pull:
        pull = f"{what}: create and pull"
        rows.append(_held(pull, under.pull, calm.pull, under.others_pull, calm.others_pull))
    return rows


def summary(under: list[Lives]) -> Row:
    marks = [mark for lives in under for mark in lives.mark]
    what = "under any of these: deletionTimestamp to DELETING"
    return at_most(SCENARIO, what, _ms(marks), MARK_BOUND_MS, note=_worst(marks))


def _held(
    what: str,
    ours: list[float],
    ours_calm: list[float],
    theirs: list[float],
    theirs_calm: list[float],
) -> Row:
    """Held to the target where docker-py shows that the engine can."""
    row = _told(what, ours, ours_calm, theirs, theirs_calm)
    engine_can = slowdown(theirs, theirs_calm) <= CREATE_BOUND
    if not ours or engine_can:
        met = row.ratio is not None and row.ratio <= CREATE_BOUND
        row = replace(row, target=f"p{PERCENT} <= {CREATE_BOUND:g} x", met=met)
    else:
        beside = slowdown(ours, ours_calm) / slowdown(theirs, theirs_calm)
        note = f"{row.note}; the engine is the limit: {beside:.2f} x docker-py's factor"
        row = replace(row, note=note)
    return replace(row, curve=what.removesuffix(": create")) if ours else row


def _told(
    what: str,
    ours: list[float],
    ours_calm: list[float],
    theirs: list[float],
    theirs_calm: list[float],
) -> Row:
    """Beside its own calm; docker-py's in the note."""
    notes = [_worst(ours)] if ours else ["not measured"]
    if theirs:
        factor = slowdown(theirs, theirs_calm)
        notes.append(f"docker-py: {_ms(theirs).text()}, p{PERCENT} {factor:.2f} x its calm")
    if len(ours) < FEW:
        notes.append(f"only {len(ours)} samples")
    ratio = slowdown(ours, ours_calm) if ours else None
    return Row(
        SCENARIO,
        what,
        _ms(ours),
        _ms(ours_calm),
        ratio,
        note="; ".join(notes),
        beside=OWN_QUIET,
    )


def slowdown(under: list[float], calm: list[float]) -> float:
    """How many times the calm p95; NaN without samples."""
    return _ms(under).percentile(PERCENT) / _ms(calm).percentile(PERCENT)


def _beside_docker_py(what: str, ours: list[float], theirs: list[float]) -> Row:
    return compared(SCENARIO, what, _ms(ours), _ms(theirs), note=_worst(ours))


def _worst(samples: list[float]) -> str:
    return f"worst {max(samples) * 1000:.0f} ms, {len(samples)} samples" if samples else ""


def _ms(samples: list[float]) -> Figures:
    return milliseconds(samples)
