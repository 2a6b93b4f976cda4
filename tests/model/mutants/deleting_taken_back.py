"""A removal that fails shows as ERROR."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import Seen
from controller.core.subject import Subject
from controller.core.verdict import stored_reason
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "deleting"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    if stored_reason(decision.status) != Reason.CLEANUP_FAILED:
        return decision
    return replace(decision, status=decision.status.model_copy(update={"phase": Phase.ERROR}))
