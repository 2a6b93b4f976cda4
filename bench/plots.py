"""The pictures of a run: distributions of latencies, and cost against the number of Sandboxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from bench.figures import Figures, Row

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9, "axes.grid": True}
"""Text stays text, so files are small; equal results give equal files."""
PANEL = (4.6, 3.2)
"""Inches."""
COLUMNS = 3


def distributions(rows: Iterable[Row], path: Path) -> None:
    """A panel for each scenario that has curves: what part was at least as fast, time on a log
    scale."""
    panels = defaultdict(list)
    for row in rows:
        if row.curve:
            panels[row.scenario].append(row)
    with mpl.rc_context(STYLE):
        figure, axes = _grid(len(panels))
        for ax, (scenario, of_panel) in zip(axes, panels.items(), strict=True):
            drawn: set[Figures] = set()
            for row in of_panel:
                ax.ecdf(row.operator.samples, label=row.curve)
                if row.baseline and row.baseline not in drawn:
                    drawn.add(row.baseline)
                    label = f"{row.beside}: {row.curve.partition(':')[0]}"
                    ax.ecdf(row.baseline.samples, label=label, linestyle="--", color=_grey(drawn))
            unit = of_panel[0].operator.unit
            ax.set(title=scenario, xscale="log", xlabel=unit, ylabel="part as fast")
            low, high = ax.get_xlim()
            ax.xaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
            _plain_numbers(ax)
            ax.legend(fontsize=7)
        _save(figure, path)


def costs(rows: Iterable[Row], path: Path) -> None:
    """A panel for each series: medians against the number of Sandboxes or of stopped containers,
    with a band from p5 to p95."""
    panels = defaultdict(list)
    for row in rows:
        if row.point:
            panels[row.point.series].append((row.point.at, row))
    with mpl.rc_context(STYLE):
        figure, axes = _grid(len(panels))
        for ax, (series, points) in zip(axes, panels.items(), strict=True):
            points.sort(key=lambda point: point[0])
            _band(ax, [(at, row.operator) for at, row in points], "operator", "C0")
            others = [(at, row.baseline) for at, row in points if row.baseline]
            if others:
                _band(ax, others, points[0][1].beside, "0.4")
                ax.legend(fontsize=7)
            unit = points[0][1].operator.unit
            ax.set(title=series, xlabel="how many", ylabel=unit)
            _log_scale(ax, [at for at, _ in points])
            ax.set_xticks([at for at, _ in points])
            ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
            _plain_numbers(ax)
        _save(figure, path)


def _grid(count: int) -> tuple[Any, list[Any]]:
    rows = max(1, -(-count // COLUMNS))
    figure = Figure(figsize=(PANEL[0] * COLUMNS, PANEL[1] * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, COLUMNS, 1 + i) for i in range(count)]


def _band(ax: Any, points: list[tuple[float, Figures]], label: str, color: str) -> None:
    at = [x for x, _ in points]
    ax.plot(at, [figures.median for _, figures in points], "o-", label=label, color=color)
    low, high = ([figures.percentile(p) for _, figures in points] for p in (5, 95))
    ax.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def _log_scale(ax: Any, at: list[float]) -> None:
    """Logarithmic; linear below the least that is not zero, where there is a zero."""
    if min(at) > 0:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=min((x for x in at if x > 0), default=1))


def _plain_numbers(ax: Any) -> None:
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(NullLocator())


def _grey(drawn: set[Figures]) -> str:
    return str(0.2 * min(4, 1 + len(drawn)))


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
