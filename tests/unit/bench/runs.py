"""Runs made of a few rows, as `make bench` would have measured them."""

from __future__ import annotations

from bench.figures import Row
from bench.results import Load, Result, Run


def run_of(*rows: Row, **sizes: int) -> Run:
    machine = {"cores": 2, "docker": "20.10", "packages": {"kopf": "1.45.2"}}
    run = Run("2026-01-02T03:04:05+00:00", sizes, machine)
    run.results["scenario"] = Result(Load(1.0, 0.5), list(rows), 12.0)
    return run
