"""That another engine answers is never told."""

from __future__ import annotations

from datetime import datetime

from controller.core import decide
from controller.core.decide import Decision
from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "other engine"
CAUGHT_BY = "outage"


def mutate(mutation: Mutation) -> None:
    by_the_rules = decide._blind

    def blind(
        sandbox: Subject, seen: Seen, now: datetime, *, changed: bool, away: bool
    ) -> Decision:
        if changed:
            return Decision(sandbox.status)
        return by_the_rules(sandbox, seen, now, changed=changed, away=away)

    mutation.setattr(decide, "_blind", blind)
