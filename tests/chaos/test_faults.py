"""That a seed repeats the plan whatever it meets, and what counts as a revoked token."""

from collections import Counter
from pathlib import Path
from typing import Any, cast

from tests.chaos.faults import Clock, Fault, Lane, Tally
from tests.chaos.load import UNANSWERED
from tests.chaos.sides import Token
from tests.integration.operator import Refused


class _Clock(Clock):
    """Waits take no time; it is over after so many."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._waits = waits

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        if len(self.waited) > self._waits:
            self.over.set()


class _Lane(Lane):
    """Each of its faults draws as many numbers as it meets Sandboxes."""

    def __init__(self, meets: int, clock: Clock) -> None:
        tally = Tally(Counter(), Counter(), Counter(), Counter(), [])
        super().__init__("lane", "7", (1.0, 2.0), clock, tally)
        self._meets = meets
        self.done: list[tuple[str, float]] = []

    def faults(self) -> dict[str, Fault]:
        return {kind: self._doing(kind) for kind in "abcde"}

    def _doing(self, kind: str) -> Fault:
        async def do() -> bool:
            self.done.append((kind, self.rng.random()))
            for _ in range(self._meets):
                self.rng.random()
            return True

        return do


async def test_a_seed_repeats_the_plan_whatever_it_meets() -> None:
    plans = []
    for meets in (0, 1, 9):
        clock = _Clock(12)
        lane = _Lane(meets, clock)
        await lane.run()
        plans.append((lane.done, clock.waited))

    assert plans[0] == plans[1] == plans[2]
    assert len({number for _, number in plans[0][0]}) == len(plans[0][0]) == 12


class _Cluster:
    """Keeps Secrets, and gives tokens unless it is told to refuse."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.refuses = False

    async def call(
        self, method: str, path: str, body: Any = None, *, ok: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        if method == "DELETE":
            name = path.rpartition("/")[2]
            found = name in self.secrets
            self.secrets.discard(name)
            return {} if found else {"code": 404}
        if path.endswith("/token") and self.refuses:
            raise Refused(500, "not now")
        if path.endswith("/secrets"):
            self.secrets.add(body["metadata"]["name"])
            return {"metadata": body["metadata"] | {"uid": "u"}}
        return {"status": {"token": "t"}}


async def test_the_token_before_is_revoked_though_one_was_refused_in_between(
    tmp_path: Path,
) -> None:
    cluster = _Cluster()
    token = Token(cast(Any, cluster), "a", tmp_path / "token")
    await token.begin()
    assert not await token.revoke()
    cluster.refuses = True
    try:
        await token.issue()
    except UNANSWERED:
        cluster.refuses = False
    await token.issue()

    assert await token.revoke()

    assert "operator-a-1" not in cluster.secrets
    assert "operator-a-3" in cluster.secrets
    assert not await token.revoke()
