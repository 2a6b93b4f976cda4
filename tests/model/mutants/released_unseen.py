"""The finalizer goes upon a listing that is not fresh."""

from __future__ import annotations

from dataclasses import replace

from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "finalizer"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    deleted = subject.metadata.deletion_timestamp is not None
    return subject, replace(seen, fresh=True) if deleted else seen
