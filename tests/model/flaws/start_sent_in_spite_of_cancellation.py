"""What has waited for its turn is not asked for any more whether it is wanted."""

from __future__ import annotations

from tests.model.mutants import Mutation
from tests.model.shell import Shell

SCENARIO = "calls"
CAUGHT_BY = "started after deletion"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(Shell, "unwanted", lambda shell, one: False)
