"""One that someone else has frozen is told as RUNNING."""

from __future__ import annotations

from dataclasses import replace

from controller.core import verdict
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Container
from controller.core.verdict import Verdict
from tests.model.mutants import Mutation

SCENARIO = "others"
CAUGHT_BY = "phase"


def mutate(mutation: Mutation) -> None:
    by_the_rules = verdict._Row._frozen

    def frozen(row: verdict._Row, c: Container) -> Verdict:
        told = by_the_rules(row, c)
        if told.reason is not Reason.PAUSED_EXTERNALLY:
            return told
        return replace(told, phase=Phase.RUNNING, reason=Reason.READY)

    mutation.setattr(verdict._Row, "_frozen", frozen)
