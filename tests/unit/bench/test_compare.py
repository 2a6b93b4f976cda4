"""What counts as slower: only what noise does not explain."""

import random
from dataclasses import replace

import pytest

from bench.compare import Verdict, compare, differences, machine_drift
from bench.figures import OWN_QUIET, Figures, Row, compared, counts, milliseconds, rates, seconds
from dev.progress import DevError
from tests.unit.bench.runs import run_of


def noisy(median: float, count: int = 40, seed: int = 0) -> Figures:
    """Samples spread by a tenth about their median, in milliseconds."""
    dice = random.Random(seed)
    return Figures.of((median * dice.lognormvariate(0, 0.1) for _ in range(count)), "ms")


def verdict(old: Row, new: Row) -> Verdict:
    return compare(run_of(old), run_of(new))[0]


def alone(figures: Figures) -> Row:
    return Row("s", "w", figures)


def test_the_same_twice_is_the_same() -> None:
    row = compared("s", "w", noisy(100), noisy(80))
    assert verdict(row, row).change == "same"
    assert verdict(row, row).factor == 1


def test_what_became_slower_and_what_became_faster_is_told() -> None:
    quick, slow = noisy(100, seed=1), noisy(150, seed=2)
    baseline = noisy(80, seed=3), noisy(80, seed=4)
    old, new = compared("s", "w", quick, baseline[0]), compared("s", "w", slow, baseline[1])
    assert verdict(old, new).change == "slower"
    assert verdict(new, old).change == "faster"
    assert verdict(old, new).factor == pytest.approx(1.5, rel=0.1)


def test_a_difference_within_the_noise_is_none() -> None:
    old = compared("s", "w", noisy(100, 10, seed=1), noisy(80, 10, seed=2))
    new = compared("s", "w", noisy(108, 10, seed=3), noisy(80, 10, seed=4))
    assert verdict(old, new).change == "same"


def test_a_slower_machine_is_not_a_slower_operator() -> None:
    old = compared("s", "w", noisy(100), noisy(80))
    new = compared("s", "w", noisy(200), noisy(160))
    assert verdict(old, new).change == "same"


def test_without_a_baseline_times_must_be_slower_than_the_machine_is() -> None:
    yardstick = compared("s", "create", noisy(100), noisy(80))
    half_as_fast = compared("s", "create", noisy(200), noisy(160))
    quick, slow = alone(noisy(10)), alone(noisy(19))
    (_, beside_slow_machine) = compare(run_of(yardstick, quick), run_of(half_as_fast, slow))
    assert beside_slow_machine.change == "same"
    assert verdict(quick, slow).change == "slower"


def test_a_baseline_of_the_operators_own_is_no_yardstick() -> None:
    old = Row("s", "w", noisy(100), noisy(100), beside="among 100")
    new = Row("s", "w", noisy(200), noisy(200), beside="among 100")
    assert verdict(old, new).change == "slower"
    assert not verdict(old, new).relative


def test_a_row_that_promises_a_ratio_to_the_operators_own_quiet_is_compared_by_that_ratio() -> None:
    old = Row("s", "w", noisy(100), noisy(80), beside=OWN_QUIET)
    both_slower = Row("s", "w", noisy(200), noisy(160), beside=OWN_QUIET)
    assert verdict(old, both_slower).change == "same"
    assert verdict(old, replace(both_slower, baseline=noisy(80))).change == "slower"


def test_what_sleeps_most_of_the_time_is_no_yardstick() -> None:
    call, sleep = noisy(5), milliseconds([10_000.0] * 40)
    old = replace(compared("s", "w", call, sleep), yardstick=False)
    new = replace(old, baseline=milliseconds([20_000.0] * 40))
    assert not verdict(old, new).relative
    assert verdict(old, new).factor == 1
    assert machine_drift(run_of(old), run_of(new)) == 1


def test_every_difference_of_the_machines_is_told_but_the_packages() -> None:
    earlier, later = run_of(), run_of()
    earlier.machine |= {"etcd_syncs": False, "commit": "a"}
    later.machine |= {"etcd_syncs": True, "commit": "b", "processor": "fast", "packages": {}}
    assert differences(earlier, later) == [
        "commit was a and is b",
        "etcd_syncs was False and is True; only ratios count",
        "processor was unknown and is fast; only ratios count",
    ]
    assert differences(later, later) == []


def test_few_samples_must_lie_apart() -> None:
    old = compared("s", "w", seconds([17.0, 18.0]), seconds([16.0, 16.5]))
    apart = compared("s", "w", seconds([25.0, 26.0]), seconds([16.0, 16.5]))
    touching = compared("s", "w", seconds([19.0, 26.0]), seconds([16.0, 16.5]))
    assert verdict(old, apart).change == "slower"
    assert verdict(old, touching).change == "same"


def test_a_rate_gets_slower_by_falling() -> None:
    old = compared("s", "w", rates([10.0, 10.2]), rates([10.0, 10.1]))
    new = compared("s", "w", rates([7.0, 7.1]), rates([10.0, 10.1]))
    assert verdict(old, new).change == "slower"
    assert verdict(new, old).change == "faster"


def test_writes_where_none_were_are_slower() -> None:
    none, some = alone(counts([0])), alone(counts([3]))
    assert verdict(none, some).change == "slower"
    assert verdict(none, none).change == "same"
    assert verdict(some, none).change == "faster"


def test_the_tail_is_compared_where_there_are_samples_enough() -> None:
    steady = milliseconds([0.010 + i * 1e-5 for i in range(100)])
    tailed = milliseconds([*(s / 1000 for s in steady.samples[:90]), *[0.5] * 10])
    median, tail = compare(run_of(alone(steady)), run_of(alone(tailed)))
    assert (median.statistic, median.change) == ("median", "same")
    assert (tail.statistic, tail.change) == ("p99", "slower")
    assert [v.statistic for v in compare(run_of(alone(noisy(1))), run_of(alone(noisy(1))))] == [
        "median"
    ]


def test_rows_of_one_run_alone_are_left_out() -> None:
    known, other = alone(noisy(1)), Row("s", "other", noisy(1))
    empty = Row("s", "w", milliseconds([]))
    assert compare(run_of(known), run_of(other)) == []
    assert compare(run_of(known), run_of(empty)) == []


def test_runs_of_different_sizes_are_refused() -> None:
    row = alone(noisy(1))
    with pytest.raises(DevError, match="population was 50 and is 500"):
        compare(run_of(row, population=50), run_of(row, population=500))
    assert compare(run_of(row, population=50), run_of(row, population=50, lately_added=1))
