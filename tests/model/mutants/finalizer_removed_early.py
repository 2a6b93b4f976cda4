"""The finalizer goes while the container is being removed."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import ApiStep, Decision
from controller.core.state import Seen, Verb
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "finalizer"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    if decision.operation is not None and decision.operation.verb is Verb.CLEAN:
        return replace(decision, step=ApiStep.RELEASE, operation=None)
    return decision
