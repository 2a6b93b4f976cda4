"""How long to wait after a failure: doubled each time up to a cap, and a bit longer at random."""

from __future__ import annotations

import random
from datetime import timedelta

SPREAD = 0.2
"""As much longer, at random: what failed together is not tried together."""


def after(attempts: int, first: timedelta, cap: timedelta) -> timedelta:
    """The wait after so many failed attempts, at least one: between `first` and `cap` * 1.2."""
    nominal: timedelta = min(cap, first * 2 ** min(attempts - 1, 10))
    return nominal * random.uniform(1.0, 1.0 + SPREAD)  # noqa: S311 - spread, no secret
