"""An outage is never told."""

from __future__ import annotations

from datetime import timedelta

from controller.core import decide
from tests.model.mutants import Mutation

SCENARIO = "outage"
CAUGHT_BY = "outage"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(decide, "ENGINE_OUTAGE_SHOWN_AFTER", timedelta(days=99))
