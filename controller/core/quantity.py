"""Kubernetes quantities ("500m", "1.5", "512Mi"), read exactly.

`parse` gives the number; `millis` (cpu) and `units` (memory in bytes) round up to what engines
take, as Kubernetes' own MilliValue and Value do.
The grammar is k8s.io/apimachinery/pkg/api/resource's, without signs, since a limit is positive.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import re2

PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
"""What the CRD's schema accepts as text. Two digits of exponent: more only burns memory."""

MAX_LENGTH = 32
LIMIT = 2**63 - 1
"""Kubernetes and Docker count in 64 signed bits; Kubernetes cuts what is more to this number, so a
value is valid below it."""

_TEXT = re2.compile(PATTERN)
_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    **{suffix: Fraction(1000**n) for n, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**n) for n, suffix in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=1024, typed=True)  # or True would be 1
def parse(quantity: str | int) -> Fraction:
    """The exact value, above 0 and below 2^63-1. Raises ValueError with the rule in words."""
    text = str(quantity)
    match = _TEXT.fullmatch(text) if len(text) <= MAX_LENGTH and text.isascii() else None
    if match is None or isinstance(quantity, bool):
        raise ValueError(
            "should be a Kubernetes quantity, a number with an optional suffix: "
            "m, k, M, G, T or Ki, Mi, Gi, Ti (such as 500m, 1.5 or 512Mi)"
        )
    number, suffix = match[1], match[3] or ""
    if suffix in _SUFFIXES:
        value = _decimal(number) * _SUFFIXES[suffix]
    else:
        value = _decimal(number) * Fraction(10) ** int(suffix[1:])
    if not 0 < value < LIMIT:
        raise ValueError("should be above 0 and below 2^63 - 1")
    return value


def units(quantity: str | int) -> int:
    """Whole units (bytes), rounded up. Raises ValueError as `parse` does."""
    return math.ceil(parse(quantity))


def millis(quantity: str | int) -> int:
    """Thousandths (millicores), rounded up. Raises ValueError as `parse` does."""
    return math.ceil(parse(quantity) * 1000)


def _decimal(number: str) -> Fraction:
    whole, _, part = number.partition(".")
    return Fraction(int(whole + part), 10 ** len(part))
