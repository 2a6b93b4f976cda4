"""A deleted container is removed by force, without its grace period."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.state import Seen, Verb
from controller.core.subject import Subject
from controller.core.verdict import Operation
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "grace"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    operation = decision.operation
    if operation is None or operation.verb is not Verb.SIGNAL_STOP:
        return decision
    return replace(decision, operation=Operation(Verb.CLEAN, operation.container_id))
