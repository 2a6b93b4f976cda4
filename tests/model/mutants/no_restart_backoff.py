"""One that exited is restarted at once, as often as it exits."""

from __future__ import annotations

from datetime import datetime

from controller.core import verdict
from controller.core.state import Container
from tests.model.mutants import Mutation

SCENARIO = "others"
CAUGHT_BY = "backoff"


def mutate(mutation: Mutation) -> None:
    def due(c: Container, restarts: int, now: datetime) -> datetime:
        return now

    mutation.setattr(verdict, "_restart_due", due)
