"""How fast sandboxes come: one at a time, and while a hundred others are deleted.

Operator: from the POST to the watch event with phase RUNNING (claim, Secret, status, container,
look, status). Baseline: docker-py's create and start of the same container, and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from bench.figures import FEW, OWN_QUIET, WARM_UP, Row, compared, milliseconds, seconds
from bench.lab import Lab
from bench.usage import cpu_seconds

GRACE_SECONDS = 10
SINGLE_BOUND = 1.15
DURING_BOUND = 1.5


async def one_at_a_time(lab: Lab) -> list[Row]:
    """Pairs, the order within a pair alternating; each is gone before the next begins."""
    pairs = await in_pairs(lab, lab.sizes.singles, "create, one at a time")
    row = compared(
        "create",
        "POST to RUNNING, one at a time; docker-py: create + start",
        milliseconds(pairs.operator),
        milliseconds(pairs.baseline),
        SINGLE_BOUND,
    )
    return [replace(row, curve="create")]


@dataclass(frozen=True)
class Pairs:
    """Seconds: creations by the operator and by docker-py, and the operator's processor time."""

    operator: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    """For each life, with what follows it while docker-py is at work."""
    deleted: list[str] = field(default_factory=list)
    """Names of the operator's; the watch has their histories."""

    def without_warm_up(self) -> Pairs:
        return Pairs(
            self.operator[WARM_UP:],
            self.baseline[WARM_UP:],
            self.processor[WARM_UP:],
            self.deleted[WARM_UP:],
        )


async def in_pairs(lab: Lab, count: int, what: str) -> Pairs:
    """One container each by the operator and by docker-py, in alternating order, one at a time.
    The warm-up is left out."""
    spec, pairs = lab.spec(), Pairs()

    async def by_operator() -> None:
        (name,) = lab.names("single", 1)
        pairs.operator.append(await lab.sandboxes.create_running(name, spec))
        await lab.sandboxes.remove_all([name])
        pairs.deleted.append(name)

    async def by_baseline() -> None:
        made, took = await asyncio.to_thread(lab.baseline.create, spec)
        pairs.baseline.append(took)
        await asyncio.to_thread(lab.baseline.stop_and_remove, made, GRACE_SECONDS)

    for i in lab.track(range(count + WARM_UP), what):
        before = cpu_seconds(lab.operator.process)
        pair = (by_operator, by_baseline)
        for run in pair if i % 2 else reversed(pair):
            await run()
        pairs.processor.append(cpu_seconds(lab.operator.process) - before)
    return pairs.without_warm_up()


@dataclass(frozen=True)
class _Sample:
    """One creation while others were deleted: when it began and how long it took."""

    began: float
    took: float


async def during_deletions(lab: Lab) -> list[Row]:
    """One creation after the other from the first delete until the last of the hundred is gone.

    Two spans are told apart, because little happens in the first: the marks, the signals and the
    wait for the grace period; and the removals. The target holds in each, against the operator's
    own creations without deletions.
    """
    operator = await _operator_during(lab)
    baseline = await _baseline_during(lab)
    rows = []
    for span, what in (("grace", "grace period"), ("removal", "removals")):
        row = compared(
            "create-during",
            f"create in the {what} of {lab.sizes.burst} deletions",
            milliseconds(operator.spans[span]),
            milliseconds(operator.quiet),
            DURING_BOUND,
            note=_beside(operator.spans[span], baseline.spans[span], baseline.quiet),
        )
        rows.append(replace(row, beside=OWN_QUIET))
    rows.append(
        Row(
            "create-during",
            f"the same without deletions, {lab.sizes.burst} others running",
            milliseconds(operator.quiet),
            milliseconds(baseline.quiet),
            milliseconds(operator.quiet).median / milliseconds(baseline.quiet).median,
        )
    )
    what = f"from the first delete until all {lab.sizes.burst} are gone, creating meanwhile"
    note = "docker-py: a thread for each"
    ends = seconds([operator.all_gone]), seconds([baseline.all_gone])
    end = compared("create-during", what, *ends, note=note)
    return [*rows, replace(end, yardstick=False)]  # much of it is the grace period


def _beside(ours: list[float], theirs: list[float], quiet: list[float]) -> str:
    """What a row says of docker-py in the same span, and of its own samples if they are few."""
    during = milliseconds(theirs)
    others = during.median / milliseconds(quiet).median
    told = f"docker-py: {during.text()}, {others:.2f} x its own without"
    return told if len(ours) >= FEW else f"only {len(ours)} samples; {told}"


@dataclass(frozen=True)
class _Run:
    """What one side showed: creations in quiet, and by span of the deletions."""

    quiet: list[float]
    spans: dict[str, list[float]]
    all_gone: float


async def _operator_during(lab: Lab) -> _Run:
    doomed = await lab.run_all("doomed", lab.sizes.burst, lab.stubborn())
    created: list[str] = []

    async def create() -> float:
        (name,) = lab.names("among", 1)
        created.append(name)
        return await lab.sandboxes.create_running(name, lab.spec())

    quiet = await _quiet(lab, create)
    await lab.sandboxes.connect()
    began = time.monotonic()
    # Each by itself, so that creations begin while the others are still being marked.
    ending = asyncio.gather(*(lab.sandboxes.remove(name) for name in doomed))
    samples = await _while(lab, create, ending.done)
    ends = await ending
    await lab.end_all(created)
    return _Run(quiet, _spans(samples, ends), max(ends) - began)


async def _baseline_during(lab: Lab) -> _Run:
    baseline, burst = lab.baseline, lab.sizes.burst
    doomed, _ = await asyncio.to_thread(baseline.create_all, burst, lab.stubborn(), lab.width)
    created: list[str] = []

    async def create() -> float:
        made, took = await asyncio.to_thread(baseline.create, lab.spec())
        created.append(made)
        return took

    quiet = await _quiet(lab, create)
    ending = baseline.stop_and_remove_all(doomed, GRACE_SECONDS)
    samples = await _while(lab, create, lambda: ending.over)
    await asyncio.to_thread(ending.wait)
    await asyncio.to_thread(baseline.remove_all, created, lab.width)
    return _Run(quiet, _spans(samples, ending.ends), max(ending.ends) - ending.began)


async def _quiet(lab: Lab, create: Callable[[], Awaitable[float]]) -> list[float]:
    rounds = lab.track(range(lab.sizes.quiet + WARM_UP), "create, without deletions")
    return [await create() for _ in rounds][WARM_UP:]


async def _while(
    lab: Lab, create: Callable[[], Awaitable[float]], over: Callable[[], bool]
) -> list[_Sample]:
    task = lab.progress.add_task(f"create during {lab.sizes.burst} deletions", total=None)
    samples = []
    while not over():
        began = time.monotonic()
        samples.append(_Sample(began, await create()))
    lab.progress.remove_task(task)
    return samples


def _spans(samples: list[_Sample], ends: list[float]) -> dict[str, list[float]]:
    """A creation belongs to the removals if it overlaps the time from the first end to the last."""
    first = min(ends)
    return {
        "grace": [s.took for s in samples if s.began + s.took < first],
        "removal": [s.took for s in samples if s.began + s.took >= first],
    }


async def warm_up(lab: Lab) -> None:
    """Connections and caches of the operator and of the baseline."""
    for _ in range(WARM_UP):
        (name,) = lab.names("warm", 1)
        await lab.sandboxes.create_running(name, lab.spec())
        await lab.sandboxes.remove_all([name])
        made, _ = await asyncio.to_thread(lab.baseline.create, lab.spec())
        await asyncio.to_thread(lab.baseline.remove, made)
