"""`python -m bench`: the operator beside plain docker-py, on a cluster of its own."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import (
    bursts,
    compare,
    creations,
    deletions,
    neighbours,
    overhead,
    reactions,
    resting,
    scaling,
)
from bench.figures import Row
from bench.lab import DURABLE, Lab, Sizes, end_on_signals, lab
from bench.published import publish
from bench.report import show
from bench.results import Load, Result, Run, machine
from controller.settings import ENV_PREFIX
from dev.binaries import ensure_binaries
from dev.cluster import CHECKOUT
from dev.engine import ensure_engine
from dev.progress import DevError, console

Scenario = Callable[[Lab], Awaitable[list[Row]]]


def _among(scenario: Scenario) -> Scenario:
    """With as many sandboxes running in the background as `Sizes.population` says."""

    async def run(running: Lab) -> list[Row]:
        await running.populate()
        return await scenario(running)

    return run


SCENARIOS: dict[str, Scenario] = {
    # Nothing else runs yet.
    "instant": overhead.latency_and_throughput,
    "many": overhead.many,
    "neighbours": neighbours.noisy,
    # The population grows; all that follow have it in the background.
    "scale": scaling.grow,
    "processor": _among(overhead.processor),
    "create": _among(creations.one_at_a_time),
    "delete-mark": _among(deletions.one_at_a_time),
    "burst": _among(bursts.at_once),
    "create-during": _among(creations.during_deletions),
    "throughput": _among(bursts.throughput),
    "app-delete": _among(deletions.as_applications_do),
    "event-to-status": _among(reactions.event_to_status),
    "writes": _among(resting.writes),
    "restart": reactions.restart,
    "idle": resting.idle,
    "stopped": scaling.stopped,
}

CALM_SECONDS = 3.0
SCENARIO_SECONDS = 1200.0
"""One that takes longer hangs; the others are worth measuring still."""
WORK = CHECKOUT / "out" / "benchmarks"
"""Every run's samples while it goes on; git ignores it."""


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(SCENARIOS)}; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples, in minutes.")] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--save", help="Publish in docs/benchmarks, as a run of everything does by itself."
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--compare", help="An earlier run's JSON; 1 is returned if it was faster."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", help="A run's JSON, to be shown instead of measuring."),
    ] = None,
) -> None:
    """Measure the operator beside plain docker-py, on a cluster of its own."""
    chosen = only or list(SCENARIOS)
    if unknown := set(chosen) - set(SCENARIOS):
        raise typer.BadParameter(f"no such scenario: {', '.join(sorted(unknown))}")
    earlier = Run.read(against) if against else None
    run = Run.read(results) if results else _begin(Sizes.quick() if quick else Sizes())
    if earlier:
        compare.check_sizes(earlier, run)  # now, not in half an hour
    try:
        if results is None:
            _measure_all(chosen, run, Sizes.quick() if quick else Sizes())
        else:
            show(run)
    finally:
        through = results is not None or set(chosen) == run.results.keys() | run.failures.keys()
        everything = results is None and not quick and not only
        if run.results and through and (keep or everything):
            for path in publish(run):
                console.print(f"written: {path.relative_to(CHECKOUT)}")
    if missed := [row for row in run.rows if row.met is False]:
        console.print(f"{len(missed)} of the targets are missed")
    slower = _compared(earlier, run) if earlier else 0
    if run.failures:
        raise DevError(f"not measured: {', '.join(run.failures)}")
    if slower:
        raise DevError(f"{slower} of the figures got slower")


def _begin(sizes: Sizes) -> Run:
    about = machine(ensure_engine(), ensure_binaries(), etcd_syncs=DURABLE)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(now, json.loads(json.dumps(asdict(sizes))), about)


def _compared(earlier: Run, run: Run) -> int:
    """How many figures got slower; tells all of them."""
    verdicts = compare.compare(earlier, run)
    compare.show(verdicts, earlier, run)
    return sum(verdict.change == "slower" for verdict in verdicts)


def _measure_all(chosen: list[str], run: Run, sizes: Sizes) -> None:
    """Add to `run`, whose file is written after every scenario."""
    for name in [n for n in os.environ if n.startswith(ENV_PREFIX)]:
        del os.environ[name]  # the operator and the baseline have the default settings
    end_on_signals()
    began = time.monotonic()
    try:
        uvloop.run(_scenarios(chosen, run, sizes))
    finally:
        if run.results:
            show(run)
            took = time.monotonic() - began
            console.print(f"{took / 60:.1f} minutes in all; samples in {_path(run)}")


async def _scenarios(chosen: list[str], run: Run, sizes: Sizes) -> None:
    bars = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(*bars, console=console, transient=True)
    async with lab(sizes, progress) as running:
        with progress:
            await creations.warm_up(running)
            for name in chosen:
                await running.rest(CALM_SECONDS, "letting the machine come to rest")
                await _scenario(name, running, run)
                run.write(_path(run))


async def _scenario(name: str, running: Lab, run: Run) -> None:
    """Measure one, and keep its failure to itself."""
    load, began = Load.now(), time.monotonic()
    console.print(f"{name}: {load.text()}")
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            rows = await SCENARIOS[name](running)
    except Exception as error:
        run.failures[name] = f"{type(error).__name__}: {error}"
        words = f"{name} failed: {run.failures[name]}\n{running.operator.last_words()}"
        console.print(words, markup=False)
        await _mend(running)
    else:
        run.results[name] = Result(load, rows, time.monotonic() - began)
        console.print(f"{name}: {run.results[name].seconds:.0f} s")


async def _mend(running: Lab) -> None:
    try:
        await running.mend()
    except Exception as error:
        words = f"not all that it left could be removed: {type(error).__name__}: {error}"
        console.print(words, markup=False)


def _path(run: Run) -> Path:
    return WORK / f"{run.stamp}.json"


if __name__ == "__main__":
    try:
        typer.run(main)
    except DevError as error:
        console.print(f"error: {error}", style="red")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted")
        raise SystemExit(130) from None
