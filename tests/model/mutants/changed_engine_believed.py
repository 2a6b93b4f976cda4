"""Another engine is believed about containers that it never had."""

from __future__ import annotations

from controller.core import decide
from tests.model.mutants import Mutation

SCENARIO = "other engine"
CAUGHT_BY = "missing"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(decide, "_changed_engine", lambda stored, seen: False)
