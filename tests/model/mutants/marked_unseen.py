"""The stop marker is set for a container that is not known to run."""

from __future__ import annotations

from dataclasses import replace

from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "others, Stop"
CAUGHT_BY = "paused"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    deleted = subject.metadata.deletion_timestamp is not None
    return subject, seen if deleted else replace(seen, fresh=True)
