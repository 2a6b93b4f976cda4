"""`python -m tests.chaos --seconds 600 --seed 7`: one round, and a table of what it survived."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dev.progress import DevError, console
from tests.chaos import failing_operator
from tests.chaos.play import Outcome, Play

SECONDS_BETWEEN_LINES = 30.0


def main(
    seconds: Annotated[float, typer.Option(help="How long faults are done.")] = 600.0,
    seed: Annotated[
        str, typer.Option(help="Repeats the plan of an earlier round; default: a new one.")
    ] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep a good round's logs too.")] = False,
) -> None:
    """Do faults to the operator on a real API server and a real Docker engine of their own, and
    check that nothing came of them. Ends with 1 where something did."""
    seed = seed or str(secrets.randbelow(1_000_000))
    directory = Path(tempfile.mkdtemp(prefix="sandbox-chaos-"))
    console.print(f"chaos for {seconds:g} s, seed {seed}; logs are in {directory}")
    outcome = asyncio.run(_run(Play(seconds, seed, directory), seconds))
    show(outcome)
    if outcome.findings:
        raise SystemExit(1)
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(play: Play, seconds: float) -> Outcome:
    columns = BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=seconds)
        told = -SECONDS_BETWEEN_LINES

        def progress(passed: float, what: str) -> None:
            nonlocal told
            bar.update(task, completed=passed, description=what)
            due = passed - told >= SECONDS_BETWEEN_LINES or passed == seconds
            if not console.is_terminal and due:
                told = passed
                console.print(f"{passed:.0f} s: {what}")

        return await play.run(progress)


def show(outcome: Outcome) -> None:
    """The tables, and on failure all that helps to find the cause."""
    table = Table(title=f"faults in {outcome.seconds:g} s, seed {outcome.seed}")
    table.add_column("fault")
    table.add_column("times", justify="right")
    table.add_column("met nothing", justify="right")
    hits, blanks = outcome.tally.faults, outcome.tally.blanks
    for kind in sorted(hits | blanks):
        table.add_row(kind, str(hits[kind]), str(blanks[kind]))
    table.add_section()
    table.add_row("all faults", str(hits.total()), str(blanks.total()))
    console.print(table)

    points = Table(title="points at which an operator killed itself")
    for title in ("verb", "before", "after", "not passed in time"):
        points.add_column(title, justify="left" if title == "verb" else "right")
    for verb in failing_operator.VERBS:
        before, after = f"before {verb}", f"after {verb}"
        missed = outcome.tally.missed[before] + outcome.tally.missed[after]
        struck = outcome.tally.points
        points.add_row(verb, str(struck[before]), str(struck[after]), str(missed))
    console.print(points)

    did = ", ".join(f"{count} x {what}" for what, count in sorted(outcome.did.items()))
    console.print(
        f"{outcome.made} Sandboxes were made, {outcome.ran} ran, {outcome.deleted} were deleted "
        f"({did}); the two operators were started {outcome.starts} times"
    )
    if outcome.stuck:
        console.print(
            f"{outcome.stuck} were excused: Docker, asked in the end, could start them no more, "
            "as a killed dockerd had left their task behind"
        )
    console.print(
        f"The seed repeats the plan, not what it meets: python -m tests.chaos "
        f"--seconds {outcome.seconds:g} --seed {outcome.seed}"
    )
    for story in outcome.stories:
        console.print(story, markup=False)
    for finding in outcome.findings:
        console.print(f"FAILED: {finding}", style="red", markup=False)
    if outcome.findings:
        console.print(f"logs: {outcome.directory}")
    else:
        console.print(
            "survived: nothing leaked, no deletion lost, no wrong phase, no stranger touched, "
            "no key stuck, nothing written at rest",
            style="green",
        )


if __name__ == "__main__":
    try:
        typer.run(main)
    except DevError as error:
        console.print(f"error: {error}", style="red")
        raise SystemExit(1) from None
