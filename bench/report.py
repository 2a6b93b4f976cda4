"""What is told at the end: the table on the terminal, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from bench.figures import DOCKER_PY, Row
from bench.results import Run

WIDTH = 170
COLUMNS = ("what", "operator", "beside it", "ratio", "target", "met")


def show(run: Run) -> None:
    """Print the table; to a file or a pipe as wide as it takes."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    table = Table(title="Benchmarks: p50 / p95 / p99, or each sample", show_lines=False)
    for title in COLUMNS:
        table.add_column(title, no_wrap=title != "what", ratio=1 if title == "what" else None)
    for name, result in run.results.items():
        took = f"{result.seconds:.0f} s; before: {result.load.text()}"
        table.add_row(f"[bold]{name}[/bold] [dim]{took}[/dim]")
        for row in result.rows:
            *others, met = cells(row)
            colour = {"yes": "[green]yes[/green]", "NO": "[red]NO[/red]"}.get(met, met)
            table.add_row(*others, colour)
        table.add_section()
    console.print(table)


def cells(row: Row) -> tuple[str, ...]:
    """The texts of COLUMNS; a note follows what was measured."""
    beside = row.baseline.text() if row.baseline else ""
    if row.baseline and row.beside != DOCKER_PY:
        beside += f" ({row.beside})"
    return (
        row.what + (f" ({row.note})" if row.note else ""),
        row.operator.text(),
        beside,
        _times(row.ratio) if row.ratio is not None else "",
        row.target,
        {None: "", True: "yes", False: "NO"}[row.met],
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f} x" if ratio >= 0.1 else f"{ratio:.1g} x"


def markdown(run: Run, plots: Iterable[str]) -> str:
    """The page of a run. `plots` are the names of its pictures, beside the page."""
    machine = dict(run.machine)
    packages = machine.pop("packages")
    lines = [
        f"# Benchmarks of {run.date[:10]}",
        "",
        "Written by `make bench`; [README.md](README.md) tells how to read it. Samples:"
        f" [{run.stamp}.json]({run.stamp}.json). Figures are p50 / p95 / p99, or each sample;"
        " beside them docker-py in the same run, where nothing else is named.",
        "",
        *(f"![{name}]({name})\n" for name in plots),
        "Machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
        "Packages: " + ", ".join(f"{name} {value}" for name, value in packages.items()) + ".",
        f"Scenarios took {run.seconds / 60:.0f} minutes.",
    ]
    for name, result in run.results.items():
        lines += [
            "",
            f"## {name}",
            "",
            f"{result.seconds:.0f} s; the machine before: {result.load.text()}.",
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|" + "---|" * len(COLUMNS),
            *("| " + " | ".join(cells(row)) + " |" for row in result.rows),
        ]
    if run.failures:
        lines += ["", "## Not measured", ""]
        lines += [f"- {name}: {error}" for name, error in run.failures.items()]
    return "\n".join(lines) + "\n"
