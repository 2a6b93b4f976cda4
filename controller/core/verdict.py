"""The table: what was wished x what the engine shows -> phase, reason, what to do about it.

`judge` reads one row. Every row is a few lines below, grouped by wish:

    wished RUNNING   _start, _running, _frozen, _exited
    wished PAUSED    _paused
    wished GONE      _gone

docs/phases.md is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from controller.core.reasons import ConditionType, Reason
from controller.core.resources import MAX_INT32, Pausing, Phase, SandboxSpec, SandboxStatus
from controller.core.rules import Rules
from controller.core.state import (
    Container,
    Failure,
    Holdings,
    Limits,
    Run,
    SecretState,
    Seen,
    Verb,
    run_id,
)
from controller.core.subject import Subject

RESTART_BACKOFF_FIRST = timedelta(seconds=1)
RESTART_BACKOFF_CAP = timedelta(seconds=300)
"""kubelet's: each restart costs the engine, and so others, as much as a first start."""
RESTART_BACKOFF_FORGET = timedelta(minutes=10)
"""A run this long earns the first backoff again; kubelet's figure."""

LATE_GRACE = timedelta(seconds=2)
"""What is left of a grace period to a run whose stop signal came late, as after an outage."""

UNANSWERED_TOLD_AFTER = 3
"""Attempts without an answer, of an engine that answers otherwise, until the status says so."""

_TOLD_BY_FAILURES = frozenset(
    {
        Reason.IMAGE_NOT_FOUND,
        Reason.IMAGE_PULL_FAILED,
        Reason.INVALID_SPEC,
        Reason.PORT_IN_USE,
        Reason.RUNTIME_NOT_FOUND,
        Reason.NAME_CONFLICT,
        Reason.ENGINE_REFUSED,
        Reason.START_FAILED,
        Reason.SECRET_NOT_FOUND,
        Reason.CONFIG_MAP_NOT_FOUND,
        Reason.SESSION_KEY_TOO_SHORT,
        Reason.NAMESPACE_TERMINATING,
        Reason.ENGINE_UNREACHABLE,
    }
)
"""Reasons that an attempt gave. A restart forgets the attempt, not that it failed: what the status
tells of it stays until the next attempt has ended."""


class Wish(StrEnum):
    RUNNING = "Running"
    PAUSED = "Paused"
    GONE = "Gone"


@dataclass(frozen=True, slots=True)
class Operation:
    """One piece of engine work, done in the slow lane."""

    verb: Verb
    container_id: str | None = None
    volumes: tuple[str, ...] = ()
    limits: Limits | None = None
    run: str | None = None
    """The run (`state.run_id`) that a stop signal is meant for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row of the table, applied. `keep` means: leave phase, reason and message as stored."""

    phase: Phase
    reason: Reason
    message: str = ""
    operation: Operation | None = None
    look_again: datetime | None = None
    keep: bool = False
    restart_count: int | None = None
    """None: as stored."""
    pausing: Pausing | None = None


def wish(sandbox: Subject) -> Wish:
    """What the user wants now (invariant 10: spec, status.suspended and the resume annotation)."""
    if sandbox.metadata.deletion_timestamp is not None:
        return Wish.GONE
    if sandbox.spec is not None and sandbox.spec.operating_mode == "Paused":
        return Wish.PAUSED
    suspended = sandbox.status.suspended
    if suspended is not None:
        resumed = sandbox.resume_requested_at
        if resumed is None or suspended.at > resumed:
            return Wish.PAUSED
    return Wish.RUNNING


def stored_reason(status: SandboxStatus) -> str | None:
    ready = status.condition(ConditionType.READY)
    return ready.reason if ready else None


def _same_run(stored: SandboxStatus, c: Container) -> bool:
    recorded = stored.container
    return recorded is not None and recorded.id == c.id and recorded.started_at == c.started_at


def _marked(stored: SandboxStatus, c: Container) -> bool:
    """This operator set out to stop this very run."""
    pausing, recorded = stored.pausing, stored.container
    return (
        pausing is not None
        and pausing.container_id == c.id
        and (recorded is None or recorded.started_at in (None, c.started_at))
    )


def exit_cause(stored: SandboxStatus, c: Container) -> Reason:
    """Why the container's last run ended; judged once, then read from the status."""
    recorded = stored.container
    if (
        recorded is not None
        and recorded.id == c.id
        and recorded.finished_at is not None
        and recorded.finished_at == c.finished_at
        and recorded.reason
    ):
        return Reason(recorded.reason)
    if _marked(stored, c):
        return Reason.STOPPED
    frozen_by_us = stored.phase is Phase.PAUSED and stored_reason(stored) == Reason.FROZEN
    if frozen_by_us and _same_run(stored, c):
        return Reason.MEMORY_LOST
    if c.oom_killed:
        return Reason.OOM_KILLED
    return Reason.COMPLETED if c.exit_code == 0 else Reason.EXITED


def judge(sandbox: Subject, seen: Seen, rules: Rules, now: datetime) -> Verdict:
    """The verdict on a Sandbox whose engine is known and reachable (`seen.holdings` is not None).

    Without holdings only deletion is judged; everything else keeps what is stored.
    """
    wished = wish(sandbox)
    if wished is Wish.GONE:
        return _gone(sandbox, seen, now)
    if sandbox.spec is None:
        return Verdict(
            Phase.ERROR,
            Reason.INVALID_SPEC,
            f"{sandbox.problem}; delete the Sandbox or correct it",
            pausing=sandbox.status.pausing,
        )
    if seen.holdings is None:
        return _keep(sandbox)
    row = _Row(sandbox, sandbox.spec, seen, seen.holdings, rules, now)
    verdict = row.paused() if wished is Wish.PAUSED else row.running()
    return row.hindered(verdict)


def _keep(sandbox: Subject, operation: Operation | None = None) -> Verdict:
    stored = sandbox.status
    ready = stored.condition(ConditionType.READY)
    reason = Reason(ready.reason) if ready else Reason.PENDING
    return Verdict(
        stored.phase,
        reason,
        ready.message if ready else "",
        operation=operation,
        keep=True,
        pausing=stored.pausing,
    )


def _gone(sandbox: Subject, seen: Seen, now: datetime) -> Verdict:
    told = sandbox.status.condition(ConditionType.READY)
    blank = told is None or told.reason != Reason.CLEANUP_FAILED
    holdings = seen.holdings
    reason, message = (
        Reason.DELETING,
        "the container, its volumes and its Secret are being removed",
    )
    refusal = None if seen.refusal is None or seen.refusal.silent else seen.refusal
    if refusal is not None:
        reason, message = Reason.CLEANUP_FAILED, _tried_again(refusal)

    def deleting(operation: Operation | None = None, look_again: datetime | None = None) -> Verdict:
        failure = seen.failure
        if failure is not None and operation is not None and failure.verb is operation.verb:
            due = now >= failure.retry_at
            retry = operation if due else None
            again = look_again if due else min(failure.retry_at, look_again or failure.retry_at)
            if not _unspoken(failure):
                return Verdict(
                    Phase.DELETING,
                    Reason.CLEANUP_FAILED,
                    _tried_again(failure),
                    operation=retry,
                    look_again=again,
                )
            operation, look_again = retry, again
        elif refusal is None and not blank and _to_be_attempted(seen, operation):
            # Told until the next attempt has ended, and while nothing can be attempted.
            return Verdict(
                Phase.DELETING,
                Reason.CLEANUP_FAILED,
                told.message if told else "",
                operation=operation,
                look_again=look_again,
            )
        return Verdict(Phase.DELETING, reason, message, operation=operation, look_again=look_again)

    if holdings is None:
        return deleting()
    container = holdings.container
    if container is None:
        if holdings.volumes:
            return deleting(Operation(Verb.CLEAN, None, holdings.volumes))
        return deleting(None if seen.fresh else Operation(Verb.OBSERVE))
    clean = Operation(Verb.CLEAN, container.id, holdings.volumes)
    if container.run in (Run.CREATED, Run.EXITED):
        return deleting(clean)
    asked = sandbox.metadata.deletion_timestamp or now
    # deletionTimestamp has whole seconds, cut off: the extra second keeps the promise.
    deadline = asked + timedelta(seconds=container.stop_grace_seconds + 1)
    ending = _ending(container, seen, deadline, now)
    if ending is Verb.KILL:
        return deleting(clean)
    if ending is None:
        return deleting(look_again=_deadline(container, seen, deadline))
    signal = Operation(Verb.SIGNAL_STOP, container.id, run=run_id(container))
    return deleting(signal, look_again=deadline)


def _tried_again(failure: Failure) -> str:
    return f"{failure.message}; tried again until it succeeds"


def _to_be_attempted(seen: Seen, operation: Operation | None) -> bool:
    """What failed before is attempted next, or cannot be now: until it has ended, it is told on."""
    if seen.holdings is None or seen.secret is not SecretState.ABSENT:
        return True
    return seen.failure is None and operation is not None


def _deadline(c: Container, seen: Seen, deadline: datetime) -> datetime:
    """When a run that was sent its stop signal is killed."""
    if seen.signalled_at is None:
        return deadline
    left = min(timedelta(seconds=c.stop_grace_seconds), LATE_GRACE)
    return max(deadline, seen.signalled_at + left)


def _ending(c: Container, seen: Seen, deadline: datetime, now: datetime) -> Verb | None:
    """How a run that is to stop is ended next: SIGNAL_STOP, KILL, or None while it is waited for.

    What was never sent its signal, because the operator was away or busy until the deadline, is
    sent it all the same.
    """
    if c.stop_grace_seconds == 0:
        return Verb.KILL
    if seen.signalled == run_id(c):
        return Verb.KILL if now >= _deadline(c, seen, deadline) else None
    unheard = seen.failure is not None and seen.failure.verb is Verb.SIGNAL_STOP
    return Verb.KILL if unheard and now >= deadline else Verb.SIGNAL_STOP


@dataclass(frozen=True, slots=True)
class _Row:
    """One row's inputs; not for deletion."""

    sandbox: Subject
    spec: SandboxSpec
    seen: Seen
    holdings: Holdings
    rules: Rules
    now: datetime

    # What the stored status says.

    @property
    def stored(self) -> SandboxStatus:
        return self.sandbox.status

    @property
    def existed(self) -> bool:
        return self.stored.container is not None

    def _reason_is(self, *reasons: Reason) -> bool:
        return stored_reason(self.stored) in reasons

    def _same_container(self, c: Container) -> bool:
        return self.stored.container is not None and self.stored.container.id == c.id

    def _same_run(self, c: Container) -> bool:
        return _same_run(self.stored, c)

    def _marked(self, c: Container) -> bool:
        return _marked(self.stored, c)

    # Wished RUNNING.

    def running(self) -> Verdict:
        c = self.holdings.container
        if c is None:
            return self._absent()
        match c.run:
            case Run.CREATED:
                start = Operation(Verb.START, c.id)
                if self.stored.phase is Phase.STARTING:
                    return self._kept(start)
                return self._is(
                    Phase.STARTING, Reason.CREATING, "the container is being started", start
                )
            case Run.RUNNING:
                return self._up(c)
            case Run.FROZEN:
                return self._frozen(c)
            case Run.EXITED:
                return self._exited(c)

    def _absent(self) -> Verdict:
        run = Operation(Verb.RUN)
        if not self.existed:
            if self.seen.pulling and self.stored.phase is not Phase.ERROR:
                return self._is(
                    Phase.STARTING, Reason.PULLING, f"pulling image {self.spec.image}", run
                )
            if self.stored.phase not in (Phase.STARTING, Phase.ERROR):
                return self._is(
                    Phase.STARTING, Reason.CREATING, "the container is being created", run
                )
            return self._kept(run)
        if self.spec.on_missing == "Recreate":
            return self._is(
                Phase.STARTING,
                Reason.RECREATING,
                "the container was removed by someone else and is made anew, as onMissing asks",
                run,
            )
        return self._missing()

    def _missing(self) -> Verdict:
        return self._is(
            Phase.MISSING,
            Reason.CONTAINER_MISSING,
            "the container was removed, not by this operator; delete the Sandbox and create "
            "it anew, or use onMissing: Recreate",
        )

    def _up(self, c: Container) -> Verdict:
        if self._marked(c):
            # A stop that was begun is carried through: its signal may have arrived.
            return self._stopping(c, Phase.STARTING, Reason.RESUMING, "stops, then starts again")
        if self._may_yet(Verb.FREEZE):
            return self._is(Phase.STARTING, Reason.RESUMING, "it is thawed if it was frozen")
        verdict = self._readiness(c)
        limits = _drift(self.spec, c)
        if limits is not None:
            verdict = _with(verdict, Operation(Verb.UPDATE_LIMITS, c.id, limits=limits))
        return verdict

    def _may_yet(self, verb: Verb) -> bool:
        """This verb of ours is under way, or its answer was lost: when it shows, it is no one
        else's doing."""
        failure = self.seen.failure
        lost = failure is not None and failure.verb is verb and not self.seen.fresh
        return lost or self.seen.busy is verb

    def _readiness(self, c: Container) -> Verdict:
        probe, readiness = self.seen.probe, self.spec.readiness
        if readiness is None:
            return self._is(Phase.RUNNING, Reason.READY, "the container runs")
        where = f"GET {readiness.http_get.path} on port {readiness.http_get.port}"
        if probe is not None and probe.ready:
            return self._is(Phase.RUNNING, Reason.READY, f"{where} answers")
        if self._was_ready(c):
            if (probe is not None and probe.failing) or self.stored.phase is Phase.ERROR:
                return self._is(
                    Phase.ERROR,
                    Reason.NOT_READY,
                    f"{where} failed {readiness.failure_threshold} times in a row; look at the "
                    "container's logs",
                )
            return self._is(Phase.RUNNING, Reason.READY, f"{where} answers")
        deadline = self._starting_since(c) + timedelta(seconds=readiness.startup_deadline_seconds)
        late = self._same_run(c) and self._reason_is(Reason.STARTUP_DEADLINE_EXCEEDED)
        if late or self.now >= deadline:
            return self._is(
                Phase.ERROR,
                Reason.STARTUP_DEADLINE_EXCEEDED,
                f"{where} did not answer within startupDeadlineSeconds "
                f"({readiness.startup_deadline_seconds} s); look at the container's logs or "
                "allow more time",
            )
        return self._is(
            Phase.STARTING,
            Reason.WAITING_FOR_READINESS,
            f"waiting for {where}",
            look_again=deadline,
        )

    def _was_ready(self, c: Container) -> bool:
        """It has been ready in this run: the startup deadline has ended for good."""
        return self._same_run(c) and (
            self.stored.phase is Phase.RUNNING or self._reason_is(Reason.NOT_READY)
        )

    def _starting_since(self, c: Container) -> datetime:
        started = c.started_at or self.now
        if not self._same_run(c):
            return started
        reconciling = self.stored.condition(ConditionType.RECONCILING)
        if reconciling is not None and reconciling.status == "True":
            return max(started, reconciling.last_transition_time)
        return self.now  # a resume that this very decision begins

    def _frozen(self, c: Container) -> Verdict:
        thaw = Operation(Verb.THAW, c.id)
        ours = self.stored.phase is Phase.PAUSED or self._reason_is(Reason.PAUSING, Reason.RESUMING)
        if ours and self._same_container(c):
            return self._is(Phase.STARTING, Reason.RESUMING, "the container is thawed", thaw)
        return self._is(
            Phase.ERROR,
            Reason.PAUSED_EXTERNALLY,
            "the container was paused by someone else and is thawed; to pause it set "
            "spec.operatingMode: Paused",
            thaw,
        )

    def _exited(self, c: Container) -> Verdict:
        cause = exit_cause(self.stored, c)
        start = Operation(Verb.START, c.id)
        if cause in (Reason.STOPPED, Reason.MEMORY_LOST):
            return self._is(Phase.STARTING, Reason.RESUMING, "the container is started", start)
        recorded = self.stored.container
        if (
            self._reason_is(Reason.RESTARTING, *_TOLD_BY_FAILURES)
            and recorded is not None
            and recorded.finished_at == c.finished_at
        ):
            return self._kept(start)  # this very exit's restart is counted already
        policy = self.spec.restart_policy
        if policy == "Never" or (policy == "OnFailure" and cause is Reason.COMPLETED):
            return self._ended(c, cause, f"restartPolicy is {policy}")
        count = recorded.restart_count if recorded and recorded.id == c.id else 0
        due = _restart_due(c, count, self.now)
        if self.now < due:
            return self._ended(c, cause, "it is restarted in a moment", look_again=due)
        return self._is(
            Phase.STARTING,
            Reason.RESTARTING,
            f"restarting after: {_describe(c, cause)}",
            start,
            restart_count=min(count + 1, MAX_INT32),
        )

    def _ended(
        self, c: Container, cause: Reason, what_next: str, look_again: datetime | None = None
    ) -> Verdict:
        return self._is(
            Phase.ERROR, cause, f"{_describe(c, cause)}; {what_next}", look_again=look_again
        )

    # Wished PAUSED.

    def paused(self) -> Verdict:
        c = self.holdings.container
        if c is None:
            if self.existed and self.spec.on_missing == "Report":
                return self._missing()
            return self._not_started()
        match c.run:
            case Run.CREATED:
                return self._not_started()
            case Run.RUNNING:
                return self._pause(c)
            case Run.FROZEN:
                if self._may_yet(Verb.THAW):
                    # Told as frozen, an exit of the thawed one would pass for the engine's kill.
                    message = "it is frozen again if it was thawed"
                    return self._is(Phase.STARTING, Reason.PAUSING, message)
                return self._is(
                    Phase.PAUSED, Reason.FROZEN, "its processes are frozen, memory is kept"
                )
            case Run.EXITED:
                return self._rests(c)

    def _not_started(self) -> Verdict:
        return self._is(
            Phase.PAUSED, Reason.NOT_STARTED, "nothing runs until operatingMode is Running"
        )

    def _pause(self, c: Container) -> Verdict:
        # RUNNING is said of nothing that was not ready.
        ready = self.spec.readiness is None or self.stored.phase is Phase.RUNNING
        phase = Phase.RUNNING if ready else Phase.STARTING
        if self.spec.pause_method == "Freeze" and not self._marked(c):
            return self._is(
                phase,
                Reason.PAUSING,
                "the container is being frozen",
                Operation(Verb.FREEZE, c.id),
            )
        return self._stopping(c, phase, Reason.PAUSING, "the container is being stopped")

    def _stopping(self, c: Container, phase: Phase, reason: Reason, message: str) -> Verdict:
        """Stop a run in two steps, never waiting inside an operation: signal, then kill."""
        pausing = self.stored.pausing if self._marked(c) else None
        if pausing is None:
            if not self.seen.fresh or self.seen.busy is not None:
                # Only one just seen running is marked, or an exit by itself would pass for ours.
                return self._is(phase, reason, message, Operation(Verb.OBSERVE))
            pausing = Pausing(container_id=c.id, at=self.now)
        deadline = pausing.at + timedelta(seconds=c.stop_grace_seconds)
        ending = _ending(c, self.seen, deadline, self.now)
        run = run_id(c) if ending is Verb.SIGNAL_STOP else None
        operation = Operation(ending, c.id, run=run) if ending is not None else None
        again = _deadline(c, self.seen, deadline)
        return self._is(phase, reason, message, operation, look_again=again, pausing=pausing)

    def _rests(self, c: Container) -> Verdict:
        cause = exit_cause(self.stored, c)
        if cause is Reason.STOPPED:
            return self._is(Phase.PAUSED, cause, "its processes have ended, its filesystem is kept")
        if cause is Reason.MEMORY_LOST:
            return self._is(
                Phase.PAUSED,
                cause,
                "it was frozen and then killed, by a restart of the engine or the machine: "
                "memory is lost, its filesystem is kept",
            )
        return self._ended(
            c, cause, "it is wished paused, so it is not restarted until it is wished running"
        )

    # What stands between the verdict and its operation.

    def hindered(self, verdict: Verdict) -> Verdict:
        """The verdict, changed where its operation is refused or has just failed."""
        operation = verdict.operation
        if operation is None:
            return verdict
        if operation.verb in (Verb.RUN, Verb.START, Verb.THAW):
            refusal = self.rules.refuse(self.sandbox.metadata.namespace, self.spec)
            if refusal is not None:
                return self._is(
                    Phase.ERROR, Reason.NOT_ALLOWED, f"{refusal.path}: {refusal.message}"
                )
        failure = self.seen.failure
        if failure is None or failure.verb is not operation.verb:
            return self._as_told(verdict, operation) if failure is None else verdict
        waiting = failure.reason in (
            Reason.SECRET_NOT_FOUND,
            Reason.CONFIG_MAP_NOT_FOUND,
            Reason.NAMESPACE_TERMINATING,
            Reason.API_REFUSED,
            Reason.ENGINE_UNREACHABLE,
        )
        phase = verdict.phase if waiting else Phase.ERROR
        if operation.verb is Verb.UPDATE_LIMITS:
            phase = verdict.phase  # it runs on with its old limits
        graver = operation.verb is Verb.UPDATE_LIMITS and verdict.reason is not Reason.READY
        if _unspoken(failure) or graver:
            judged = _with(verdict, operation)
        else:
            judged = self._is(
                phase, failure.reason, failure.message, operation, pausing=verdict.pausing
            )
        if self.now < failure.retry_at:
            again = min(failure.retry_at, verdict.look_again or failure.retry_at)
            return _with(judged, None, look_again=again)
        return judged

    def _as_told(self, verdict: Verdict, operation: Operation) -> Verdict:
        """The verdict of an attempt after a restart: what the last one met is told on."""
        if not self._reason_is(*_TOLD_BY_FAILURES):
            return verdict
        if operation.verb is Verb.UPDATE_LIMITS:
            told = verdict.reason is Reason.READY and self.stored.phase is Phase.RUNNING
        else:
            told = self.stored.phase in (Phase.ERROR, verdict.phase)
        if not told:
            return verdict
        kept = self._kept(operation)
        return replace(kept, look_again=verdict.look_again, pausing=verdict.pausing)

    def _is(
        self,
        phase: Phase,
        reason: Reason,
        message: str,
        operation: Operation | None = None,
        look_again: datetime | None = None,
        restart_count: int | None = None,
        pausing: Pausing | None = None,
    ) -> Verdict:
        c = self.holdings.container
        if pausing is None and c is not None and c.run is Run.EXITED and self._marked(c):
            pausing = self.stored.pausing  # kept until the next run
        return Verdict(phase, reason, message, operation, look_again, False, restart_count, pausing)

    def _kept(self, operation: Operation) -> Verdict:
        return _keep(self.sandbox, operation)


def _unspoken(failure: Failure) -> bool:
    """A lost answer is no news: the next attempt tells."""
    return failure.reason is Reason.ENGINE_UNREACHABLE and failure.attempts < UNANSWERED_TOLD_AFTER


def _with(
    verdict: Verdict, operation: Operation | None, look_again: datetime | None = None
) -> Verdict:
    return Verdict(
        verdict.phase,
        verdict.reason,
        verdict.message,
        operation,
        look_again or verdict.look_again,
        verdict.keep,
        verdict.restart_count,
        verdict.pausing,
    )


def _restart_due(c: Container, restarts: int, now: datetime) -> datetime:
    finished = c.finished_at or now
    ran = finished - (c.started_at or finished)
    if ran >= RESTART_BACKOFF_FORGET:
        return finished + RESTART_BACKOFF_FIRST
    # 2**9 s is past the cap; a larger exponent only overflows.
    backoff: timedelta = RESTART_BACKOFF_FIRST * 2 ** min(restarts, 9)
    return finished + min(RESTART_BACKOFF_CAP, backoff)


def _describe(c: Container, cause: Reason) -> str:
    if cause is Reason.OOM_KILLED:
        return "the container used more memory than its limit and was killed"
    if cause is Reason.COMPLETED:
        return "the container ended with exit code 0"
    if c.exit_code in (126, 127):
        # Docker's init reports so what a shell would: the exit code is all there is to see.
        fault = "not found" if c.exit_code == 127 else "not executable"
        return (
            f"the container exited with code {c.exit_code}, as when its command is {fault}: "
            "check spec.command, spec.args and the image"
        )
    return f"the container exited by itself with exit code {c.exit_code}"


def _drift(spec: SandboxSpec, c: Container) -> Limits | None:
    """The limits to set in place, where those the spec names are not those in force.

    Defaults from the settings are left alone: changing them changes nothing that runs.
    """
    asked = spec.limits()
    wanted = Limits(
        asked.cpu_millis if asked.cpu_millis is not None else c.limits.cpu_millis,
        asked.memory_bytes if asked.memory_bytes is not None else c.limits.memory_bytes,
        asked.pids if asked.pids is not None else c.limits.pids,
    )
    return wanted if wanted != c.limits else None
