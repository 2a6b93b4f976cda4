"""The results of one run, and the JSON file that keeps them with all that belongs to them.

Run      scenarios with their rows, the sizes, the machine
Result   one scenario's rows, how long it took, the load it met
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench.figures import Figures, Point, Row
from dev import engine
from dev.binaries import Binaries
from dev.cluster import CHECKOUT
from dev.progress import DevError

PACKAGES = ("sandbox-operator", "kopf", "kubernetes", "docker", "aiohttp", "pydantic", "uvloop")
DIGITS = 4
"""Of samples, behind the point."""


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
    """One scenario's rows, the load it met, and how many seconds it took in all."""

    load: Load
    rows: list[Row]
    seconds: float


@dataclass
class Run:
    """What one call of `make bench` measured; it grows with every scenario."""

    date: str
    """ISO 8601, UTC, to the second."""
    sizes: dict[str, Any]
    machine: dict[str, Any]
    results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """What each scenario that was not measured failed with."""

    @property
    def stamp(self) -> str:
        """The date as part of a file's name."""
        return self.date[:16].replace("T", "-").replace(":", "")

    @property
    def rows(self) -> list[Row]:
        return [row for result in self.results.values() for row in result.rows]

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results.values())

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        content = {
            "date": self.date,
            "machine": self.machine,
            "sizes": self.sizes,
            "failures": self.failures,
            "results": {name: _told(result) for name, result in self.results.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(path)

    @classmethod
    def read(cls, path: Path) -> Run:
        """Raises DevError if the file is not one that `write` wrote."""
        try:
            content = json.loads(path.read_text())
            results = {name: _result(told) for name, told in content.pop("results").items()}
            return cls(**content, results=results)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DevError(f"{path} has no results of `make bench`: {error!r}") from error


def machine(docker_host: str, binaries: Binaries, *, etcd_syncs: bool) -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    about = engine.info(docker_host)
    return {
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "docker": about.get("ServerVersion"),
        "storage_driver": about.get("Driver"),
        "cgroup_version": about.get("CgroupVersion"),
        "kube_apiserver": _version(binaries.kube_apiserver),
        "etcd": _version(binaries.etcd),
        "etcd_syncs": etcd_syncs,
        "packages": {name: version(name) for name in PACKAGES},
    }


def _version(binary: Path) -> str:
    """What it says itself: it may be another than dev/binaries builds."""
    return _said([str(binary), "--version"]).partition("\n")[0].rpartition(" ")[2]


def _commit() -> str:
    git = shutil.which("git")
    return _said([git, "describe", "--always", "--dirty"]) if git else ""


def _said(command: list[str]) -> str:
    """What a command prints; empty if it fails, as git does outside of a checkout."""
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    """The model's name, where Linux tells it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _told(result: Result) -> dict[str, Any]:
    known: dict[str, Any] = asdict(result)
    for row in known["rows"]:
        for side in ("operator", "baseline"):
            if row[side] is not None:
                row[side]["samples"] = [round(s, DIGITS) for s in row[side]["samples"]]
    return known


def _result(told: dict[str, Any]) -> Result:
    rows = [_row(**row) for row in told["rows"]]
    return Result(Load(**told["load"]), rows, told["seconds"])


def _row(
    operator: dict[str, Any],
    baseline: dict[str, Any] | None,
    point: dict[str, Any] | None,
    **others: Any,
) -> Row:
    return Row(
        operator=Figures.of(**operator),
        baseline=Figures.of(**baseline) if baseline else None,
        point=Point(**point) if point else None,
        **others,
    )
