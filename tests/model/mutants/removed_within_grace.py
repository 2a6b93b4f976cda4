"""A container that is deleted has a moment to heed its signal, whatever its grace period."""

from __future__ import annotations

from datetime import datetime

from controller.core import verdict
from controller.core.state import Container, Seen
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "grace"


def mutate(mutation: Mutation) -> None:
    def deadline(c: Container, seen: Seen, of_rule: datetime) -> datetime:
        return seen.signalled_at + verdict.LATE_GRACE if seen.signalled_at else of_rule

    mutation.setattr(verdict, "_deadline", deadline)
