"""Every state that the scenarios reach is safe, and comes to rest as wished when faults stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.model.explore import Explorer
from tests.model.scenarios import SCENARIOS
from tests.model.state import Violation

Record = Callable[[str, object], None]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_state_is_safe_and_comes_to_rest(name: str, record_property: Record) -> None:
    scenario = SCENARIOS[name]
    try:
        found = Explorer(scenario).run()
    except Violation as violation:
        pytest.fail("\n".join(violation.trace))
    record_property("model", str(found))
    assert found.complete
    assert found.kinds == scenario.user | scenario.fault
    assert found.states >= scenario.least
