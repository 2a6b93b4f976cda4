"""Every event of the engine is taken for the echo of something known."""

from __future__ import annotations

from tests.model import words
from tests.model.mutants import Mutation

SCENARIO = "others"
CAUGHT_BY = "heard"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(words, "implied", lambda event, holdings: True)
