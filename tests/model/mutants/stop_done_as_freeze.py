"""A pause whose pauseMethod is Stop freezes."""

from __future__ import annotations

from controller.core import verdict
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Container, Verb
from controller.core.verdict import Operation, Verdict
from tests.model.mutants import Mutation

SCENARIO = "crashes, Stop"
CAUGHT_BY = "operation"


def mutate(mutation: Mutation) -> None:
    def pause(row: verdict._Row, c: Container) -> Verdict:
        freeze = Operation(Verb.FREEZE, c.id)
        return row._is(Phase.RUNNING, Reason.PAUSING, "the container is being frozen", freeze)

    mutation.setattr(verdict._Row, "_pause", pause)
