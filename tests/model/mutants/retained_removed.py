"""Volumes whose reclaimPolicy is Retain are removed with the others."""

from __future__ import annotations

from dataclasses import replace

from controller.core.decide import Decision
from controller.core.state import Seen, Verb
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "retained volume"


def mutate(mutation: Mutation) -> None:
    mutation.of_decisions(changed)


def changed(decision: Decision, subject: Subject, seen: Seen) -> Decision:
    operation = decision.operation
    if operation is None or operation.verb is not Verb.CLEAN or seen.holdings is None:
        return decision
    volumes = seen.holdings.volumes + seen.holdings.retained
    return replace(decision, operation=replace(operation, volumes=volumes))
