"""A Secret that vanished comes back with another key than its container's."""

from __future__ import annotations

from tests.model.mutants import Mutation
from tests.model.shell import Did, Shell
from tests.model.state import Entry, World

SCENARIO = "keys, lost"
CAUGHT_BY = "as wished"


def mutate(mutation: Mutation) -> None:
    by_the_rules = Shell.ensure_secret

    def anew(shell: Shell, w: World, i: int, entry: Entry) -> Did:
        one = w.ones[i]
        if not one.secret and not entry.key:
            entry = entry._replace(key=shell.new_key(one))
        return by_the_rules(shell, w, i, entry)

    mutation.setattr(Shell, "ensure_secret", anew)
