"""The container is made before the Secret of its key."""

from __future__ import annotations

from controller.core import decide
from controller.core.state import Seen
from controller.core.subject import Subject
from tests.model.mutants import Mutation

SCENARIO = "keys"
CAUGHT_BY = "secret"


def mutate(mutation: Mutation) -> None:
    by_the_rules = decide._needs_secret

    def needs_secret(sandbox: Subject, seen: Seen) -> bool:
        has_one = seen.holdings is not None and seen.holdings.container is not None
        return has_one and by_the_rules(sandbox, seen)

    mutation.setattr(decide, "_needs_secret", needs_secret)
