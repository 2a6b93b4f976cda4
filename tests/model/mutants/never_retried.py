"""What failed is never tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "as wished"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    if seen.failure is None:
        return subject, seen
    due = seen.failure.retry_at + timedelta(hours=9)
    return subject, replace(seen, failure=replace(seen.failure, retry_at=due))
