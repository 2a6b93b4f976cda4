"""Nothing is told as Stalled."""

from __future__ import annotations

from typing import Any

from controller.core import decide
from controller.core.reasons import ConditionType
from controller.core.resources import Condition
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "calls"
CAUGHT_BY = "condition"


def mutate(mutation: Mutation) -> None:
    by_the_rules = decide._condition

    def condition(sandbox: Subject, type_: ConditionType, status: bool, *of: Any) -> Condition:
        return by_the_rules(sandbox, type_, status and type_ is not ConditionType.STALLED, *of)

    mutation.setattr(decide, "_condition", condition)
