"""A container that is being thawed is told as frozen."""

from __future__ import annotations

from controller.core import verdict
from controller.core.state import Verb
from tests.model.mutants import Mutation

SCENARIO = "others"
CAUGHT_BY = "paused"


def mutate(mutation: Mutation) -> None:
    by_the_rules = verdict._Row._may_yet

    def may_yet(row: verdict._Row, verb: Verb) -> bool:
        return verb is not Verb.THAW and by_the_rules(row, verb)

    mutation.setattr(verdict._Row, "_may_yet", may_yet)
