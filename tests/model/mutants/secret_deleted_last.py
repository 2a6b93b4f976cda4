"""A deletion removes the container before the Secret."""

from __future__ import annotations

from dataclasses import replace

from controller.core.state import SecretState, Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "keys"
CAUGHT_BY = "secret"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    deleted = subject.metadata.deletion_timestamp is not None
    holds = seen.holdings is not None and not seen.holdings.empty
    return subject, replace(seen, secret=SecretState.ABSENT) if deleted and holds else seen
