"""What got slower since an earlier run: `make bench COMPARE=file`.

The rule. Rows are matched by scenario and text; of each the median is compared, and the p99 where
both runs have a hundred samples. A row's cost is the statistic of its samples, divided by the
median of the same run's baseline where that is a yardstick (`Row.relative`): what makes both
slower, such as a busy disk, cancels out. The change is the later cost over
the earlier one (of rates the inverse), with an interval: 99 % by the bootstrap, every list of
samples drawn anew a thousand times; where a list has fewer than five samples, from the most to the
least favourable of them. A row got slower if the whole interval lies above its margin, faster if
it lies below the margin's inverse. Margins: 1.10; 1.25 without such a baseline or with fewer than
five samples; 1.50 for a p99. Without a baseline, times must also be slower than the machine: their
margin is multiplied by how much slower docker-py was in the median of its rows, if it was. From
nothing to something (writes at rest) is always slower.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from bench.figures import DOCKER_PY, FEW, Figures, Row
from bench.report import WIDTH
from bench.results import Run
from dev.progress import DevError

MARGIN = 1.10
MARGIN_ALONE = 1.25
MARGIN_P99 = 1.50
ENOUGH_FOR_P99 = 100
DRAWS = 1000
TAIL_PERCENT = 0.5
"""Left out on each side: 99 % remain. Some sixty rows are compared at once."""

Change = Literal["slower", "faster", "same"]
Statistic = Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Verdict:
    """One statistic of one row. `factor` above 1 is worse, and so are the bounds."""

    scenario: str
    what: str
    statistic: str
    earlier: str
    later: str
    """The figures as the tables show them."""
    factor: float
    low: float
    high: float
    margin: float
    relative: bool
    """To the baseline of the same run."""

    @property
    def change(self) -> Change:
        if self.low > self.margin:
            return "slower"
        return "faster" if self.high < 1 / self.margin else "same"


def compare(earlier: Run, later: Run) -> list[Verdict]:
    """One verdict or two for each row that both have. Raises DevError if the sizes differ."""
    check_sizes(earlier, later)
    drift = machine_drift(earlier, later)
    return [v for pair in _pairs(earlier, later) for v in _verdicts(*pair, drift)]


def check_sizes(earlier: Run, later: Run) -> None:
    """Raises DevError where a size that both know differs: a --quick run beside a full one."""
    for name in earlier.sizes.keys() & later.sizes.keys():
        if earlier.sizes[name] != later.sizes[name]:
            raise DevError(
                f"the two runs cannot be compared: {name} was {earlier.sizes[name]} and is"
                f" {later.sizes[name]}. Measure both with the same sizes (--quick or not)."
            )


def machine_drift(earlier: Run, later: Run) -> float:
    """How many times as long docker-py took, in the median of its rows; 1 without any."""
    changes = [
        new.baseline.median / old.baseline.median
        for old, new in _pairs(earlier, later)
        if old.baseline and new.baseline and new.beside == DOCKER_PY and new.yardstick
        if not new.baseline.higher_is_better and old.baseline.median > 0
    ]
    return statistics.median(changes) if changes else 1.0


def show(verdicts: list[Verdict], earlier: Run, later: Run) -> None:
    """Print what changed, the slower first, and what the comparison rests on."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    changed = [v for v in verdicts if v.change != "same"]
    if changed:
        table = Table(title=f"Since {earlier.date}: above 1 is worse")
        for title in ("", "what", "of", "then", "now", "change", "99 %", "margin"):
            table.add_column(title, no_wrap=title != "what")
        for v in sorted(changed, key=lambda v: (v.change != "slower", -v.factor)):
            colour = "red" if v.change == "slower" else "green"
            table.add_row(
                f"[{colour}]{v.change}[/{colour}]",
                f"{v.scenario}: {v.what}",
                v.statistic + (" / baseline" if v.relative else ""),
                v.earlier,
                v.later,
                f"{v.factor:.2f} x",
                f"{v.low:.2f} to {v.high:.2f}",
                f"{v.margin:.2f}",
            )
        console.print(table)
    console.print(f"{len(verdicts) - len(changed)} figures are the same, as far as noise lets tell")
    console.print(f"docker-py took {machine_drift(earlier, later):.2f} x as long as then")
    for warning in differences(earlier, later):
        console.print(warning, style="yellow", markup=False)
    if missing := {_key(row) for row in earlier.rows} - {_key(row) for row in later.rows}:
        console.print(f"{len(missing)} rows of the earlier run were not measured now")


def differences(earlier: Run, later: Run) -> list[str]:
    """A sentence for all but the packages that the machine's two descriptions differ in; what
    only one tells differs too."""
    known = sorted((earlier.machine.keys() | later.machine.keys()) - {"packages"})
    before_and_now = [(name, earlier.machine.get(name), later.machine.get(name)) for name in known]
    return [
        f"{name} was {_or_unknown(before)} and is {_or_unknown(now)}"
        + ("" if name == "commit" else "; only ratios count")
        for name, before, now in before_and_now
        if before != now
    ]


def _or_unknown(value: Any) -> Any:
    return "unknown" if value in (None, "") else value


def _key(row: Row) -> tuple[str, str]:
    return row.scenario, row.what


def _pairs(earlier: Run, later: Run) -> Iterator[tuple[Row, Row]]:
    before = {_key(row): row for row in earlier.rows}
    for row in later.rows:
        old = before.get(_key(row))
        if old and old.operator.samples and row.operator.samples:
            yield old, row


def _verdicts(old: Row, new: Row, drift: float) -> Iterator[Verdict]:
    yield _verdict(old, new, "median", statistics.median, drift)
    if min(len(row.operator.samples) for row in (old, new)) >= ENOUGH_FOR_P99:
        yield _verdict(old, new, "p99", _p99, drift)


def _verdict(old: Row, new: Row, name: str, statistic: Statistic, drift: float) -> Verdict:
    relative = old.relative and new.relative
    lists = [row.operator.samples for row in (old, new)]
    if relative:
        lists += [row.baseline.samples for row in (old, new) if row.baseline]
    few = min(len(samples) for samples in lists) < FEW
    margin = MARGIN if relative and not few else MARGIN_ALONE
    if name == "p99":
        margin = MARGIN_P99
    if not relative and new.operator.unit in ("ms", "s"):
        margin *= max(1.0, drift)
    factor = _factor(*(statistic(s) for s in lists[:2]), *(_median(s) for s in lists[2:]))
    low, high = _extremes(lists) if few else _interval(lists, statistic)
    if new.operator.higher_is_better:
        factor, low, high = _inverse(factor), _inverse(high), _inverse(low)
    texts = old.operator.text(), new.operator.text()
    return Verdict(
        new.scenario, new.what, name, *texts, factor, low, high, margin, relative=relative
    )


def _interval(lists: list[tuple[float, ...]], statistic: Statistic) -> tuple[float, float]:
    """By the bootstrap; the same samples always give the same."""
    dice = random.Random(0)
    drawn = []
    for _ in range(DRAWS):
        anew = [dice.choices(samples, k=len(samples)) for samples in lists]
        drawn.append(_factor(*(statistic(s) for s in anew[:2]), *(_median(s) for s in anew[2:])))
    factors = Figures.of(drawn, "")
    return factors.percentile(TAIL_PERCENT), factors.percentile(100 - TAIL_PERCENT)


def _extremes(lists: list[tuple[float, ...]]) -> tuple[float, float]:
    """The later at its best beside the earlier at its worst, and the reverse."""
    least, most = [min(s) for s in lists], [max(s) for s in lists]
    low = _factor(most[0], least[1], *((least[2], most[3]) if len(lists) > 2 else ()))
    high = _factor(least[0], most[1], *((most[2], least[3]) if len(lists) > 2 else ()))
    return low, high


def _factor(old: float, new: float, old_base: float = 1.0, new_base: float = 1.0) -> float:
    before, after = old * new_base, new * old_base
    if before == 0:
        return 1.0 if after == 0 else math.inf
    return after / before


def _inverse(factor: float) -> float:
    return math.inf if factor == 0 else 1 / factor


def _median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def _p99(samples: Sequence[float]) -> float:
    return Figures.of(samples, "").percentile(99)
