"""A listing is taken without asking whose containers they are."""

from __future__ import annotations

from controller.core.state import Run
from tests.model import engine
from tests.model.mutants import Mutation
from tests.model.state import NEVER, OLD, Box, Held, One

SCENARIO = "events"
CAUGHT_BY = "stranger"


def mutate(mutation: Mutation) -> None:
    of_ours = engine.find
    stranger = Box(engine.STRANGER, Run.RUNNING, 1, OLD, NEVER, 0, 0)

    def find(one: One) -> Held:
        return of_ours(one) if one.box else Held(stranger, one.vol)

    mutation.setattr(engine, "find", find)
