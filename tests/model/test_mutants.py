"""A rule that is broken is noticed, by the property that is there for it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import pytest

from tests.model import mutants
from tests.model.explore import Explorer
from tests.model.mutants import Mutation
from tests.model.scenarios import SCENARIOS
from tests.model.state import Violation

MUTANTS = [module.name for module in pkgutil.iter_modules(mutants.__path__)]
Record = Callable[[str, object], None]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    mutant = importlib.import_module(f"{mutants.__name__}.{name}")
    mutant.mutate(Mutation(monkeypatch))
    explorer = Explorer(SCENARIOS[mutant.SCENARIO])
    with pytest.raises(Violation) as caught:
        explorer.run()
    actions = len(caught.value.trace) - 1
    record_property("model", f"mutant {name}: caught by {caught.value} ({actions} actions)")
    assert caught.value.name == mutant.CAUGHT_BY, "\n".join(caught.value.trace)
