"""Kubernetes quantities are read exactly, and rounded up where an engine takes whole units."""

from fractions import Fraction

import pytest

from controller.core import quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (2, 2),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("1.", 1),
        ("500m", Fraction(1, 2)),
        ("100u", Fraction(1, 10_000)),
        ("7n", Fraction(7, 10**9)),
        ("2k", 2000),
        ("3M", 3 * 10**6),
        ("1Ki", 1024),
        ("512Mi", 512 * 1024**2),
        ("1.5Gi", 3 * 512 * 1024**2),
        ("1Ti", 1024**4),
        ("1Pi", 1024**5),
        ("7Ei", 7 * 1024**6),
        ("1G", 10**9),
        ("1E", 10**18),
        ("1e3", 1000),
        ("1E+3", 1000),
        ("25e-1", Fraction(5, 2)),
        (2**63 - 2, 2**63 - 2),
    ],
)
def test_a_quantity_is_its_exact_value(text: str | int, value: Fraction | int) -> None:
    assert quantity.parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", " 1", "1 ", "1\n", "abc", ".", "0x10", "1_0", "1,5", "1.2.3", "١", "Infinity", "NaN"),
        *("2g", "2GB", "1mi", "1KI", "+1", "-1", "1e", "1e999999999", "1" * 33, True),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_rule(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"Kubernetes quantity.*512Mi"):
        quantity.parse(text)


@pytest.mark.parametrize("text", [0, "0", "0.0", "0Mi", 2**63 - 1, "8Ei", "1e99"])
def test_a_limit_is_above_0_and_fits_64_bits(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"above 0 and below 2\^63 - 1"):
        quantity.parse(text)


def test_parts_of_a_unit_are_rounded_up() -> None:
    assert quantity.units("1500m") == 2
    assert quantity.units("0.1Ki") == 103
    assert quantity.millis("100u") == 1
    assert quantity.millis("1.5") == 1500
    assert quantity.millis(2) == 2000
