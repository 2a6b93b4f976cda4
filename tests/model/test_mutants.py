"""What is broken is noticed, by the property that is there for it: a rule, or the model itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.model import flaws, mutants
from tests.model.explore import Explorer
from tests.model.mutants import Mutation
from tests.model.scenarios import SCENARIOS
from tests.model.state import Violation

Record = Callable[[str, object], None]


def _in(package: ModuleType) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(package.__path__)]


@pytest.mark.parametrize("name", _in(mutants))
def test_a_broken_rule_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    _is_caught(mutants, name, monkeypatch, record_property)


@pytest.mark.parametrize("name", _in(flaws))
def test_a_flaw_of_the_model_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    _is_caught(flaws, name, monkeypatch, record_property)


def _is_caught(
    package: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    broken = importlib.import_module(f"{package.__name__}.{name}")
    broken.mutate(Mutation(monkeypatch))
    explorer = Explorer(SCENARIOS[broken.SCENARIO])
    with pytest.raises(Violation) as caught:
        explorer.run()
    actions = len(caught.value.trace) - 1
    kind = "mutant" if package is mutants else "flaw of the model"
    record_property("model", f"{kind} {name}: caught by {caught.value} ({actions} actions)")
    assert caught.value.name == broken.CAUGHT_BY, "\n".join(caught.value.trace)
