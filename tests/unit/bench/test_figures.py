"""What is told of samples: percentiles that were measured, and targets met or missed."""

import math

from bench.figures import Figures, at_most, compared, counts, milliseconds, rates, seconds


def test_percentiles_are_samples_that_were_measured() -> None:
    figures = Figures.of(range(1, 101), "ms")
    assert [figures.percentile(p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert Figures.of([7], "ms").percentile(99) == 7


def test_the_median_of_two_is_between_them() -> None:
    assert seconds([20, 30]).median == 25


def test_no_samples_are_no_figure_and_meet_no_target() -> None:
    nothing = milliseconds([])
    assert math.isnan(nothing.median)
    assert nothing.text() == "-"
    assert at_most("s", "w", nothing, 50).met is False


def test_few_samples_are_told_one_by_one_and_many_by_percentiles() -> None:
    assert seconds([29.31, 22.7]).text() == "29.3 / 22.7 s"
    assert Figures.of(range(1, 101), "ms").text() == "50 / 95 / 99 ms"


def test_a_target_is_held_against_the_percentile_that_it_names() -> None:
    slow_once = Figures.of([10] * 99 + [400], "ms")
    assert at_most("s", "w", slow_once, 50).met is True
    worst = at_most("s", "w", slow_once, 50, percent=100)
    assert worst.met is False
    assert worst.target == "p100 <= 50 ms"
    assert at_most("s", "w", counts([0]), 0).met is True


def test_a_comparison_is_of_medians() -> None:
    row = compared("s", "w", seconds([1.2, 1.3, 9.0]), seconds([1.0, 1.0, 1.0]), 1.15)
    assert row.ratio == 1.3
    assert row.met is False
    assert compared("s", "w", seconds([1]), seconds([2])).met is None


def test_a_rate_must_reach_its_bound() -> None:
    row = compared("s", "w", rates([9.5]), rates([10.0]), 0.9)
    assert row.met is True
    assert row.target == "median >= 0.9 x"
    assert compared("s", "w", rates([8.5]), rates([10.0]), 0.9).met is False
