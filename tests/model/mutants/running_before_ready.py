"""RUNNING is told before the first readiness."""

from __future__ import annotations

from controller.core import verdict
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Container
from controller.core.verdict import Verdict
from tests.model.mutants import Mutation

SCENARIO = "readiness"
CAUGHT_BY = "phase"


def mutate(mutation: Mutation) -> None:
    def readiness(row: verdict._Row, c: Container) -> Verdict:
        return row._is(Phase.RUNNING, Reason.READY, "the container runs")

    mutation.setattr(verdict._Row, "_readiness", readiness)
