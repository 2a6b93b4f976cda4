"""`python -m bench`: the operator beside plain docker-py, on a cluster of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import creations, deletions, overhead, reactions, resting
from bench.figures import Row
from bench.lab import Lab, Sizes, end_on_signals, lab
from bench.report import Load, Result, save, show
from controller.settings import ENV_PREFIX
from dev.engine import ensure_engine
from dev.progress import DevError, console

SCENARIOS: dict[str, Callable[[Lab], Awaitable[list[Row]]]] = {
    "delete-mark": deletions.one_at_a_time,
    "delete-mark-100": deletions.at_once,
    "create": creations.one_at_a_time,
    "create-100": creations.at_once,
    "create-during": creations.during_deletions,
    "writes": resting.writes,
    "event-to-status": reactions.event_to_status,
    "restart": reactions.restart,
    "idle": resting.idle,
    "processor": overhead.processor,
    "instant": overhead.latency_and_throughput,
    "many": overhead.many,
}

CALM_SECONDS = 3.0


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(SCENARIOS)}; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples, in minutes.")] = False,
    keep: Annotated[
        bool, typer.Option("--save", help="Write docs/benchmarks/<date>.json.")
    ] = False,
) -> None:
    """Measure the operator beside plain docker-py, on a cluster of its own."""
    chosen = only or list(SCENARIOS)
    if unknown := set(chosen) - set(SCENARIOS):
        raise typer.BadParameter(f"no such scenario: {', '.join(sorted(unknown))}")
    for name in [n for n in os.environ if n.startswith(ENV_PREFIX)]:
        del os.environ[name]  # the operator and the baseline have the default settings
    end_on_signals()
    results: dict[str, Result] = {}
    try:
        uvloop.run(_run(chosen, Sizes.quick() if quick else Sizes(), results))
    finally:
        if results:
            show(list(results.values()))
    if keep:
        console.print(f"saved {save(list(results.values()), ensure_engine(), quick=quick)}")
    if failed := [n for n in chosen if n not in results]:
        raise DevError(f"not measured: {', '.join(failed)}")
    if missed := [row for result in results.values() for row in result.rows if row.met is False]:
        console.print(f"{len(missed)} of the targets are missed")


async def _run(chosen: list[str], sizes: Sizes, results: dict[str, Result]) -> None:
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
                load = Load.now()
                console.print(f"{name}: {load.text()}")
                try:
                    results[name] = Result(load, await SCENARIOS[name](running))
                except DevError as error:  # the others are worth measuring still
                    console.print(f"{name} failed: {error}\n{running.operator.last_words()}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DevError as error:
        console.print(f"error: {error}", style="red")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted")
        raise SystemExit(130) from None
