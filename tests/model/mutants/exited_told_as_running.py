"""One that exited, and is restarted in a moment, is told as RUNNING."""

from __future__ import annotations

from datetime import datetime

from controller.core import verdict
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Container
from controller.core.verdict import Verdict
from tests.model.mutants import Mutation

SCENARIO = "others"
CAUGHT_BY = "phase"


def mutate(mutation: Mutation) -> None:
    def ended(
        row: verdict._Row, c: Container, cause: Reason, next_: str, look_again: datetime | None
    ) -> Verdict:
        return row._is(Phase.RUNNING, Reason.READY, "", look_again=look_again)

    mutation.setattr(verdict._Row, "_ended", ended)
