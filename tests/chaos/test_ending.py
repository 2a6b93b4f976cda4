"""What the end of a round excuses, and what it does not: failed starts, Secrets that are left,
containers that are gone, and ends of containers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError

from controller.core import names
from tests.chaos import ending
from tests.chaos.deeds import Deeds, Told, seconds
from tests.chaos.ending import Finding
from tests.chaos.sides import Yard
from tests.chaos.truth import wrong

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
    box = SimpleNamespace(latest=obj, uid="u", name="n", container_name="c")
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


class Cluster:
    """Knows of one Secret, that a Sandbox owns."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    async def call(self, _method: str, _path: str) -> dict[str, Any]:
        meta = {"name": "s", "namespace": "ns", "ownerReferences": [{"uid": self.owner}]}
        return {"items": [{"metadata": meta}]}


def _yard(deeds: Deeds) -> tuple[Yard, list[str]]:
    violations: list[str] = []
    return Yard(cast(Any, None), "ns", deeds, lambda what, _: violations.append(what)), violations


def _version(mode: str = "Running", **meta: Any) -> dict[str, Any]:
    known = {
        "uid": "u",
        "name": "n",
        "namespace": "ns",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": _stamp(0),
    }
    return {
        "metadata": known | meta,
        "spec": {
            "operatingMode": mode,
            "pauseMethod": "Stop",
            "restartPolicy": "Never",
            "onMissing": "Recreate",
        },
    }


def _stamp(second: int) -> str:
    return f"2026-11-24T00:{second // 60:02}:{second % 60:02}Z"


def _at(second: float) -> float:
    return seconds(_stamp(0)) + second


def _checks(yard: Yard, plane: Any, deeds: Deeds) -> ending.Ending:
    side = cast(Any, SimpleNamespace(yard=yard, plane=plane))
    return ending.Ending([side], cast(Any, None), cast(Any, None), deeds, cast(Any, None))


@pytest.mark.parametrize(
    ("meta", "excused"),
    [({}, True), ({"deletionTimestamp": _stamp(9)}, False)],
    ids=["dropped", "released"],
)
async def test_the_secret_of_one_that_was_released_is_a_leak(
    meta: dict[str, Any], excused: bool
) -> None:
    deeds = Deeds()
    yard, violations = _yard(deeds)

    # DELETED tells of the version before, in which our finalizer still is.
    await yard._tell("DELETED", _version(finalizers=[names.FINALIZER], **meta))

    assert yard.dropped == ({"u"} if excused else set())
    assert bool(await _checks(yard, Cluster("u"), deeds)._secrets_left()) != excused
    assert not violations


@pytest.mark.parametrize(
    ("asked", "at", "outsiders", "action", "early"),
    [
        (9, 8.9, False, "create", True),
        (9, 9.1, False, "create", False),
        (9, 8.9, True, "create", False),
        (9, 8.9, False, "start", False),  # a creation that failed: none was told
        (None, 8.9, False, "create", True),
    ],
)
async def test_an_operator_removes_nothing_of_what_lives(
    asked: int | None, at: float, outsiders: bool, action: str, early: bool
) -> None:
    deeds = Deeds(removed={"c"} if outsiders else set())
    deeds.told["u"] = [Told(_at(1), action, "c", ""), Told(_at(at), "destroy", "c", "")]
    yard, _ = _yard(deeds)
    meta = {} if asked is None else {"deletionTimestamp": _stamp(asked)}
    await yard._tell("MODIFIED", _version(**meta))

    found: list[Finding] = await _checks(yard, None, deeds)._removed()

    assert bool(found) == early


@pytest.mark.parametrize("by_outsider", [True, False])
async def test_missing_is_only_what_an_outsider_removed(by_outsider: bool) -> None:
    yard, violations = _yard(Deeds(removed={"c"} if by_outsider else {"d"}))
    ready = {"type": "Ready", "status": "False", "reason": "ContainerMissing"}
    status = {"phase": "MISSING", "container": {"id": "c"}, "conditions": [ready]}

    await yard._tell("MODIFIED", _version() | {"status": status})

    assert bool(violations) != by_outsider


@pytest.mark.parametrize(
    ("line", "is_crash"),
    [
        ("2026 CRITICAL controller: uncaught", True),
        ("2026 ERROR   asyncio: Task exception was never retrieved", True),
        ("2026 ERROR   controller.reconciler: u is tried again after an internal error: x", True),
        ("2026 ERROR   controller.operations: Run of u failed: KeyError", True),
        ("Traceback (most recent call last):", True),
        ("2026 ERROR   kopf._cogs.clients.watching: Request attempt #6/7 failed", False),
        ('2026 DEBUG   controller.handlers: \n  File "x.py", line 1\nOSError', False),
    ],
)
def test_an_operators_crash_is_known_by_its_log(line: str, is_crash: bool) -> None:
    assert bool(ending._CRASH.search(line)) == is_crash


STOPPED, EXITED, LOST = ("PAUSED", "Stopped"), ("ERROR", "Exited"), ("PAUSED", "MemoryLost")


def _killed(**more: Any) -> Deeds:
    """What was done to one whose container ran from second 10 to 100."""
    return Deeds(ended={"u": [(_at(100), _at(100))]}, **more)


@pytest.mark.parametrize(
    ("deeds", "marked", "says", "right"),
    [
        (Deeds(paused={"u": [_at(90)]}), True, STOPPED, True),
        (Deeds(paused={"u": [_at(90)]}), False, STOPPED, False),
        (Deeds(paused={"u": [_at(120)]}), True, STOPPED, False),
        (Deeds(paused={"u": [_at(120)]}, deaf={"ns": [(_at(99), _at(119))]}), True, STOPPED, True),
        (Deeds(paused={"u": [_at(120)]}, deaf={"no": [(_at(99), _at(119))]}), True, STOPPED, False),
        (Deeds(), False, EXITED, False),
        (_killed(), False, EXITED, True),
        (_killed(), False, ("ERROR", "Completed"), False),
        (_killed(), False, LOST, False),
        (_killed(told={"u": [Told(_at(50), "pause", "c", "")]}), False, LOST, True),
        (_killed(told={"u": [Told(_at(5), "pause", "c", "")]}), False, LOST, False),
    ],
)
def test_how_a_paused_one_ended(
    deeds: Deeds, marked: bool, says: tuple[str, str], right: bool
) -> None:
    _expect(deeds, marked, says, right)


@pytest.mark.parametrize(
    ("thawed", "deaf", "right"),
    [(60, [], False), (97, [], True), (99.5, [], True), (60, [(_at(62), _at(98))], True)],
)
def test_memory_is_lost_of_what_was_thawed_only_where_nobody_heard(
    thawed: float, deaf: list[tuple[float, float]], right: bool
) -> None:
    events = [Told(_at(50), "pause", "c", ""), Told(_at(thawed), "unpause", "c", "")]
    _expect(_killed(told={"u": events}, deaf={"": deaf}), False, LOST, right)


@pytest.mark.parametrize(
    ("said", "gap", "right"), [(98, (99, 110), True), (98, (20, 30), False), (40, (99, 110), False)]
)
def test_a_freeze_that_docker_told_nobody_of_is_believed_where_nobody_listened(
    said: int, gap: tuple[float, float], right: bool
) -> None:
    told = {"u": [Told(_at(45), "pause", "c", ""), Told(_at(46), "unpause", "c", "")]}
    deeds = _killed(told=told, gaps=[(_at(gap[0]), _at(gap[1]))])
    deeds.hear_frozen({"id": "c", "startedAt": _stamp(10)}, _at(said))
    _expect(deeds, False, LOST, right)


def _expect(deeds: Deeds, marked: bool, says: tuple[str, str], right: bool) -> None:
    phase, reason = says
    holds = {"Ready": phase == "PAUSED", "Stalled": phase == "ERROR", "EngineReachable": True}
    conditions = [
        {"type": type_, "status": str(holds.get(type_, False)), "reason": reason}
        for type_ in ("Ready", "Available", "Reconciling", "Stalled", "EngineReachable")
    ]
    status = {
        "phase": phase,
        "observedGeneration": 1,
        "container": {"id": "c"},
        "conditions": conditions,
    }
    obj = _version("Paused") | {
        "status": status | ({"pausing": {"containerId": "c"}} if marked else {})
    }
    state = {"Status": "exited", "ExitCode": 137, "OOMKilled": False}
    state |= {"StartedAt": _stamp(10), "FinishedAt": _stamp(100)}

    problem = wrong(obj, {"Id": "c", "State": state}, deeds)

    assert (problem is None) == right, problem
