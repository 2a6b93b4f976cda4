"""The whole table, wished x found -> phase, reason, action, as a document: docs/phases.md.

Every cell is what `decide` answers to representative inputs; only the inputs are written here.
Where a row follows upon another (`a paused one, ...`), the status before is `decide`'s own too.

    rows()     the representative inputs
    answer()   what `decide` says to one of them
    render()   the document
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core import names
from controller.core.decide import Decision, decide
from controller.core.reasons import ConditionType, Reason
from controller.core.rules import Rules
from controller.core.state import (
    Container,
    EngineView,
    Failure,
    Holdings,
    Probe,
    Run,
    SecretState,
    Seen,
    Verb,
    run_id,
)
from controller.core.subject import Subject
from controller.core.verdict import UNANSWERED_TOLD_AFTER

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(seconds=30)
LATER = NOW + timedelta(hours=1)

ENGINE = EngineView(id="engine-1")
EMPTY = Holdings()
CONTAINER = Container(
    id="c1", name="sbx-u1", run=Run.CREATED, created_at=EARLIER, spec_hash="v1-0", ports={80: 32768}
)
RUNNING = replace(CONTAINER, run=Run.RUNNING, started_at=EARLIER)
FROZEN = replace(RUNNING, run=Run.FROZEN)
EXITED = replace(RUNNING, run=Run.EXITED, finished_at=NOW, exit_code=1, ports={})
AGAIN = replace(RUNNING, started_at=NOW + timedelta(minutes=1))
PROBED: Mapping[str, Any] = {
    "ports": [{"name": "AGENT_SERVER", "containerPort": 80}],
    "readiness": {"httpGet": {"port": "AGENT_SERVER", "path": "/ready"}},
}
GOOD, BAD, FAILING = Probe(True, False), Probe(False, False), Probe(False, True)


@dataclass(frozen=True, slots=True)
class Row:
    """One situation."""

    wished: str
    found: str
    sandbox: Subject
    seen: Seen
    now: datetime = NOW
    rules: Rules = field(default_factory=Rules)


def sandbox(deleting: bool = False, claimed: bool = True, **spec: Any) -> Subject:
    """A Sandbox without a status, of UID u1."""
    metadata: dict[str, Any] = {
        "name": "a",
        "namespace": "team",
        "uid": "u1",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": EARLIER.isoformat(),
        "finalizers": [names.FINALIZER] if claimed else [],
    }
    if deleting:
        metadata["deletionTimestamp"] = NOW.isoformat()
    return Subject.read({"metadata": metadata, "spec": {"image": "box", **spec}})


def seen(container: Container | None = None, **changes: Any) -> Seen:
    """An engine that holds this container, looked at just now."""
    found = Seen(
        engine=ENGINE,
        holdings=Holdings(container) if container else EMPTY,
        fresh=True,
        secret=SecretState.PRESENT,
    )
    return replace(found, **changes)


def told(before: Subject, what: Seen, now: datetime = NOW, **changes: Any) -> Subject:
    """The Sandbox after `decide` was asked about `what`; then `changes` to its spec."""
    status = decide(before, what, Rules(), now).status
    spec = before.spec.model_copy(update=changes) if before.spec else None
    return replace(before, status=status, spec=spec)


def failed(verb: Verb | None, reason: Reason) -> Failure:
    return Failure(verb, reason, "(what the engine or the API said)", NOW + timedelta(seconds=1))


def rows() -> Iterator[Row]:
    """Every row, in the order of the document."""
    yield from _wished_running()
    yield from _wished_paused()
    yield from _wished_gone()
    yield from _unbelievable()


def _wished_running() -> Iterator[Row]:
    def row(found: str, subject: Subject, what: Seen, now: datetime = NOW, **more: Any) -> Row:
        return Row("Running", found, subject, what, now, **more)

    new = sandbox()
    yield row("a new Sandbox, without our finalizer", sandbox(claimed=False), seen())
    yield row("no Secret for its key yet", new, seen(secret=SecretState.UNKNOWN))
    yield row(
        "someone else's Secret has that name",
        new,
        seen(secret=SecretState.UNKNOWN, refusal=failed(None, Reason.SECRET_NAME_TAKEN)),
    )
    yield row(
        "the API server refuses its Secret",
        new,
        seen(secret=SecretState.UNKNOWN, refusal=failed(None, Reason.API_REFUSED)),
    )
    yield row("nothing", new, seen())
    yield row("nothing; the image is being pulled", new, seen(busy=Verb.RUN, pulling=True))
    refusals = (
        ("nothing; the image does not exist", Reason.IMAGE_NOT_FOUND),
        ("nothing; a Secret it refers to is missing", Reason.SECRET_NOT_FOUND),
        ("nothing; its namespace is being deleted", Reason.NAMESPACE_TERMINATING),
        ("nothing; the engine did not answer", Reason.ENGINE_UNREACHABLE),
    )
    for found, reason in refusals:
        yield row(found, new, seen(failure=failed(Verb.RUN, reason)))
    silent = replace(failed(Verb.RUN, Reason.ENGINE_UNREACHABLE), attempts=UNANSWERED_TOLD_AFTER)
    yield row("nothing; creating it is never answered", new, seen(failure=silent))
    yield row("nothing; the settings do not allow it", new, seen(), rules=Rules(allowed_images={}))
    yield row("anything; its spec cannot be read", sandbox(image=None), seen())
    yield row("created", new, seen(CONTAINER))
    yield row(
        "created; its port is taken",
        new,
        seen(CONTAINER, failure=failed(Verb.START, Reason.PORT_IN_USE)),
    )
    yield row("running, no readiness asked for", new, seen(RUNNING))
    probed = sandbox(**PROBED)
    waiting = told(probed, seen(RUNNING))
    yield row("running, not ready yet", probed, seen(RUNNING, probe=BAD))
    yield row("running, not ready by its startup deadline", waiting, seen(RUNNING), LATER)
    late = told(waiting, seen(RUNNING), LATER)
    yield row("running, ready after that deadline", late, seen(RUNNING, probe=GOOD), LATER)
    ready = told(probed, seen(RUNNING, probe=GOOD))
    yield row("running, ready", waiting, seen(RUNNING, probe=GOOD))
    yield row("once ready, a probe fails", ready, seen(RUNNING, probe=BAD), LATER)
    yield row("once ready, failureThreshold probes fail", ready, seen(RUNNING, probe=FAILING))
    unready = told(ready, seen(RUNNING, probe=FAILING))
    yield row("not ready any more, a probe answers", unready, seen(RUNNING, probe=GOOD))

    resized = sandbox(resources={"limits": {"cpu": "2"}})
    yield row("running, its limits were changed", resized, seen(RUNNING))
    yield row(
        "running, the engine refuses the changed limits",
        resized,
        seen(RUNNING, failure=failed(Verb.UPDATE_LIMITS, Reason.INVALID_SPEC)),
    )

    up = told(new, seen(RUNNING))
    yield row("frozen by someone else", up, seen(FROZEN))
    paused = told(sandbox(operatingMode="Paused"), seen(FROZEN))
    yield row("frozen by us, resumed", _wish(paused, "Running"), seen(FROZEN))
    stopping, stopped = _stopped()
    yield row("being stopped by us, resumed", _wish(stopping, "Running"), seen(RUNNING))
    yield row("stopped by us, resumed", _wish(stopped, "Running"), seen(EXITED))

    yield row("exited by itself a moment ago", up, seen(EXITED))
    yield row("exited by itself, the backoff is over", up, seen(EXITED), LATER)
    done = replace(EXITED, exit_code=0)
    for policy, container in (("OnFailure", done), ("Never", done), ("Never", EXITED)):
        yield row(
            f"exited with code {container.exit_code}, restartPolicy {policy}",
            told(sandbox(restartPolicy=policy), seen(RUNNING)),
            seen(container),
            LATER,
        )
    never = told(sandbox(restartPolicy="Never"), seen(RUNNING))
    killed = replace(EXITED, exit_code=137, oom_killed=True)
    yield row("OOM-killed, restartPolicy Never", never, seen(killed))
    yield row("removed by someone else, onMissing Report", up, seen())
    recreate = told(sandbox(onMissing="Recreate"), seen(RUNNING))
    yield row("removed by someone else, onMissing Recreate", recreate, seen())


def _wished_paused() -> Iterator[Row]:
    def row(found: str, subject: Subject, what: Seen, now: datetime = NOW) -> Row:
        return Row("Paused", found, subject, what, now)

    freeze, stop = (
        sandbox(operatingMode="Paused", pauseMethod=method) for method in ("Freeze", "Stop")
    )
    yield row("nothing, never started", freeze, seen())
    yield row("nothing; it is being created", freeze, seen(busy=Verb.RUN, pulling=True))
    yield row("created, never started", freeze, seen(CONTAINER))
    up = _wish(told(sandbox(), seen(RUNNING)), "Paused")
    yield row("running, pauseMethod Freeze", up, seen(RUNNING))
    yield row("running, not ready yet", sandbox(operatingMode="Paused", **PROBED), seen(RUNNING))
    yield row(
        "running, the engine refuses to freeze it",
        up,
        seen(RUNNING, failure=failed(Verb.FREEZE, Reason.ENGINE_REFUSED)),
    )
    yield row("frozen", told(freeze, seen(RUNNING)), seen(FROZEN))
    frozen = told(freeze, seen(FROZEN))
    yield row("frozen, then thawed by someone else", frozen, seen(RUNNING))
    yield row("frozen, then killed: a reboot, a restart of the engine", frozen, seen(EXITED))
    stopping, stopped = _stopped()
    yield row("running, pauseMethod Stop", stop, seen(RUNNING))
    yield row("running, pauseMethod Stop, not looked at just now", stop, seen(RUNNING, fresh=False))
    signalled = seen(RUNNING, signalled=run_id(RUNNING))
    yield row("stop signal sent", stopping, signalled)
    yield row("running on after its grace period", stopping, signalled, LATER)
    yield row("running after its grace period, never signalled", stopping, seen(RUNNING), LATER)
    yield row("stopped by us", stopping, seen(EXITED))
    yield row("stopped, then started by someone else", stopped, seen(AGAIN), LATER)
    yield row("exited by itself", _wish(told(sandbox(), seen(RUNNING)), "Paused"), seen(EXITED))
    yield row("removed by someone else, onMissing Report", frozen, seen())
    recreate = sandbox(operatingMode="Paused", onMissing="Recreate")
    yield row("removed by someone else, onMissing Recreate", told(recreate, seen(FROZEN)), seen())


def _wished_gone() -> Iterator[Row]:
    def row(found: str, subject: Subject, what: Seen, now: datetime = NOW) -> Row:
        return Row("Gone", found, subject, what, now)

    gone = sandbox(deleting=True)
    bare: dict[str, Any] = {"secret": SecretState.ABSENT}
    yield row("never ours: no finalizer", sandbox(deleting=True, claimed=False), seen())
    yield row("its Secret is there", gone, seen(RUNNING))
    refused = failed(None, Reason.API_REFUSED)
    yield row("its Secret may not be deleted", gone, seen(RUNNING, refusal=refused))
    yield row("its Secret may not be deleted, the rest is gone", gone, seen(refusal=refused))
    yield row("its container is being created", gone, seen(busy=Verb.RUN, pulling=True, **bare))
    yield row("being started", gone, seen(CONTAINER, busy=Verb.START, **bare))
    yield row("created", gone, seen(CONTAINER, **bare))
    yield row("running", gone, seen(RUNNING, **bare))
    yield row("running, stop signal sent", gone, seen(RUNNING, signalled=run_id(RUNNING), **bare))
    signalled = seen(RUNNING, signalled=run_id(RUNNING), **bare)
    yield row("running on after its grace period", gone, signalled, LATER)
    yield row("running after its grace period, no signal sent", gone, seen(RUNNING, **bare), LATER)
    yield row("frozen", gone, seen(FROZEN, **bare))
    yield row("exited", gone, seen(EXITED, **bare))
    yield row(
        "exited, the engine refuses to remove it",
        gone,
        seen(EXITED, failure=failed(Verb.CLEAN, Reason.ENGINE_REFUSED), **bare),
    )
    silent = replace(failed(Verb.CLEAN, Reason.ENGINE_UNREACHABLE), attempts=UNANSWERED_TOLD_AFTER)
    yield row("exited; its removal is never answered", gone, seen(EXITED, failure=silent, **bare))
    volumes = Holdings(volumes=("sbx-u1-work",), retained=("sbx-u1-keep",))
    yield row("volumes with reclaimPolicy Delete", gone, seen(holdings=volumes, **bare))
    kept = Holdings(retained=("sbx-u1-keep",))
    yield row("volumes with reclaimPolicy Retain alone", gone, seen(holdings=kept, **bare))
    yield row("nothing, when last looked at", gone, seen(fresh=False, **bare))
    yield row("nothing, looked at just now", gone, seen(**bare))
    broken = sandbox(deleting=True, image=None)
    yield row("running; its spec cannot be read", broken, seen(RUNNING, **bare))


def _unbelievable() -> Iterator[Row]:
    up = told(sandbox(), seen(RUNNING))
    gone = replace(sandbox(deleting=True), status=up.status)
    away = replace(ENGINE, unreachable_since=NOW)
    late = NOW + timedelta(seconds=10)
    other = EngineView(id="engine-2")
    given_up = EngineView(id="engine-2", accepted_ids=frozenset({"engine-1"}))
    bare: dict[str, Any] = {"secret": SecretState.ABSENT}
    yield Row("Running", "it ran; the engine does not answer", up, seen(RUNNING, engine=away))
    yield Row("Running", "it ran; no answer for 10 s", up, seen(RUNNING, engine=away), late)
    yield Row("Running", "it ran; another engine answers", up, seen(engine=other))
    yield Row("Running", "it ran; the settings give up its engine", up, seen(engine=given_up))
    yield Row("Running", "nothing is known yet, after a restart", up, seen(holdings=None))
    yield Row("Gone", "the engine does not answer", gone, seen(engine=away, **bare), late)
    yield Row("Gone", "another engine answers", gone, seen(engine=other, **bare))
    yield Row("Gone", "the settings give up its engine", gone, seen(engine=given_up, **bare))


def _wish(subject: Subject, mode: str) -> Subject:
    spec = subject.spec.model_copy(update={"operating_mode": mode}) if subject.spec else None
    return replace(subject, spec=spec)


def _stopped() -> tuple[Subject, Subject]:
    """One that is being stopped so as to be paused, and then is."""
    stopping = told(sandbox(operatingMode="Paused", pauseMethod="Stop"), seen(RUNNING))
    return stopping, told(stopping, seen(EXITED))


@dataclass(frozen=True, slots=True)
class Answer:
    """What `decide` says, in the document's words."""

    phase: str
    reason: str
    action: str
    message: str

    def __str__(self) -> str:
        return f"{self.phase} {self.reason}: {self.action}"


def answer(row: Row) -> Answer:
    decision = decide(row.sandbox, row.seen, row.rules, row.now)
    shown = decision.status.condition(ConditionType.READY)
    engine = decision.status.condition(ConditionType.ENGINE_REACHABLE)
    message = shown.message if shown else ""
    if engine is not None and engine.status == "False":
        message = f"EngineReachable is False, {engine.reason}: {engine.message}"
    return Answer(
        decision.status.phase, shown.reason if shown else "-", _action(decision, row.seen), message
    )


def _action(decision: Decision, found: Seen) -> str:
    actions = []
    if decision.cancel:
        actions.append("cancel what is under way")
    if decision.step is not None:
        actions.append(decision.step)
    if decision.operation is not None:
        actions.append(decision.operation.verb)
    if decision.look_again is not None and not actions:
        failed_before = found.failure or found.refusal
        actions.append("try again later" if failed_before else "look again in time")
    return ", ".join(actions) or "-"


_HEAD = """\
# Phases

What the operator tells and does in every situation. Generated by `python -m controller.generate`
from what `controller/core/decide.py` answers; do not edit.

*Found* is what the engine holds of the Sandbox, and what was before where that counts. *Reason*
and *says* are the condition Ready's; `-` is none. *Does* is the next step at the API server
(Claim, EnsureSecret, DeleteSecret, Release) or the operation at the engine; everything is then
looked at and decided again. An operation that failed is repeated with a backoff of up to 30 s.
"""

_TITLES = {
    "Running": "Wished running",
    "Paused": "Wished paused",
    "Gone": "Deleted",
}


def render() -> str:
    """docs/phases.md."""
    believed = [*_wished_running(), *_wished_paused(), *_wished_gone()]
    parts = [_HEAD]
    for wished, title in _TITLES.items():
        parts.append(f"\n## {title}\n\n" + _table([r for r in believed if r.wished == wished]))
    parts.append(
        "\n## When the engine cannot be believed\n\n"
        "Phases stay, nothing is done or collected, and deletions wait.\n\n"
        + _table(list(_unbelievable()), wished=True)
    )
    return "".join(parts)


def _table(of: list[Row], wished: bool = False) -> str:
    columns = ["found", "phase", "reason", "does", "says"]
    lines = [(["wished"] if wished else []) + columns]
    for row in of:
        said = answer(row)
        cells = [row.found, said.phase, said.reason, said.action, said.message]
        lines.append(([row.wished] if wished else []) + cells)
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |\n" for line in lines)
