"""The engine does not know by the name that the UID has a container."""

from __future__ import annotations

from tests.model import engine
from tests.model.mutants import Mutation

SCENARIO = "calls, twice"
CAUGHT_BY = "one container"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(engine, "taken", lambda one: None)
