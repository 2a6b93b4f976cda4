"""Samples and what is told of them: percentiles, ratios, targets.

Figures   samples of one thing, in one unit
Row       one line of the table: the operator's figures, the baseline's, the target
Point     where a Row lies on a curve of cost against a number of things
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ms", "s", "", "%", "MB", "KB", "/s"]

DOCKER_PY = "docker-py"
FLOOR = "the floor"
OWN_QUIET = "its own without"

WARM_UP = 3
"""So many first samples are left out: connections, caches and lazy imports are theirs."""
FEW = 5
"""Fewer samples than that are told one by one, and prove little."""


@dataclass(frozen=True)
class Figures:
    """Samples in the order they were taken."""

    samples: tuple[float, ...]
    unit: Unit

    @classmethod
    def of(cls, samples: Iterable[float], unit: Unit) -> Figures:
        return cls(tuple(samples), unit)

    @property
    def higher_is_better(self) -> bool:
        """Of a rate; of all else less is better."""
        return self.unit == "/s"

    def percentile(self, percent: float) -> float:
        """By nearest rank, so that each is a sample that was measured; NaN without samples."""
        if not self.samples:
            return math.nan
        ordered = sorted(self.samples)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    @property
    def median(self) -> float:
        """The middle; of an even number, between the two in the middle. NaN without samples."""
        return statistics.median(self.samples) if self.samples else math.nan

    def text(self) -> str:
        """p50 / p95 / p99; few samples are told one by one."""
        enough = len(self.samples) >= FEW
        shown = [self.percentile(p) for p in (50, 95, 99)] if enough else self.samples
        return " / ".join(_number(value) for value in shown) + (f" {self.unit}" if shown else "-")


def milliseconds(seconds: Iterable[float]) -> Figures:
    return Figures.of((s * 1000 for s in seconds), "ms")


def seconds(values: Iterable[float]) -> Figures:
    return Figures.of(values, "s")


def counts(values: Iterable[float]) -> Figures:
    return Figures.of(values, "")


def rates(values: Iterable[float]) -> Figures:
    """So many a second."""
    return Figures.of(values, "/s")


@dataclass(frozen=True)
class Point:
    """Where a row lies on a curve: `series` names the curve, `at` is the number on its x axis."""

    series: str
    at: float


@dataclass(frozen=True)
class Row:
    """One line of the table. `met` None: told for information, nothing was promised."""

    scenario: str
    what: str
    operator: Figures
    baseline: Figures | None = None
    ratio: float | None = None
    """The operator's over the baseline's, of what the target speaks of."""
    target: str = ""
    met: bool | None = None
    note: str = ""
    curve: str = ""
    """Its name among the distributions that the plot of its scenario shows; empty: not shown."""
    point: Point | None = None
    beside: str = DOCKER_PY
    """What the baseline is."""
    yardstick: bool = True
    """False: the baseline does not tell how fast the machine was, as one that sleeps most of the
    time."""

    @property
    def relative(self) -> bool:
        """Divided by the baseline when runs are compared: it runs none of the operator's code and
        tells how fast the machine was. Or it is the operator's own quiet figure, for rows that
        promise a ratio to it; that figure has a row of its own."""
        beside = (DOCKER_PY, FLOOR, OWN_QUIET)
        return self.baseline is not None and self.yardstick and self.beside in beside


def at_most(
    scenario: str,
    what: str,
    operator: Figures,
    bound: float,
    *,
    percent: float = 99,
    note: str = "",
) -> Row:
    """A row whose percentile must not exceed `bound`, in the figures' unit."""
    name = f"p{percent:g} " if len(operator.samples) >= FEW else ""
    target = f"{name}<= {_number(bound)} {operator.unit}".strip()
    measured = operator.percentile(percent)
    return Row(scenario, what, operator, target=target, met=measured <= bound, note=note)


def compared(
    scenario: str,
    what: str,
    operator: Figures,
    baseline: Figures,
    bound: float | None = None,
    *,
    note: str = "",
) -> Row:
    """A row whose median must not exceed `bound` times the baseline's; of a rate, reach it."""
    ratio = operator.median / baseline.median
    more = operator.higher_is_better
    target = "" if bound is None else f"median {'>=' if more else '<='} {bound:g} x"
    met = None if bound is None else ratio >= bound if more else ratio <= bound
    return Row(scenario, what, operator, baseline, ratio, target, met, note)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
