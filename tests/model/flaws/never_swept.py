"""What outlives its object stays for ever."""

from __future__ import annotations

from tests.model import watch
from tests.model.mutants import Mutation

SCENARIO = "sweep"
CAUGHT_BY = "as wished"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(watch, "sweep", lambda w, i, held: w)
