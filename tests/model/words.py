"""From the model's words into `decide`'s and back: each question is put to the real `decide` once.

Statuses are the real ones, numbered. Times in them are the three ages, at fixed distances from a
`now` that never moves; the microseconds tell runs apart. Of the conditions' lastTransitionTime only
that of Reconciling decides anything (the startup deadline); the others are stored as OLD, so that
states stay equal, after it was noted whether the status differs as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core import decide as core
from controller.core import names
from controller.core.reasons import ConditionType, Reason
from controller.core.resources import ObjectMeta, SandboxSpec, SandboxStatus
from controller.core.rules import Rules
from controller.core.state import (
    Container,
    EngineView,
    Failure,
    Holdings,
    Limits,
    Probe,
    Run,
    SecretState,
    Seen,
    Verb,
    run_id,
)
from controller.core.subject import Subject
from controller.core.verdict import Wish, wish
from controller.engines.base import EngineEvent
from controller.entries import implied
from controller.reconciler import merge_patch
from tests.model import phases
from tests.model.state import MID, NEVER, NEW, OLD, Box, Dec, Entry, Fail, Held, Obj, Op, Todo

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
AGES = {NEW: NOW, MID: NOW - timedelta(seconds=5), OLD: NOW - timedelta(hours=1)}
GRACE_SECONDS = 10
MEMORY = (64 << 20, 128 << 20)
"""The two sizes of spec.resources.limits.memory."""
VOLUME, KEPT = "sbx-u1-work", "sbx-u1-keep"
SECRETS = {"U": SecretState.UNKNOWN, "A": SecretState.ABSENT, "P": SecretState.PRESENT}
PROBES = {"": None, "ready": Probe(True, False), "bad": Probe(False, False)} | {
    "failing": Probe(False, True)
}
ENGINES = ("engine-1", "engine-2")


class Words:
    """The questions and answers of one exploration."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.readiness = "readiness" in spec
        self.secret = spec.get("sessionKey", {}).get("mode", "Generate") == "Generate"
        self.reports_missing = spec.get("onMissing", "Report") == "Report"
        self.never_restarts = spec.get("restartPolicy") == "Never"
        self._specs = {
            (paused, limit): SandboxSpec.parse(
                {
                    "image": "box",
                    "operatingMode": "Paused" if paused else "Running",
                    "resources": {"limits": {"memory": str(MEMORY[limit])}},
                    **spec,
                }
            )
            for paused in (False, True)
            for limit in (0, 1)
        }
        self.statuses: list[SandboxStatus] = []
        self._numbers: dict[SandboxStatus | str, int] = {}
        self._decisions: dict[Any, Dec] = {}
        self._older: dict[tuple[int, bool], int] = {}
        self._implied: dict[tuple[Held | None, int, str], bool] = {}
        self._merged: dict[tuple[int, int, int], int] = {}
        self._metadata: dict[tuple[int, bool, int], ObjectMeta] = {}
        self.first = self.number(SandboxStatus.parse({"phase": "STARTING"}))

    # Statuses

    def number(self, status: SandboxStatus) -> int:
        """Equal statuses have one number."""
        kept = tuple(
            c
            if c.type == ConditionType.RECONCILING and self.readiness
            else c.model_copy(update={"last_transition_time": AGES[OLD]})
            for c in status.conditions
        )
        status = status.model_copy(update={"conditions": kept})
        text = status.model_dump_json()
        if text not in self._numbers:
            self._numbers[text] = len(self.statuses)
            self.statuses.append(status)
        return self._numbers[text]

    def older(self, number: int, long: bool) -> int:
        """The status when time has gone by."""
        key = (number, long)
        if key not in self._older:
            status = self.statuses[number]
            changes: dict[str, Any] = {
                "conditions": tuple(
                    c.model_copy(
                        update={"last_transition_time": _older(c.last_transition_time, long)}
                    )
                    for c in status.conditions
                )
            }
            if (c := status.container) is not None:
                times = {
                    "started_at": _older(c.started_at, long),
                    "finished_at": _older(c.finished_at, long),
                }
                changes["container"] = c.model_copy(update=times)
            if status.pausing is not None:
                times = {"at": _older(status.pausing.at, long)}
                changes["pausing"] = status.pausing.model_copy(update=times)
            self._older[key] = self.number(status.model_copy(update=changes))
        return self._older[key]

    def merged(self, before: int, after: int, current: int) -> int:
        """What is stored once the change from `before` to `after` is merged into `current`."""
        if before == current:
            return after
        key = (before, after, current)
        if key not in self._merged:
            old, new, stored = (self.statuses[n].manifest() for n in key)
            changed = _apply(stored, merge_patch(old, new))
            self._merged[key] = self.number(SandboxStatus.parse(changed))
        return self._merged[key]

    def told(self, number: int) -> tuple[str, str]:
        """Phase and reason."""
        status = self.statuses[number]
        ready = status.condition(ConditionType.READY)
        return status.phase.value, ready.reason if ready else ""

    def marked(self, number: int, cid: int) -> bool:
        """The stop marker names this container."""
        pausing = self.statuses[number].pausing
        return pausing is not None and pausing.container_id == f"c{cid}"

    def marked_run(self, number: int, box: Box) -> bool:
        """The stop marker names this container, and none but this run of it was seen."""
        recorded = self.statuses[number].container
        started = recorded.started_at if recorded is not None else None
        same = started is None or started.microsecond == box.runno
        return same and self.marked(number, box.cid)

    def grace_over(self, number: int) -> bool:
        """The grace period of a stop is over."""
        pausing = self.statuses[number].pausing
        return pausing is not None and pausing.at == AGES[OLD]

    # Decisions

    def decide(self, entry: Entry, op: Op | None, away: int, engine: str | None) -> Dec:
        """What the real `decide` says."""
        obj, held = entry.obj, entry.held
        secret = entry.secret
        if secret == "P" and not entry.key and (held is None or held.box is None):
            secret = "U"
        busy = op.verb if op else None
        signalled = 0
        if entry.signalled is not None:
            box = held.box if held else None
            signalled = 1 if box and (box.cid, box.runno) == entry.signalled else 2
        if signalled and entry.just_signalled:
            signalled += 2
        fresh = entry.fresh and not entry.look and held is not None
        fails = (entry.fail, entry.refusal)
        key = (obj, held, fresh, secret, busy, signalled, fails, entry.probe, away, engine)
        found = self._decisions.get(key)
        if found is None:
            found = self._decisions[key] = self._decide(*key)
        return found

    def _decide(
        self,
        obj: Obj,
        held: Held | None,
        fresh: bool,
        secret: str,
        busy: Verb | None,
        signalled: int,
        fails: tuple[Fail | None, Fail | None],
        probe: str,
        away: int,
        engine: str | None,
    ) -> Dec:
        holdings = None if held is None else _holdings(held)
        container = holdings.container if holdings else None
        run = run_id(container) if container is not None else "c0@"
        seen = Seen(
            engine=EngineView(engine, AGES[away] if away else None),
            holdings=holdings,
            fresh=fresh,
            secret=SECRETS[secret],
            busy=busy,
            signalled=(None, run, "c0@")[signalled and (signalled - 1) % 2 + 1],
            signalled_at=(None, AGES[MID], NOW)[(signalled + 1) // 2],
            failure=_failure(fails[0]),
            refusal=_failure(fails[1]),
            probe=PROBES[probe],
        )
        subject = self.subject(obj)
        decision = core.decide(subject, seen, Rules(), NOW)
        phases.check(subject, seen, decision, NOW)
        operation, box = decision.operation, held.box if held else None
        todo = None
        if operation is not None:
            memory = operation.limits.memory_bytes if operation.limits else None
            todo = Todo(
                operation.verb,
                int((operation.container_id or "c0")[1:]),
                operation.volumes,
                MEMORY.index(memory) if memory else 0,
                (box.cid, box.runno) if operation.run and box else None,
            )
        probed = decision.probe is not None and box is not None
        return Dec(
            decision.status != subject.status,
            self.number(decision.status),
            decision.step,
            todo,
            decision.cancel,
            (box.cid, box.runno) if probed and box else None,
            _due(decision.look_again),
        )

    def subject(self, obj: Obj) -> Subject:
        key = (obj.deleting, obj.claimed, obj.gen)
        if key not in self._metadata:
            self._metadata[key] = ObjectMeta(
                name="a",
                namespace="team",
                uid="u1",
                resource_version="1",
                generation=obj.gen,
                creation_timestamp=AGES[OLD],
                deletion_timestamp=AGES[obj.deleting] if obj.deleting else None,
                finalizers=(names.FINALIZER,) if obj.claimed else (),
            )
        spec = self._specs[obj.paused, obj.limit]
        return Subject(self._metadata[key], spec, self.statuses[obj.status])

    def wish(self, obj: Obj) -> Wish:
        return wish(self.subject(obj))

    def implied(self, held: Held | None, cid: int, action: str) -> bool:
        """`controller.entries.implied`."""
        key = (held, cid, action)
        if key not in self._implied:
            event = EngineEvent("u1", f"c{cid}", action)
            self._implied[key] = implied(event, None if held is None else _holdings(held))
        return self._implied[key]


def _holdings(held: Held) -> Holdings:
    container = None if held.box is None else _container(held.box)
    kept = (KEPT,) if held.vol or held.box else ()
    return Holdings(container, (VOLUME,) if held.vol else (), kept, "team", "a")


def _container(box: Box) -> Container:
    ended = box.run is Run.EXITED
    return Container(
        id=f"c{box.cid}",
        name="sbx-u1",
        run=box.run,
        created_at=AGES[OLD],
        started_at=_moment(box.started, box.runno),
        finished_at=_moment(box.finished, box.runno) if ended else None,
        exit_code=box.code if ended else None,
        ports={80: 32768} if box.run is Run.RUNNING else {},
        stop_grace_seconds=GRACE_SECONDS,
        limits=Limits(memory_bytes=MEMORY[box.limit]),
    )


def _moment(age: int, runno: int) -> datetime | None:
    return None if age == NEVER else AGES[age] + timedelta(microseconds=runno)


def _due(look_again: datetime | None) -> int:
    if look_again is None:
        return NEVER
    return MID if look_again - NOW <= NOW - AGES[MID] else OLD


def _failure(fail: Fail | None) -> Failure | None:
    if fail is None:
        return None
    retry_at = AGES[OLD] if fail.due else NOW + timedelta(seconds=2)
    return Failure(fail.verb, Reason(fail.reason), "why", retry_at, fail.attempts)


def _older(moment: datetime | None, long: bool) -> datetime | None:
    if moment is None:
        return None
    runno = timedelta(microseconds=moment.microsecond)
    if long:
        return AGES[OLD] + runno
    return AGES[MID] + runno if moment - runno == AGES[NEW] else moment


def _apply(stored: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    result = dict(stored)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            old = result.get(name)
            result[name] = _apply(old if isinstance(old, dict) else {}, value)
        else:
            result[name] = value
    return result
