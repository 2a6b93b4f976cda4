"""The engine is not asked who it is before it is believed that something is gone."""

from __future__ import annotations

from tests.model.mutants import Mutation
from tests.model.shell import Shell

SCENARIO = "other engine"
CAUGHT_BY = "missing"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(Shell, "may_be_elsewhere", lambda shell, w, entry: False)
