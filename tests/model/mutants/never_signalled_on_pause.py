"""A pause waits out the grace period, and sends no signal before."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.state import Seen, Verb
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "crashes, Stop"
CAUGHT_BY = "signal"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    deleted = subject.metadata.deletion_timestamp is not None
    operation = decision.operation
    if deleted or operation is None or operation.verb is not Verb.SIGNAL_STOP:
        return decision
    return replace(decision, operation=None)
