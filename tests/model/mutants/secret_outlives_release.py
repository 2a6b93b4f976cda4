"""The finalizer goes before the Secret does."""

from __future__ import annotations

from dataclasses import replace

from controller.core.state import SecretState, Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "keys"
CAUGHT_BY = "finalizer"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    deleted = subject.metadata.deletion_timestamp is not None
    return subject, replace(seen, secret=SecretState.ABSENT) if deleted else seen
