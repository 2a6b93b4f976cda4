"""The table, read as a specification: in this situation, this phase, this reason, this action.

The situations are those of docs/phases.md (controller/core/table.py); what is expected of each is
written down here by hand, from what the API promises (README.md, docs/invariants.md).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.core.resources import Phase, Suspended
from controller.core.rules import Rules
from controller.core.state import Limits, Run, Verb
from controller.core.table import (
    AGAIN,
    EARLIER,
    EXITED,
    FAILING,
    FROZEN,
    GOOD,
    NOW,
    PROBED,
    RUNNING,
    Row,
    answer,
    failed,
    rows,
    sandbox,
    seen,
    told,
)
from controller.core.verdict import RESTART_BACKOFF_CAP, Wish, exit_cause, judge, wish

EXPECTED = """
Running | a new Sandbox, without our finalizer | STARTING -: Claim
Running | no Secret for its key yet | STARTING -: EnsureSecret
Running | someone else's Secret has that name | ERROR SecretNameTaken: try again later
Running | the API server refuses its Secret | STARTING ApiRefused: try again later
Running | nothing | STARTING -: Run
Running | nothing; the image is being pulled | STARTING Pulling: -
Running | nothing; the image does not exist | ERROR ImageNotFound: try again later
Running | nothing; a Secret it refers to is missing | STARTING SecretNotFound: try again later
Running | nothing; its namespace is being deleted | STARTING NamespaceTerminating: try again later
Running | nothing; the engine did not answer | STARTING -: try again later
Running | nothing; creating it is never answered | STARTING EngineUnreachable: try again later
Running | nothing; the settings do not allow it | ERROR NotAllowed: -
Running | anything; its spec cannot be read | ERROR InvalidSpec: -
Running | created | STARTING -: Start
Running | created; its port is taken | ERROR PortInUse: try again later
Running | running, no readiness asked for | RUNNING Ready: -
Running | running, not ready yet | STARTING WaitingForReadiness: look again in time
Running | running, not ready by its startup deadline | ERROR StartupDeadlineExceeded: -
Running | running, ready after that deadline | RUNNING Ready: -
Running | running, ready | RUNNING Ready: -
Running | once ready, a probe fails | RUNNING Ready: -
Running | once ready, failureThreshold probes fail | ERROR NotReady: -
Running | not ready any more, a probe answers | RUNNING Ready: -
Running | running, its limits were changed | RUNNING Ready: UpdateLimits
Running | running, the engine refuses the changed limits | RUNNING InvalidSpec: try again later
Running | frozen by someone else | ERROR PausedExternally: Thaw
Running | frozen by us, resumed | STARTING Resuming: Thaw
Running | being stopped by us, resumed | STARTING Resuming: SignalStop
Running | stopped by us, resumed | STARTING Resuming: Start
Running | exited by itself a moment ago | ERROR Exited: look again in time
Running | exited by itself, the backoff is over | STARTING Restarting: Start
Running | exited with code 0, restartPolicy OnFailure | ERROR Completed: -
Running | exited with code 0, restartPolicy Never | ERROR Completed: -
Running | exited with code 1, restartPolicy Never | ERROR Exited: -
Running | OOM-killed, restartPolicy Never | ERROR OOMKilled: -
Running | removed by someone else, onMissing Report | MISSING ContainerMissing: -
Running | removed by someone else, onMissing Recreate | STARTING Recreating: Run
Paused | nothing, never started | PAUSED NotStarted: -
Paused | nothing; it is being created | PAUSED NotStarted: cancel what is under way
Paused | created, never started | PAUSED NotStarted: -
Paused | running, pauseMethod Freeze | RUNNING Pausing: Freeze
Paused | running, not ready yet | STARTING Pausing: Freeze
Paused | running, the engine refuses to freeze it | ERROR EngineRefused: try again later
Paused | frozen | PAUSED Frozen: -
Paused | frozen, then thawed by someone else | RUNNING Pausing: Freeze
Paused | frozen, then killed: a reboot, a restart of the engine | PAUSED MemoryLost: -
Paused | running, pauseMethod Stop | RUNNING Pausing: SignalStop
Paused | running, pauseMethod Stop, not looked at just now | RUNNING Pausing: Observe
Paused | stop signal sent | RUNNING Pausing: look again in time
Paused | running on after its grace period | RUNNING Pausing: Kill
Paused | running after its grace period, never signalled | RUNNING Pausing: SignalStop
Paused | stopped by us | PAUSED Stopped: -
Paused | stopped, then started by someone else | RUNNING Pausing: SignalStop
Paused | exited by itself | ERROR Exited: -
Paused | removed by someone else, onMissing Report | MISSING ContainerMissing: -
Paused | removed by someone else, onMissing Recreate | PAUSED NotStarted: -
Gone | never ours: no finalizer | STARTING -: -
Gone | its Secret is there | DELETING Deleting: DeleteSecret
Gone | its Secret may not be deleted | DELETING CleanupFailed: SignalStop
Gone | its Secret may not be deleted, the rest is gone | DELETING CleanupFailed: try again later
Gone | its container is being created | DELETING Deleting: cancel what is under way
Gone | being started | DELETING Deleting: cancel what is under way
Gone | created | DELETING Deleting: Clean
Gone | running | DELETING Deleting: SignalStop
Gone | running, stop signal sent | DELETING Deleting: look again in time
Gone | running on after its grace period | DELETING Deleting: Clean
Gone | running after its grace period, no signal sent | DELETING Deleting: SignalStop
Gone | frozen | DELETING Deleting: SignalStop
Gone | exited | DELETING Deleting: Clean
Gone | exited, the engine refuses to remove it | DELETING CleanupFailed: try again later
Gone | exited; its removal is never answered | DELETING CleanupFailed: try again later
Gone | volumes with reclaimPolicy Delete | DELETING Deleting: Clean
Gone | volumes with reclaimPolicy Retain alone | DELETING Deleting: Release
Gone | nothing, when last looked at | DELETING Deleting: Observe
Gone | nothing, looked at just now | DELETING Deleting: Release
Gone | running; its spec cannot be read | DELETING Deleting: SignalStop
Running | it ran; the engine does not answer | RUNNING Ready: look again in time
Running | it ran; no answer for 10 s | RUNNING Ready: -
Running | it ran; another engine answers | RUNNING Ready: -
Running | it ran; the settings give up its engine | MISSING ContainerMissing: -
Running | nothing is known yet, after a restart | RUNNING Ready: -
Gone | the engine does not answer | DELETING Deleting: -
Gone | another engine answers | DELETING Deleting: -
Gone | the settings give up its engine | DELETING Deleting: Release
"""
ANSWERS = {
    (wished, found): said
    for wished, found, said in (line.split(" | ") for line in EXPECTED.strip().splitlines())
}
ROWS = {(row.wished, row.found): row for row in rows()}
STOP: dict[str, Any] = {"operatingMode": "Paused", "pauseMethod": "Stop"}


@pytest.mark.parametrize("key", ROWS, ids=" ".join)
def test_the_table(key: tuple[str, str]) -> None:
    assert str(answer(ROWS[key])) == ANSWERS[key]


def test_no_row_is_expected_that_the_document_lacks() -> None:
    assert ANSWERS.keys() == ROWS.keys()


# Readiness


def waiting(since: datetime = EARLIER, now: datetime = NOW) -> Row:
    container = replace(RUNNING, started_at=since)
    subject = told(sandbox(**PROBED), seen(container), now)
    return Row("Running", "", subject, seen(container), now)


def test_the_startup_deadline_counts_from_the_start() -> None:
    row = waiting(since=NOW)
    deadline = NOW + timedelta(seconds=120)
    just_before = replace(row, now=deadline - timedelta(seconds=1))
    assert answer(just_before).reason == "WaitingForReadiness"
    assert answer(replace(row, now=deadline)).reason == "StartupDeadlineExceeded"


def test_the_startup_deadline_counts_from_the_last_resume() -> None:
    long_ago = NOW - timedelta(days=1)
    container = replace(RUNNING, started_at=long_ago)
    frozen = replace(FROZEN, started_at=long_ago)
    paused = told(
        sandbox(operatingMode="Paused", **PROBED), seen(frozen), NOW, operating_mode="Running"
    )
    resuming = told(paused, seen(frozen), NOW)
    soon, late = NOW + timedelta(seconds=119), NOW + timedelta(seconds=121)
    assert answer(Row("", "", resuming, seen(container), soon)).reason == "WaitingForReadiness"
    assert answer(Row("", "", resuming, seen(container), late)).reason == "StartupDeadlineExceeded"


def test_a_new_run_has_a_new_deadline() -> None:
    late = waiting(now=NOW + timedelta(hours=1))
    assert late.sandbox.status.phase is Phase.ERROR
    assert answer(
        replace(late, seen=seen(AGAIN), now=NOW + timedelta(minutes=1, seconds=5))
    ).phase == ("STARTING")


def test_one_that_was_never_ready_is_never_told_running_while_it_is_paused_and_resumed() -> None:
    subject = told(waiting().sandbox, seen(RUNNING), NOW, operating_mode="Paused")
    pausing = told(subject, seen(RUNNING), NOW, operating_mode="Running")
    assert pausing.status.phase is Phase.STARTING
    assert answer(Row("", "", pausing, seen(RUNNING))).phase == "STARTING"


def test_what_is_graver_than_a_refused_limit_is_told() -> None:
    subject = sandbox(**PROBED, resources={"limits": {"memory": 1}})
    refused = failed(Verb.UPDATE_LIMITS, Reason.INVALID_SPEC)
    ready = told(subject, seen(RUNNING, probe=GOOD, failure=refused))
    assert (
        ready.status.phase,
        answer(Row("", "", ready, seen(RUNNING, probe=GOOD, failure=refused))).reason,
    ) == (
        Phase.RUNNING,
        "InvalidSpec",
    )
    failing = Row("", "", ready, seen(RUNNING, probe=FAILING, failure=refused))
    assert (answer(failing).phase, answer(failing).reason) == ("ERROR", "NotReady")


# Exits and restarts


def test_restarts_are_spaced_out_up_to_a_cap_and_the_backoff_is_forgotten() -> None:
    def wait(count: int, ran: timedelta) -> timedelta:
        container = replace(EXITED, started_at=NOW - ran)
        subject = told(sandbox(), seen(RUNNING))
        assert subject.status.container is not None
        stored = subject.status.container.model_copy(
            update={"restart_count": count, "started_at": container.started_at}
        )
        subject = replace(subject, status=subject.status.model_copy(update={"container": stored}))
        due = judge(subject, seen(container), Rules(), NOW).look_again
        assert due is not None
        return due - NOW

    minute = timedelta(minutes=1)
    waits = [wait(n, minute).total_seconds() for n in range(10)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert wait(1000, minute) == RESTART_BACKOFF_CAP
    assert wait(1000, timedelta(minutes=10)).total_seconds() == 1


def test_each_restart_counts_once() -> None:
    later = NOW + timedelta(minutes=1)
    restarting = told(told(sandbox(), seen(RUNNING)), seen(EXITED), later)
    again = told(restarting, seen(EXITED, busy=Verb.START), later)
    assert restarting.status.container is not None
    assert restarting.status.container.restart_count == 1
    assert again.status == restarting.status


def test_a_restart_that_the_engine_refuses_does_not_flap() -> None:
    """StartFailed stays, whatever the backoff of restarts says meanwhile."""
    subject, refused = told(sandbox(), seen(RUNNING)), failed(Verb.START, Reason.START_FAILED)
    later = NOW + timedelta(seconds=1)
    subject = told(subject, seen(EXITED), later)
    statuses = []
    for _ in range(3):
        subject = told(subject, seen(EXITED, failure=refused), later)
        statuses.append(subject.status)
    assert statuses[0] == statuses[1] == statuses[2]
    assert (
        answer(Row("", "", subject, seen(EXITED, failure=refused), later)).reason == "StartFailed"
    )


@pytest.mark.parametrize(
    ("exit_code", "oom", "cause"),
    [
        (0, False, Reason.COMPLETED),
        (1, False, Reason.EXITED),
        (137, True, Reason.OOM_KILLED),
    ],
)
def test_why_a_run_ended(exit_code: int, oom: bool, cause: Reason) -> None:
    container = replace(EXITED, exit_code=exit_code, oom_killed=oom)
    assert exit_cause(sandbox().status, container) is cause


def test_an_exit_is_judged_once() -> None:
    """The marker of a pause that came later does not turn an exit by itself into a stop."""
    exited = told(told(sandbox(), seen(RUNNING)), seen(EXITED))
    assert exited.status.container is not None
    assert exited.status.container.reason == "Exited"
    marked = told(sandbox(**STOP), seen(RUNNING)).status.pausing
    status = exited.status.model_copy(update={"pausing": marked})
    assert exit_cause(status, EXITED) is Reason.EXITED


def test_the_marker_of_a_stop_is_of_one_run_only() -> None:
    stopping = told(sandbox(**STOP), seen(RUNNING))
    assert exit_cause(stopping.status, EXITED) is Reason.STOPPED
    other_run = replace(EXITED, started_at=AGAIN.started_at)
    assert exit_cause(stopping.status, other_run) is Reason.EXITED


def test_the_marker_is_gone_with_the_next_run() -> None:
    stopped = told(told(sandbox(**STOP), seen(RUNNING)), seen(EXITED))
    assert stopped.status.pausing is not None
    running = told(told(stopped, seen(EXITED), NOW, operating_mode="Running"), seen(AGAIN))
    assert running.status.pausing is None


@pytest.mark.parametrize("busy", [None, Verb.UPDATE_LIMITS])
def test_nothing_is_marked_but_what_was_just_seen_running(busy: Verb | None) -> None:
    subject = told(sandbox(**STOP), seen(RUNNING, fresh=busy is not None, busy=busy))
    assert subject.status.pausing is None


def test_a_freeze_that_is_under_way_when_the_wish_turns_is_no_one_elses() -> None:
    up = told(told(sandbox(), seen(RUNNING)), seen(RUNNING), operating_mode="Paused")
    pausing = told(up, seen(RUNNING), operating_mode="Running")
    lost = failed(Verb.FREEZE, Reason.ENGINE_UNREACHABLE)
    for meanwhile in (seen(RUNNING, busy=Verb.FREEZE), seen(RUNNING, fresh=False, failure=lost)):
        resuming = told(pausing, meanwhile)
        row = Row("", "", resuming, seen(FROZEN))
        assert str(answer(row)) == "STARTING Resuming: Thaw"


def test_an_exit_after_a_thaw_of_ours_is_no_loss_of_memory() -> None:
    frozen = told(told(sandbox(), seen(RUNNING)), seen(FROZEN))
    lost = failed(Verb.THAW, Reason.ENGINE_UNREACHABLE)
    for meanwhile in (seen(FROZEN, busy=Verb.THAW), seen(FROZEN, fresh=False, failure=lost)):
        pausing = told(told(frozen, seen(FROZEN), operating_mode="Paused"), meanwhile)
        assert str(answer(Row("", "", pausing, seen(EXITED)))) == "ERROR Exited: -"


# The wish


def at(seconds: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("mode", "suspended", "resumed", "wished"),
    [
        ("Running", None, None, Wish.RUNNING),
        ("Paused", None, None, Wish.PAUSED),
        ("Paused", None, at(1), Wish.PAUSED),
        ("Running", at(1), None, Wish.PAUSED),
        ("Running", at(1), at(0), Wish.PAUSED),
        ("Running", at(1), at(2), Wish.RUNNING),
        ("Running", at(1), at(1), Wish.RUNNING),
        ("Paused", at(1), at(2), Wish.PAUSED),
    ],
)
def test_the_wish(
    mode: str, suspended: datetime | None, resumed: datetime | None, wished: Wish
) -> None:
    subject = sandbox(operatingMode=mode)
    if suspended is not None:
        why = Suspended(reason="Idle", at=suspended)
        subject = replace(subject, status=subject.status.model_copy(update={"suspended": why}))
    if resumed is not None:
        annotations = {names.RESUME_REQUESTED_AT: resumed.isoformat()}
        metadata = subject.metadata.model_copy(update={"annotations": annotations})
        subject = replace(subject, metadata=metadata)
    assert wish(subject) is wished


def test_deletion_is_wished_above_all() -> None:
    assert wish(sandbox(deleting=True, operatingMode="Paused")) is Wish.GONE


# Limits


def test_limits_that_the_spec_does_not_name_are_left_alone() -> None:
    container = replace(RUNNING, limits=Limits(memory_bytes=1 << 30, pids=512))
    assert judge(sandbox(), seen(container), Rules(), NOW).operation is None
    asked = sandbox(resources={"limits": {"cpu": "500m"}})
    operation = judge(asked, seen(container), Rules(), NOW).operation
    assert operation is not None
    assert operation.limits == Limits(cpu_millis=500, memory_bytes=1 << 30, pids=512)


# Deletion


def test_a_grace_period_of_zero_needs_no_signal() -> None:
    container = replace(RUNNING, stop_grace_seconds=0)
    operation = judge(sandbox(deleting=True), seen(container), Rules(), NOW).operation
    assert operation is not None
    assert operation.verb is Verb.CLEAN


def test_a_signal_that_cannot_be_sent_does_not_delay_the_end() -> None:
    refused = replace(
        failed(Verb.SIGNAL_STOP, Reason.ENGINE_REFUSED), retry_at=NOW + timedelta(hours=1)
    )
    verdict = judge(sandbox(deleting=True), seen(RUNNING, failure=refused), Rules(), NOW)
    assert verdict.look_again == NOW + timedelta(seconds=11)


@pytest.mark.parametrize("run", Run)
def test_destructive_calls_name_the_containers_id(run: Run) -> None:
    container = replace(EXITED, run=run, stop_grace_seconds=0)
    operation = judge(sandbox(deleting=True), seen(container), Rules(), NOW).operation
    assert operation is not None
    assert operation.container_id == container.id
