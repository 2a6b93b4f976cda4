"""The scenarios that are explored."""

from __future__ import annotations

from typing import Any

from tests.model.steps import Scenario

NO_KEY: dict[str, Any] = {"sessionKey": {"mode": "None"}}
RECREATE: dict[str, Any] = {"onMissing": "Recreate"}
STOP: dict[str, Any] = {"pauseMethod": "Stop"}
USERS = frozenset({"pause", "delete"})
OTHERS = frozenset({"exits", "freeze", "thaw", "start", "remove", "reboot"})
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
    Scenario("crashes", NO_KEY, USERS, 1, _faults("crash"), 2),
    Scenario("crashes, Stop", NO_KEY | STOP, USERS, 2, _faults("crash"), 1),
    Scenario("api", NO_KEY | STOP, USERS, 2, _faults("api"), 2),
    Scenario("keys", {}, USERS, 1, _faults("crash", "api"), 2),
    Scenario("keys, lost", {}, USERS, 1, _faults("crash", "secret"), 2),
    Scenario("name taken", {}, USERS, 1, _faults("name taken", "crash", "api"), 1),
    Scenario("names", NO_KEY, REUSE, 2, _faults("vanish", "crash"), 1),
    Scenario("sweep", NO_KEY, REUSE, 1, _faults("vanish", "crash"), 1, resyncs=True),
    Scenario("calls", NO_KEY, USERS, 2, CALLS, 1),
    Scenario("calls, twice", NO_KEY, USERS, 1, CALLS, 2),
    Scenario("calls, Stop", NO_KEY | STOP, USERS, 2, CALLS, 1),
    Scenario("outage", NO_KEY, USERS, 1, _faults("outage"), 1),
    Scenario("outage, others", NO_KEY, PAUSE, 1, _faults("outage", "exits", "remove"), 2),
    Scenario("other engine", NO_KEY, USERS, 1, _faults("swap"), 1),
    Scenario("others", NO_KEY, USERS, 1, OTHERS, 2),
    Scenario("others, Stop", NO_KEY | STOP, USERS, 2, OTHERS, 1),
    Scenario("events", NO_KEY, USERS, 1, OTHERS | {"events"}, 1),
    Scenario("events, resync", NO_KEY, PAUSE, 1, OTHERS | {"events"}, 1, resyncs=True),
    Scenario("never", NO_KEY | {"restartPolicy": "Never"}, USERS, 1, _faults("exits", "crash"), 1),
    Scenario("recreate", NO_KEY | RECREATE, USERS, 1, _faults("remove", "crash"), 2),
    Scenario("recreate, keys", RECREATE, USERS, 1, _faults("remove", "unanswered"), 1),
    Scenario("recreate, keys, twice", RECREATE, frozenset(), 0, _faults("remove", "unanswered"), 2),
    Scenario("limits", NO_KEY, RESIZE, 2, CALLS, 1),
    Scenario("readiness", NO_KEY | PROBED, PAUSE, 1, _faults("answers", "exits", "crash"), 1),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}
