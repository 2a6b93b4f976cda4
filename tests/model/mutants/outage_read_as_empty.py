"""An engine that does not answer counts as one without containers."""

from __future__ import annotations

from dataclasses import replace

from controller.core.state import Holdings, Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "outage"
CAUGHT_BY = "outage"


def mutate(mutation: Mutation) -> None:
    mutation.of_questions(changed)


def changed(subject: Subject, seen: Seen) -> tuple[Subject, Seen]:
    if seen.engine.unreachable_since is None:
        return subject, seen
    engine = replace(seen.engine, unreachable_since=None)
    return subject, replace(seen, engine=engine, holdings=Holdings(), fresh=True)
