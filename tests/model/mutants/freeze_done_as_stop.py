"""A pause whose pauseMethod is Freeze stops."""

from __future__ import annotations

from controller.core import verdict
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Container
from controller.core.verdict import Verdict
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "operation"


def mutate(mutation: Mutation) -> None:
    def pause(row: verdict._Row, c: Container) -> Verdict:
        message = "the container is being stopped"
        return row._stopping(c, Phase.RUNNING, Reason.PAUSING, message)

    mutation.setattr(verdict._Row, "_pause", pause)
