"""A deletion waits out the grace period and removes, without a signal before."""

from __future__ import annotations

from datetime import datetime

from controller.core import verdict
from controller.core.state import Container, Seen, Verb
from tests.model.mutants import Mutation

SCENARIO = "crashes"  # where nothing is stopped but what is deleted
CAUGHT_BY = "signal"


def mutate(mutation: Mutation) -> None:
    def ending(c: Container, seen: Seen, deadline: datetime, now: datetime) -> Verb | None:
        return Verb.KILL if now >= deadline else None

    mutation.setattr(verdict, "_ending", ending)
