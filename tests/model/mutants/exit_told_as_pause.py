"""One that exited by itself while wished paused is called PAUSED."""

from __future__ import annotations

from controller.core import decide, verdict
from controller.core.reasons import Reason
from tests.model.mutants import Mutation

SCENARIO = "others, Stop"
CAUGHT_BY = "paused"


def mutate(mutation: Mutation) -> None:
    for module in (decide, verdict):
        mutation.setattr(module, "exit_cause", lambda stored, c: Reason.STOPPED)
