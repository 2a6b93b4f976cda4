"""A container that was stopped by a pause is started again."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.resources import Phase
from controller.core.state import Run, Seen, Verb
from controller.core.subject import Subject
from controller.core.verdict import Operation
from tests.model.mutants import Mutation

SCENARIO = "calls, Stop"
CAUGHT_BY = "started while paused"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    container = seen.holdings.container if seen.holdings else None
    if container is None or container.run is not Run.EXITED or seen.busy is not None:
        return decision
    if decision.status.phase is not Phase.PAUSED:
        return decision
    return replace(decision, operation=Operation(Verb.START, container.id))
