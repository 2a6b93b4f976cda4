"""One that is heard of after the engine was listed has nothing there."""

from __future__ import annotations

from tests.model.mutants import Mutation
from tests.model.shell import Shell
from tests.model.state import EMPTY, Entry, Obj, World

SCENARIO = "crashes"
CAUGHT_BY = "heard"


def mutate(mutation: Mutation) -> None:
    mutation.setattr(Shell, "born", born)


def born(shell: Shell, w: World, obj: Obj) -> Entry:
    return Entry(obj, False, EMPTY if w.listed else None, not obj.deleting, False)
