"""What a restart does not know yet counts as nothing."""

from __future__ import annotations

from dataclasses import replace

from controller.core.state import Holdings, Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "crashes"
CAUGHT_BY = "outage"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    return subject, replace(seen, holdings=seen.holdings or Holdings())
