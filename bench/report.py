"""What is told at the end: the table, the JSON file, and the machine all of it was measured on."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.figures import Row
from dev import engine
from dev.cluster import CHECKOUT

FOLDER = CHECKOUT / "docs" / "benchmarks"
WIDTH = 170
PACKAGES = ("sandbox-operator", "kopf", "kubernetes", "docker", "aiohttp", "pydantic", "uvloop")


@dataclass(frozen=True)
class Load:
    """How busy the machine was before a scenario, when only others were at work."""

    busy_percent: float
    load_average: float

    @classmethod
    def now(cls) -> Load:
        return cls(psutil.cpu_percent(interval=1.0), os.getloadavg()[0])

    def text(self) -> str:
        return f"{self.busy_percent:.0f} % busy, load {self.load_average:.1f}"


@dataclass(frozen=True)
class Result:
    """One scenario's rows, and the load it met."""

    load: Load
    rows: list[Row]


def machine(docker_host: str) -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    about = engine.info(docker_host)
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "docker": about.get("ServerVersion"),
        "storage_driver": about.get("Driver"),
        "cgroup_version": about.get("CgroupVersion"),
        "packages": {name: version(name) for name in PACKAGES},
    }


def show(results: list[Result]) -> None:
    """Print the table; to a file or a pipe as wide as it takes."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    table = Table(title="Benchmarks: p50 / p95 / p99, or each sample", show_lines=False)
    for title in ("scenario", "what", "operator", "docker-py", "ratio", "target", "met", "load"):
        table.add_column(title, no_wrap=title != "what", ratio=1 if title == "what" else None)
    for result in results:
        for row in result.rows:
            table.add_row(
                row.scenario,
                row.what + (f"\n[dim]{row.note}[/dim]" if row.note else ""),
                row.operator.text(),
                row.baseline.text() if row.baseline else "",
                f"{row.ratio:.2f} x" if row.ratio is not None else "",
                row.target,
                {None: "", True: "[green]yes[/green]", False: "[red]NO[/red]"}[row.met],
                result.load.text() if row is result.rows[0] else "",
            )
        table.add_section()
    console.print(table)


def save(results: list[Result], docker_host: str, *, quick: bool) -> Path:
    """Write the samples and all that belongs to them; returns the file."""
    now = datetime.now(UTC)
    content = {
        "date": now.isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine(docker_host),
        "results": [
            {"load": asdict(r.load), "rows": [_row(row) for row in r.rows]} for r in results
        ],
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{now:%Y-%m-%d-%H%M%S}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _row(row: Row) -> dict[str, Any]:
    known: dict[str, Any] = asdict(row)
    for side in ("operator", "baseline"):
        if known[side] is not None:
            known[side]["samples"] = [round(s, 4) for s in known[side]["samples"]]
    return known
