"""lastTransitionTime is that of every look, so each status differs."""

from __future__ import annotations

from typing import Any

from controller.core import decide
from controller.core.resources import Condition
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "converges"


def mutate(mutation: Mutation) -> None:
    by_the_rules = decide._condition

    def always_new(sandbox: Subject, *of: Any) -> Condition:
        condition = by_the_rules(sandbox, *of)
        return condition.model_copy(update={"last_transition_time": of[-1]})

    mutation.setattr(decide, "_condition", always_new)
