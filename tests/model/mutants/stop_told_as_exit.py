"""One that we stopped is told as one that exited by itself."""

from __future__ import annotations

from controller.core import decide, verdict
from controller.core.reasons import Reason
from tests.model.mutants import Mutation

SCENARIO = "calls, Stop"
CAUGHT_BY = "as wished"


def mutate(mutation: Mutation) -> None:
    for module in (decide, verdict):
        mutation.setattr(module, "exit_cause", lambda stored, c: Reason.EXITED)
