"""What each phase promises, written down a second time: a small table, held against every decision.

It shares no rule with `controller.core.verdict`: it says what must not be told, where that says
what is. `check` reads what `decide` was asked and what it answered, so it runs once for each
different question.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.core import names
from controller.core.decide import ApiStep, Decision
from controller.core.reasons import ConditionType, Reason
from controller.core.resources import Phase, SandboxStatus
from controller.core.state import Container, Run, Seen, Verb, run_id
from controller.core.subject import Subject
from tests.model.state import Violation

FIRST_BACKOFF = timedelta(seconds=1)
TIME_TO_HEED = timedelta(seconds=2)
OUTAGE_TOLD_AFTER = timedelta(seconds=10)
ENDED = (Reason.EXITED, Reason.COMPLETED, Reason.OOM_KILLED)
OBSERVED = (*ENDED, Reason.PAUSED_EXTERNALLY, Reason.NOT_READY, Reason.STARTUP_DEADLINE_EXCEEDED)
"""Causes of ERROR that show in what is held. The others are how an attempt failed, and are told
until the next one has ended."""
PAUSED_AS = {
    None: (Reason.NOT_STARTED,),
    Run.CREATED: (Reason.NOT_STARTED,),
    Run.FROZEN: (Reason.FROZEN,),
    Run.EXITED: (Reason.STOPPED, Reason.MEMORY_LOST),
    Run.RUNNING: (),
}
"""What a container (None: there is none) that is wished paused may be called PAUSED for."""
STARTED_FROM = {
    Verb.START: (Run.CREATED, Run.EXITED),
    Verb.THAW: (Run.FROZEN,),
    Verb.FREEZE: (Run.RUNNING,),
}


def check(subject: Subject, seen: Seen, decision: Decision, now: datetime) -> None:
    """Raises Violation where a decision breaks what its phase promises."""
    if names.FINALIZER not in subject.metadata.finalizers:
        return
    case = _Case(subject, seen, decision, now)
    case.engine_reachable()
    if case.gone:
        _hold(case.phase is Phase.DELETING, "deleting", f"deletion is told as {case.told}")
    if case.untouched:
        return
    case.conditions()
    case.signal()
    if case.gone or case.blind:
        return
    case.operation()
    _hold(case.may_be(), "phase", f"{case.told} is told of {case.found}")


def _hold(true: bool, name: str, why: str) -> None:
    if not true:
        raise Violation(name, why)


def _reason(status: SandboxStatus) -> str:
    ready = status.condition(ConditionType.READY)
    return ready.reason if ready is not None else ""


@dataclass(frozen=True)
class _Case:
    """One question and its answer."""

    subject: Subject
    seen: Seen
    decision: Decision
    now: datetime

    @property
    def stored(self) -> SandboxStatus:
        return self.subject.status

    @property
    def phase(self) -> Phase:
        return self.decision.status.phase

    @property
    def reason(self) -> str:
        return _reason(self.decision.status)

    @property
    def told(self) -> str:
        return f"{self.phase} {self.reason}"

    @property
    def gone(self) -> bool:
        return self.subject.metadata.deletion_timestamp is not None

    @property
    def paused(self) -> bool:
        return self.subject.spec is not None and self.subject.spec.operating_mode == "Paused"

    @property
    def held(self) -> Container | None:
        return self.seen.holdings.container if self.seen.holdings else None

    @property
    def run(self) -> Run | None:
        return self.held.run if self.held else None

    @property
    def found(self) -> str:
        wished = "deleted" if self.gone else "wished paused" if self.paused else "wished running"
        return f"{self.run} {wished}, stored {self.stored.phase} {_reason(self.stored)}"

    @property
    def changed_engine(self) -> bool:
        recorded = self.stored.container.engine_id if self.stored.container else ""
        return bool(recorded) and self.seen.engine.id not in (None, recorded)

    @property
    def blind(self) -> bool:
        away = self.seen.engine.unreachable_since is not None
        return self.seen.holdings is None or away or self.changed_engine

    @property
    def untouched(self) -> bool:
        """The status is left as it is, because the Secret comes first or nothing is known."""
        waits = self.decision.step is ApiStep.ENSURE_SECRET or self.blind
        return waits and self.decision.status == self.stored

    # The conditions

    def conditions(self) -> None:
        """They follow from the phase and the wish."""
        told = self.decision.status
        if self.blind and not self.gone:
            return  # those of another wish may be kept
        if not told.conditions:
            _hold(self.phase is Phase.STARTING, "condition", f"{self.told} without conditions")
            return
        if self.gone:
            ready = False
        elif self.paused:
            ready = self.phase is Phase.PAUSED
        else:
            ready = self.phase is Phase.RUNNING and self.reason == Reason.READY
        at_work = self.phase in (Phase.STARTING, Phase.DELETING)
        expected = {
            ConditionType.READY: ready,
            ConditionType.AVAILABLE: self.phase is Phase.RUNNING,
            ConditionType.STALLED: self.phase in (Phase.ERROR, Phase.MISSING),
            ConditionType.RECONCILING: at_work or self.reason == Reason.PAUSING,
        }
        for type_, value in expected.items():
            condition = told.condition(type_)
            right = condition is not None and condition.status == str(value)
            _hold(right, "condition", f"{type_} is not {value}: {self.told} of {self.found}")

    def engine_reachable(self) -> None:
        """What is told of the engine is so; an outage, once it has lasted."""
        before = self.stored.condition(ConditionType.ENGINE_REACHABLE)
        after = self.decision.status.condition(ConditionType.ENGINE_REACHABLE)
        if after is None or after == before:
            return
        since = self.seen.engine.unreachable_since
        if after.status == "True":
            right = self.seen.holdings is not None and not self.blind
        elif after.reason == Reason.ENGINE_CHANGED:
            right = self.changed_engine
        else:
            right = since is not None and self.now >= since + OUTAGE_TOLD_AFTER
        _hold(right, "outage", f"EngineReachable becomes {after.status} {after.reason}")

    # The operation

    def signal(self) -> None:
        """What is ended by force had its signal, and a moment to heed it; or that signal failed."""
        operation, seen, held = self.decision.operation, self.seen, self.held
        forced = operation is not None and operation.verb in (Verb.KILL, Verb.CLEAN)
        if not forced or held is None or held.run not in (Run.RUNNING, Run.FROZEN):
            return
        sent = seen.signalled == run_id(held)
        failed = seen.failure is not None and seen.failure.verb is Verb.SIGNAL_STOP
        _hold(sent or failed, "signal", f"{self.found} is ended without a signal")
        if sent and seen.signalled_at is not None:
            heeded = self.now >= seen.signalled_at + TIME_TO_HEED
            _hold(heeded, "signal", f"{self.found} is ended as soon as it has its signal")

    def operation(self) -> None:
        """It fits what is held, and how the Sandbox is to be paused."""
        operation, spec, held = self.decision.operation, self.subject.spec, self.held
        pausing = self.decision.status.pausing
        assert spec is not None
        stops = pausing is not None and pausing != self.stored.pausing
        if operation is not None:
            verb = operation.verb
            stops = stops or verb in (Verb.SIGNAL_STOP, Verb.KILL)
            fits = self.run in STARTED_FROM.get(verb, (self.run,))
            _hold(fits, "operation", f"{verb} of {self.found}")
            freezes = verb is Verb.FREEZE
            right = not freezes or (self.paused and spec.pause_method == "Freeze")
            _hold(right, "operation", f"{verb}: pauseMethod is {spec.pause_method}")
            if verb is Verb.START and self.reason == Reason.RESTARTING and held is not None:
                finished = held.finished_at or self.now
                due = self.now >= finished + FIRST_BACKOFF
                _hold(due, "backoff", f"{self.found} is restarted at once")
        right = not stops or spec.pause_method == "Stop"
        _hold(right, "operation", f"it is stopped: pauseMethod is {spec.pause_method}")

    # The phase

    def may_be(self) -> bool:
        """The phase, of what is held."""
        match self.phase:
            case Phase.STARTING:
                return self._starts()
            case Phase.RUNNING:
                return self.run is Run.RUNNING and self._ready()
            case Phase.PAUSED:
                return self.paused and self.reason in PAUSED_AS[self.run]
            case Phase.MISSING:
                assert self.subject.spec is not None
                reports = self.subject.spec.on_missing == "Report"
                return self.held is None and self.stored.container is not None and reports
            case Phase.ERROR:
                return self._fails()
            case Phase.DELETING:
                return False

    def _same_container(self) -> bool:
        recorded = self.stored.container
        return self.held is not None and recorded is not None and recorded.id == self.held.id

    def _same_run(self) -> bool:
        recorded, held = self.stored.container, self.held
        if recorded is None or held is None or recorded.id != held.id:
            return False
        return recorded.started_at == held.started_at

    def _ready(self) -> bool:
        """It answers, or did in this run; or nobody asks."""
        spec, probe = self.subject.spec, self.seen.probe
        if spec is None or spec.readiness is None or (probe is not None and probe.ready):
            return True
        return self._same_run() and self.stored.phase is Phase.RUNNING

    def _starts(self) -> bool:
        """It is not up yet, or is about to be something else."""
        if self.run is not Run.RUNNING or not self._ready() or self._failed():
            return True
        return self.reason in (Reason.RESUMING, Reason.PAUSING)

    def _fails(self) -> bool:
        """There is a cause."""
        if self._failed():
            return True
        if self.reason not in OBSERVED:
            return self.stored.phase is Phase.ERROR and self.reason == _reason(self.stored)
        if self.reason in ENDED:
            return self.run is Run.EXITED
        if self.reason == Reason.PAUSED_EXTERNALLY:
            as_wished = self.stored.phase is Phase.PAUSED and self._same_container()
            ours = as_wished and _reason(self.stored) == Reason.FROZEN
            return self.run is Run.FROZEN and not self.paused and not ours
        probe = self.seen.probe
        return self.run is Run.RUNNING and not (probe is not None and probe.ready)

    def _failed(self) -> bool:
        failure = self.seen.failure
        refusal = self.seen.refusal
        return any(f is not None and self.reason == f.reason for f in (failure, refusal))
