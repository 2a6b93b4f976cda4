"""The scenarios that are explored."""

from __future__ import annotations

from typing import Any

from tests.model.steps import Scenario

NO_KEY: dict[str, Any] = {"sessionKey": {"mode": "None"}}
RECREATE: dict[str, Any] = {"onMissing": "Recreate"}
STOP: dict[str, Any] = {"pauseMethod": "Stop"}
USERS = frozenset({"pause", "delete"})
OTHERS = frozenset({"exits", "freeze", "thaw", "start", "remove", "reboot"})
FROZEN = frozenset({"thaw", "reboot"})
"""Of the OTHERS' acts, those that only one that is frozen can meet."""
PROBED: dict[str, Any] = {
    "ports": [{"name": "AGENT_SERVER", "containerPort": 80}],
    "readiness": {"httpGet": {"port": "AGENT_SERVER", "path": "/ready"}},
}
CALLS = frozenset({"refused", "unanswered"})
"""An engine call fails, before or after it has taken effect, or takes effect later."""


def _faults(*of: str) -> frozenset[str]:
    return frozenset(of)


REUSE = frozenset({"create", "delete"})
RESIZE = frozenset({"limit", "pause", "delete"})
PAUSE = frozenset({"pause"})
_ALL = (
    Scenario("crashes", NO_KEY, USERS, 1, _faults("crash"), 2, 28000),
    Scenario("crashes, Stop", NO_KEY | STOP, USERS, 2, _faults("crash"), 1, 51000),
    Scenario("crashes, Freeze", NO_KEY, USERS, 2, _faults("crash"), 1, 21000),
    Scenario("api", NO_KEY | STOP, USERS, 2, _faults("api"), 2, 17000),
    Scenario("api, Freeze", NO_KEY, USERS, 2, _faults("api"), 1, 4000),
    Scenario("keys", {}, USERS, 1, _faults("crash", "api"), 2, 38000),
    Scenario("keys, lost", {}, USERS, 1, _faults("crash", "secret"), 2, 45000),
    Scenario("name taken", {}, USERS, 1, _faults("name taken", "crash", "api"), 1, 700),
    Scenario("names", NO_KEY, REUSE, 2, _faults("vanish", "crash"), 1, 19000),
    Scenario("names, keys", {}, REUSE, 2, _faults("vanish", "crash"), 1, 38000),
    Scenario("sweep", NO_KEY, REUSE, 1, _faults("vanish", "crash"), 1, 50000, resyncs=True),
    Scenario("calls", NO_KEY, USERS, 2, CALLS, 1, 20000),
    Scenario("calls, twice", NO_KEY, USERS, 1, CALLS, 2, 40000),
    Scenario("calls, Stop", NO_KEY | STOP, USERS, 2, CALLS, 1, 47000),
    Scenario("outage", NO_KEY, USERS, 1, _faults("outage"), 1, 21000),
    Scenario("outage, others", NO_KEY, PAUSE, 1, _faults("outage", "exits", "remove"), 2, 53000),
    Scenario("other engine", NO_KEY, USERS, 1, _faults("swap"), 1, 39000),
    Scenario("others", NO_KEY, USERS, 1, OTHERS, 2, 39000),
    Scenario("others, Stop", NO_KEY | STOP, USERS, 2, OTHERS - FROZEN, 1, 37000),
    Scenario("events", NO_KEY, USERS, 1, OTHERS | {"events"}, 1, 15000),
    Scenario("events, resync", NO_KEY, PAUSE, 1, OTHERS | {"events"}, 1, 19000, resyncs=True),
    Scenario(
        "never", NO_KEY | {"restartPolicy": "Never"}, USERS, 1, _faults("exits", "crash"), 1, 8000
    ),
    Scenario("recreate", NO_KEY | RECREATE, USERS, 1, _faults("remove", "crash"), 2, 58000),
    Scenario("recreate, keys", RECREATE, USERS, 1, _faults("remove", "unanswered"), 1, 6000),
    Scenario(
        "recreate, keys, twice", RECREATE, frozenset(), 0, _faults("remove", "unanswered"), 2, 900
    ),
    Scenario("limits", NO_KEY, RESIZE, 2, CALLS, 1, 38000),
    Scenario("limits, crashes", NO_KEY, RESIZE, 2, _faults("crash", "api"), 1, 42000),
    Scenario("readiness", NO_KEY | PROBED, PAUSE, 1, _faults("answers", "exits", "crash"), 1, 9000),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}
