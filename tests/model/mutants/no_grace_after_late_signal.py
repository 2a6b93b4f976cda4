"""A run whose signal came late is killed on the spot."""

from __future__ import annotations

from datetime import timedelta

from controller.core import verdict
from tests.model.mutants import Mutation

SCENARIO = "crashes"
CAUGHT_BY = "signal"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(verdict, "LATE_GRACE", timedelta())
