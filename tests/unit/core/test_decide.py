"""The decision as a whole: a fixed point, the same after a restart, and the status it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.core import names
from controller.core.decide import ApiStep, decide
from controller.core.reasons import ConditionType, Reason
from controller.core.resources import Phase, SandboxStatus
from controller.core.rules import Rules
from controller.core.state import EngineView, Limits, SecretState, Verb
from controller.core.subject import Subject
from controller.core.table import (
    BAD,
    CONTAINER,
    ENGINE,
    EXITED,
    FROZEN,
    GOOD,
    NOW,
    PROBED,
    RUNNING,
    Row,
    failed,
    rows,
    sandbox,
    seen,
    told,
)

ROWS = {f"{row.wished} {row.found}": row for row in rows()}


def condition(status: SandboxStatus, type_: ConditionType) -> str:
    found = status.condition(type_)
    return found.status if found else "-"


def conditions(subject: Subject) -> str:
    """Ready, Available, Reconciling and Stalled, by their first letters where True."""
    types = (
        ConditionType.READY,
        ConditionType.AVAILABLE,
        ConditionType.RECONCILING,
        ConditionType.STALLED,
    )
    return "".join(t[0] for t in types if condition(subject.status, t) == "True")


def after(row: Row) -> Subject:
    status = decide(row.sandbox, row.seen, row.rules, row.now).status
    return replace(row.sandbox, status=status)


@pytest.mark.parametrize("name", ROWS)
def test_a_decision_is_a_fixed_point(name: str) -> None:
    """Its status stored, the same is decided again: nothing is written at rest."""
    row = ROWS[name]
    stored = after(row)
    again = decide(stored, row.seen, row.rules, row.now)
    assert again.status == stored.status
    second = decide(stored, row.seen, row.rules, row.now + timedelta(milliseconds=1))
    assert second.status == stored.status


@pytest.mark.parametrize("name", ROWS)
def test_a_status_survives_its_way_through_the_api_server(name: str) -> None:
    status = after(ROWS[name]).status
    assert SandboxStatus.parse(json.loads(json.dumps(status.manifest()))) == status


@pytest.mark.parametrize("name", ROWS)
def test_a_restart_of_the_operator_writes_nothing(name: str) -> None:
    """What only memory knew is lost: probes, failures, signals, the Secret, what was in flight."""
    row = ROWS[name]
    stored = after(row)
    view = EngineView(
        row.seen.engine.id, row.seen.engine.unreachable_since, row.seen.engine.accepted_ids
    )
    started = replace(seen(), engine=view, holdings=None, fresh=False, secret=SecretState.UNKNOWN)
    listed = replace(started, holdings=row.seen.holdings, fresh=True)
    for known in (started, listed, replace(listed, secret=row.seen.secret)):
        again = decide(stored, known, row.rules, row.now).status
        if row.seen.fresh:  # else the look that follows is news
            assert again == stored.status


def test_an_engine_operation_waits_for_the_finalizer_and_the_secret() -> None:
    fresh = decide(sandbox(claimed=False), seen(secret=SecretState.UNKNOWN), Rules(), NOW)
    assert (fresh.step, fresh.operation) == (ApiStep.CLAIM, None)
    claimed = decide(sandbox(), seen(secret=SecretState.UNKNOWN), Rules(), NOW)
    assert (claimed.step, claimed.operation) == (ApiStep.ENSURE_SECRET, None)


@pytest.mark.parametrize("mode", ["None", "SecretRef"])
def test_no_secret_is_made_where_none_was_asked_for(mode: str) -> None:
    ref = {"secretRef": {"name": "mine"}} if mode == "SecretRef" else {}
    subject = sandbox(sessionKey={"mode": mode, **ref})
    decision = decide(subject, seen(secret=SecretState.UNKNOWN), Rules(), NOW)
    assert decision.step is None
    assert decision.operation is not None
    assert decision.operation.verb is Verb.RUN


def test_one_operation_at_a_time() -> None:
    for row in rows():
        busy = replace(row.seen, busy=Verb.OBSERVE)
        assert decide(row.sandbox, busy, row.rules, row.now).operation is None


def test_nothing_is_asked_of_an_engine_that_cannot_be_believed() -> None:
    for row in rows():
        for engine in (replace(ENGINE, unreachable_since=NOW), EngineView(id="engine-2")):
            stored = told(sandbox(), seen(RUNNING)).status
            subject = replace(row.sandbox, status=stored)
            decision = decide(subject, replace(row.seen, engine=engine), row.rules, row.now)
            assert decision.operation is None
            assert decision.step is not ApiStep.RELEASE


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        (told(sandbox(), seen(RUNNING)), "RA"),
        (told(sandbox(**PROBED), seen(RUNNING, probe=BAD)), "R"),
        (told(sandbox(operatingMode="Paused"), seen(FROZEN)), "R"),
        (told(sandbox(operatingMode="Paused"), seen(RUNNING)), "AR"),
        (told(sandbox(), seen(EXITED)), "S"),
        (told(sandbox(deleting=True), seen(RUNNING)), "R"),
        (told(told(sandbox(), seen(RUNNING)), seen()), "S"),
    ],
    ids=["running", "starting", "paused", "pausing", "exited", "deleting", "missing"],
)
def test_conditions(subject: Subject, shown: str) -> None:
    assert conditions(subject) == shown
    starting_or_ending = subject.status.phase in (Phase.STARTING, Phase.DELETING)
    assert (condition(subject.status, ConditionType.RECONCILING) == "True") == (
        starting_or_ending or shown == "AR"
    )


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    waiting = told(sandbox(**PROBED), seen(RUNNING))
    late = told(waiting, seen(RUNNING), NOW + timedelta(hours=1))
    before, now = (s.status.condition(ConditionType.READY) for s in (waiting, late))
    assert before is not None
    assert now is not None
    assert before.reason != now.reason
    assert before.last_transition_time == now.last_transition_time == NOW


def test_the_status_tells_what_there_is() -> None:
    subject = sandbox(
        createdByUserId="ada", ports=[{"name": "AGENT_SERVER", "containerPort": 80, "path": "/x"}]
    )
    status = told(subject, seen(RUNNING)).status
    assert (status.sandbox_spec_id, status.created_by_user_id) == ("box", "ada")
    assert [u.model_dump() for u in status.exposed_urls] == [
        {"name": "AGENT_SERVER", "url": "http://127.0.0.1:32768/x", "port": 32768}
    ]
    assert status.session_api_key_secret_ref is not None
    assert status.session_api_key_secret_ref.name == "a-session-key"
    assert status.container is not None
    assert (status.container.id, status.container.engine_id) == ("c1", "engine-1")
    assert status.observed_generation == 1


def test_urls_of_an_ipv6_host_are_bracketed() -> None:
    subject = sandbox(ports=[{"name": "x", "containerPort": 80}])
    status = decide(subject, seen(RUNNING), Rules(url_host="::1"), NOW).status
    assert status.exposed_urls[0].url == "http://[::1]:32768"


@pytest.mark.parametrize("container", [FROZEN, EXITED, CONTAINER])
def test_urls_are_withdrawn_while_nothing_can_answer(container: object) -> None:
    subject = sandbox(operatingMode="Paused", ports=[{"name": "x", "containerPort": 80}])
    assert told(subject, seen(container)).status.exposed_urls == ()  # type: ignore[arg-type]


def test_deletion_withdraws_the_urls_and_the_key() -> None:
    subject = sandbox(deleting=True, ports=[{"name": "x", "containerPort": 80}])
    status = told(subject, seen(RUNNING)).status
    assert (status.exposed_urls, status.session_api_key_secret_ref) == ((), None)


def test_deletion_asks_the_api_first_and_waits_for_what_is_in_flight() -> None:
    gone = sandbox(deleting=True)
    first = decide(gone, seen(RUNNING, busy=Verb.RUN), Rules(), NOW)
    assert (first.step, first.cancel) == (ApiStep.DELETE_SECRET, True)
    second = decide(gone, seen(busy=Verb.RUN, secret=SecretState.ABSENT), Rules(), NOW)
    assert (second.step, second.operation, second.cancel) == (None, None, True)


@pytest.mark.parametrize("wished", ["Running", "Paused"])
def test_readiness_is_probed_where_it_is_wished_running_and_runs(wished: str) -> None:
    subject = sandbox(operatingMode=wished, **PROBED)
    for container in (CONTAINER, RUNNING, FROZEN, EXITED):
        probed = decide(subject, seen(container), Rules(), NOW).probe
        assert probed == (RUNNING if container is RUNNING and wished == "Running" else None)


def test_a_failure_is_waited_out_and_then_tried_again() -> None:
    failure = failed(Verb.RUN, Reason.IMAGE_NOT_FOUND)
    early = decide(sandbox(), seen(failure=failure), Rules(), NOW)
    assert (early.operation, early.look_again) == (None, failure.retry_at)
    due = decide(sandbox(), seen(failure=failure), Rules(), failure.retry_at)
    assert due.operation is not None
    assert due.status.phase is early.status.phase is Phase.ERROR


def test_what_an_attempt_met_is_told_until_the_next_one_has_ended() -> None:
    """No flicker through Pulling, and none after a restart that forgot the failure."""
    failure = failed(Verb.RUN, Reason.IMAGE_NOT_FOUND)
    refused = told(sandbox(), seen(failure=failure))
    for meanwhile in (
        seen(busy=Verb.RUN, pulling=True, failure=failure),
        seen(busy=Verb.RUN, pulling=True),
        seen(),
    ):
        assert told(refused, meanwhile, failure.retry_at).status == refused.status
    assert told(refused, seen(RUNNING)).status.phase is Phase.RUNNING


def test_an_outage_is_told_after_ten_seconds_and_taken_back() -> None:
    up = told(sandbox(), seen(RUNNING))
    away = replace(ENGINE, unreachable_since=NOW)
    shortly = told(up, seen(RUNNING, engine=away), NOW + timedelta(seconds=9))
    assert shortly.status == up.status
    long = told(up, seen(RUNNING, engine=away), NOW + timedelta(seconds=10))
    assert condition(long.status, ConditionType.ENGINE_REACHABLE) == "False"
    assert long.status.phase is Phase.RUNNING
    assert told(long, seen(RUNNING)).status.model_copy(update={"conditions": ()}) == (
        up.status.model_copy(update={"conditions": ()})
    )


def test_who_holds_the_container_is_asked_of_the_status() -> None:
    """Invariant 4: the same container ID on another engine would be no proof."""
    up = told(sandbox(), seen(RUNNING))
    decision = decide(up, seen(RUNNING, engine=EngineView(id="engine-2")), Rules(), NOW)
    shown = decision.status.condition(ConditionType.ENGINE_REACHABLE)
    assert shown is not None
    assert (shown.status, shown.reason) == ("False", "EngineChanged")


def test_a_refusal_of_the_settings_stops_nothing_that_runs() -> None:
    rules = Rules(allowed_images={})
    running = decide(sandbox(), seen(RUNNING), rules, NOW)
    assert running.status.phase is Phase.RUNNING
    exited = decide(sandbox(), seen(EXITED), rules, NOW + timedelta(hours=1))
    assert (exited.operation, exited.status.phase) == (None, Phase.ERROR)


def test_a_foreign_finalizer_is_left_to_its_owner() -> None:
    gone = sandbox(deleting=True, claimed=False)
    metadata = gone.metadata.model_copy(update={"finalizers": ("other/finalizer",)})
    decision = decide(replace(gone, metadata=metadata), seen(RUNNING), Rules(), NOW)
    assert (decision.step, decision.operation) == (None, None)


def test_limits_are_changed_while_it_starts_too() -> None:
    subject = sandbox(**PROBED, resources={"limits": {"pids": 9}})
    decision = decide(subject, seen(RUNNING, probe=GOOD), Rules(), NOW)
    assert decision.operation is not None
    assert decision.operation.limits == Limits(pids=9)


def test_the_finalizers_name_is_not_kopfs() -> None:
    assert names.FINALIZER != "kopf.zalando.org/KopfFinalizerMarker"


def test_a_refused_secret_replaces_no_reason_that_tells_how_it_was_paused() -> None:
    """Else the end of a frozen container would pass for its own, and a thaw for another's act."""
    refused = {"secret": SecretState.UNKNOWN, "failure": failed(None, Reason.API_REFUSED)}
    frozen = told(sandbox(operatingMode="Paused", pauseMethod="Freeze"), seen(FROZEN))
    meanwhile = told(frozen, seen(FROZEN, **refused))
    assert condition_reason(meanwhile) == Reason.FROZEN
    killed = told(told(meanwhile, seen(EXITED, **refused)), seen(EXITED))
    assert condition_reason(killed) == Reason.MEMORY_LOST


def condition_reason(subject: Subject) -> str:
    found = subject.status.condition(ConditionType.READY)
    return found.reason if found else "-"
