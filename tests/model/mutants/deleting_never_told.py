"""A deletion is carried out, and DELETING is never written."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "deleting"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    deleted = subject.metadata.deletion_timestamp is not None
    return replace(decision, status=subject.status) if deleted else decision
