"""One that this operator froze is told, when it is resumed, as frozen by someone else."""

from __future__ import annotations

from controller.core import verdict
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Container, Verb
from controller.core.verdict import Operation, Verdict
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "phase"


def mutate(mutation: Mutation) -> None:
    def frozen(row: verdict._Row, c: Container) -> Verdict:
        thaw = Operation(Verb.THAW, c.id)
        return row._is(Phase.ERROR, Reason.PAUSED_EXTERNALLY, "it is thawed", thaw)

    mutation.setattr(verdict._Row, "_frozen", frozen)
