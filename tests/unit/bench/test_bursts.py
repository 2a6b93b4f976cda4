"""Rates of whole lives, told in slices."""

from bench.bursts import SLICE, slice_rates


def test_a_slice_lasts_from_the_end_of_the_one_before_it() -> None:
    ends = [100.0 + 0.5 * i for i in range(1, SLICE + 1)] + [105.0 + i for i in range(1, SLICE + 1)]
    assert slice_rates(100.0, reversed(ends)) == [SLICE / 5, SLICE / 10]


def test_what_fills_no_slice_is_left_out() -> None:
    assert slice_rates(0.0, [float(i) for i in range(1, SLICE + 4)]) == [SLICE / SLICE]
    assert slice_rates(0.0, [1.0] * (SLICE - 1)) == []
