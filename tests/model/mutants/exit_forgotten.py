"""One that exited by itself is not started again."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.state import Seen, Verb
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "others"
CAUGHT_BY = "as wished"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    operation = decision.operation
    restarts = operation is not None and operation.verb is Verb.START
    container = seen.holdings.container if seen.holdings else None
    if restarts and container is not None and container.finished_at is not None:
        return replace(decision, operation=None)
    return decision
