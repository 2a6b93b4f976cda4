"""The engine is called before the finalizer is stored."""

from __future__ import annotations

from dataclasses import replace

from controller.core import names
from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "finalizer"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    metadata = subject.metadata.model_copy(update={"finalizers": (names.FINALIZER,)})
    return replace(subject, metadata=metadata), seen
