"""Whose failed start is excused at the end of a round, and that nothing is started to see it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError

from tests.chaos import ending
from tests.chaos.truth import Deeds

TASK = "task 0123456789ab: already exists"
BEFORE, AFTER = 1.0, 2e9
"""Moments around that in which the container was made."""


class Engine:
    """One container, that was never started."""

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal
        self.starts = 0

    async def __call__(self, ask: Callable[[Any], Any]) -> Any:
        return ask(self)

    def inspect_container(self, _name: str) -> dict[str, Any]:
        created = "2026-11-24T00:00:00.123456789Z"
        return {"Id": "c", "Created": created, "State": {"Status": "created"}}

    def start(self, _name: str) -> None:
        self.starts += 1
        if self.refusal:
            raise APIError("refused", explanation=self.refusal)


@pytest.mark.parametrize(
    ("message", "refusal", "killed", "mode", "starts", "finding"),
    [
        (TASK, TASK, AFTER, "Running", 1, None),
        (TASK, "", AFTER, "Running", 1, "and it can"),
        (TASK, "no space left", AFTER, "Running", 1, "otherwise"),
        (TASK, TASK, BEFORE, "Running", 0, "StartFailed"),
        ("no space left", TASK, AFTER, "Running", 0, "StartFailed"),
        (TASK, TASK, AFTER, "Paused", 0, "StartFailed"),
    ],
)
async def test_only_what_a_killed_engine_left_behind_is_excused(
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    refusal: str,
    killed: float,
    mode: str,
    starts: int,
    finding: str | None,
) -> None:
    monkeypatch.setattr(ending, "REST_SECONDS", 0.0)
    monkeypatch.setattr(ending, "_LOOK_SECONDS", 0.0)
    ready = {"type": "Ready", "status": "False", "reason": "StartFailed", "message": message}
    obj = {
        "metadata": {"uid": "u", "name": "n", "generation": 1},
        "spec": {"operatingMode": mode, "restartPolicy": "Always", "onMissing": "Report"},
        "status": {"phase": "ERROR", "observedGeneration": 1, "conditions": [ready]},
    }
    box = SimpleNamespace(latest=obj, uid="u", name="n")
    side = SimpleNamespace(yard=SimpleNamespace(ending=list, living=lambda: [box]))
    engine = Engine(refusal)
    checks = ending.Ending(
        cast(Any, [side]),
        cast(Any, engine),
        cast(Any, None),
        Deeds(kills=[killed]),
        cast(Any, None),
    )

    found = [what for what, _ in await checks._rest()]

    assert engine.starts == starts
    assert checks.stuck == (set() if finding else {"u"})
    assert (finding in found[0]) if finding else not found
