"""A decision is carried out though another wish came with the answer to its status."""

from __future__ import annotations

from tests.model.mutants import Mutation
from tests.model.shell import Shell
from tests.model.state import Dec, World

SCENARIO = "calls, Stop"
CAUGHT_BY = "started while paused"


def mutate(mutation: Mutation) -> None:
    by_the_rules = Shell._go_on

    def go_on(shell: Shell, w: World, i: int, dec: Dec, deleting: bool, gen: int) -> World:
        entry = w.ones[i].entry
        return by_the_rules(shell, w, i, dec, deleting, entry.obj.gen if entry else gen)

    mutation.setattr(Shell, "_go_on", go_on)
