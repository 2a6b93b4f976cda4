"""A Secret whose name is taken is tried again and again, without a pause."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import ApiStep, Decision
from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "name taken"
CAUGHT_BY = "backoff"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    if seen.refusal is None or subject.metadata.deletion_timestamp is not None:
        return decision
    return replace(decision, step=ApiStep.ENSURE_SECRET)
