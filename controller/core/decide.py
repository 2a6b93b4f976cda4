"""What was asked + what was seen + now -> what to write and what to do.

`decide` is the whole decision: the verdict of the table (`verdict`), the status that says so,
the writes to the API that must come before, and at most one operation for the engine. It is pure:
the shell applies it and asks again after every change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from controller.core import names
from controller.core.plaintext import in_url, one_line, visible
from controller.core.reasons import ConditionType, Reason
from controller.core.resources import (
    Condition,
    ContainerStatus,
    ExposedUrl,
    Phase,
    SandboxStatus,
    SecretEntry,
)
from controller.core.rules import Rules
from controller.core.state import Container, Run, SecretState, Seen, Verb
from controller.core.subject import Subject
from controller.core.verdict import Operation, Verdict, Wish, exit_cause, judge, stored_reason, wish

_STARTS = (Verb.RUN, Verb.START, Verb.THAW)
ENGINE_OUTAGE_SHOWN_AFTER = timedelta(seconds=10)
"""An outage shorter than this changes no status (invariant 4)."""


class ApiStep(StrEnum):
    """A write to the API that is not the status. Each is applied, then `decide` asked again."""

    CLAIM = "Claim"
    """Store the finalizer and the labels, before the first engine call."""
    ENSURE_SECRET = "EnsureSecret"  # noqa: S105
    DELETE_SECRET = "DeleteSecret"  # noqa: S105
    RELEASE = "Release"
    """Remove the finalizer: nothing of this UID is left."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Apply in this order: `status` if it differs from the stored one, `step`, `operation`."""

    status: SandboxStatus
    step: ApiStep | None = None
    operation: Operation | None = None
    cancel: bool = False
    """The operation in flight is no longer wanted."""
    look_again: datetime | None = None
    probe: Container | None = None
    """Probe the readiness of this container."""


def decide(sandbox: Subject, seen: Seen, rules: Rules, now: datetime) -> Decision:
    """Decide about one Sandbox. `now` is aware and in UTC; raises nothing."""
    decision = _decide(sandbox, seen, rules, now)
    status = _shown(decision.status)
    return decision if status is decision.status else replace(decision, status=status)


def _decide(sandbox: Subject, seen: Seen, rules: Rules, now: datetime) -> Decision:
    stored = sandbox.status
    wished = wish(sandbox)
    claimed = names.FINALIZER in sandbox.metadata.finalizers
    if wished is Wish.GONE:
        return _gone(sandbox, seen, rules, now) if claimed else Decision(stored)
    if not claimed:
        return Decision(stored, step=ApiStep.CLAIM)

    changed = _changed_engine(stored, seen)
    away = seen.engine.unreachable_since is not None
    if changed or away or seen.holdings is None:
        return _blind(sandbox, seen, now, changed=changed, away=away)
    verdict = judge(sandbox, seen, rules, now)
    operation = verdict.operation
    cancel = _unwanted(seen, operation)
    status = _compose(sandbox, verdict, seen, rules, now)
    container = seen.holdings.container
    probe = (
        container
        if container is not None
        and container.run is Run.RUNNING
        and wished is Wish.RUNNING
        and sandbox.spec is not None
        and sandbox.spec.readiness is not None
        else None
    )
    if seen.busy is not None:
        return Decision(status, None, None, cancel, verdict.look_again, probe)
    if _needs_secret(sandbox, seen):
        refusal = seen.refusal
        if refusal is not None:
            # An API server that has just started refuses everybody until it has read its roles.
            waiting = refusal.reason is Reason.API_REFUSED
            phase = verdict.phase if waiting else Phase.ERROR
            hindered = Verdict(phase, refusal.reason, refusal.message, pausing=verdict.pausing)
            due = now >= refusal.retry_at
            # Of one that has a container the reason says how that was paused: it is not replaced.
            kept = waiting and container is not None
            return Decision(
                status if kept else _compose(sandbox, hindered, seen, rules, now),
                step=ApiStep.ENSURE_SECRET if due else None,
                look_again=refusal.retry_at,
                probe=probe,
            )
        # A name that was taken is told on until the Secret has been looked for.
        untold = stored_reason(stored) not in (
            Reason.SECRET_NAME_TAKEN,
            Reason.SECRET_NOT_FOUND,
            Reason.API_REFUSED,
        )
        return Decision(
            status if container is not None and untold else stored,
            step=ApiStep.ENSURE_SECRET,
            look_again=verdict.look_again,
            probe=probe,
        )
    return Decision(status, None, operation, False, verdict.look_again, probe)


_NEEDS_NO_STATUS = frozenset(
    {Verb.OBSERVE, Verb.READ_KEY, Verb.SIGNAL_STOP, Verb.KILL, Verb.CLEAN, Verb.UPDATE_LIMITS}
)
_ENDS_PROCESSES = _NEEDS_NO_STATUS | {Verb.FREEZE}


def may_go_on(sandbox: Subject, decision: Decision, *, refused: bool) -> bool:
    """Whether a decision is carried out although its status could not be stored.

    A deletion always is. Where the API server did not answer, the rest waits for what a restart
    must know (invariant 3): that a container is being stopped, and that it is frozen by us. Where
    it `refused` for good, everything goes on that starts no process: a pause must not depend on
    the room that the object has left.
    """
    if sandbox.metadata.deletion_timestamp is not None:
        return True
    if decision.operation is None:
        return refused and decision.step is None
    if refused:
        return decision.operation.verb in _ENDS_PROCESSES
    stored = decision.status.pausing == sandbox.status.pausing
    return stored and decision.operation.verb in _NEEDS_NO_STATUS


def terse(status: SandboxStatus) -> SandboxStatus:
    """What fits where the object has no room left: the phase, what a restart must know, and the
    conditions without their messages. What it drops makes room in a status that was stored."""
    return status.model_copy(
        update={
            "exposed_urls": (),
            "session_api_key_secret_ref": None,
            "conditions": tuple(
                condition.model_copy(update={"message": ""})
                for condition in status.conditions
                if condition.type == ConditionType.READY
            ),
        }
    )


def _shown(status: SandboxStatus) -> SandboxStatus:
    """The status without anything hidden in its texts: the one place that sees to it, for what was
    composed and for what others have stored. The same object where nothing is hidden."""
    changes: dict[str, object] = {}
    for field in ("sandbox_spec_id", "created_by_user_id"):
        changes |= _changed(status, field, visible)
    for name, fields in _PARTS:
        part = getattr(status, name)
        inner: dict[str, object] = {}
        for field in fields if part is not None else ():
            inner |= _changed(part, field, visible)
        if inner:
            changes[name] = part.model_copy(update=inner)
    for field, text, clean in _LISTS:
        parts = getattr(status, field)
        if any(_changed(part, text, clean) for part in parts):
            changes[field] = tuple(
                part.model_copy(update=_changed(part, text, clean)) for part in parts
            )
    return status.model_copy(update=changes) if changes else status


_PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("container", ("id", "engine_id", "name", "image_id", "reason")),
    ("suspended", ("reason",)),
    ("pausing", ("container_id",)),
)
_LISTS = (("conditions", "message", one_line), ("exposed_urls", "url", visible))


def _changed(part: Any, field: str, clean: Callable[[str], str]) -> dict[str, object]:
    before: str = getattr(part, field)
    after = clean(before)
    return {} if after == before else {field: after}


def _unwanted(seen: Seen, operation: Operation | None) -> bool:
    """What is under way would let processes run, and that is not what is wanted any more."""
    return seen.busy in _STARTS and (operation is None or operation.verb not in _STARTS)


def _needs_secret(sandbox: Subject, seen: Seen) -> bool:
    return (
        sandbox.spec is not None
        and sandbox.spec.session_key.mode == "Generate"
        and seen.secret is not SecretState.PRESENT
    )


def _gone(sandbox: Subject, seen: Seen, rules: Rules, now: datetime) -> Decision:
    changed = _changed_engine(sandbox.status, seen)
    away = seen.engine.unreachable_since is not None
    if (changed or away) and seen.holdings is not None:
        seen = _without_holdings(seen)
    verdict = judge(sandbox, seen, rules, now)
    status = _compose(sandbox, verdict, seen, rules, now)
    look_again = verdict.look_again
    if changed or away:  # why deleting takes so long is told like any outage
        told = _blind(replace(sandbox, status=status), seen, now, changed=changed, away=away)
        status, look_again = told.status, told.look_again
    cancel = _unwanted(seen, None)
    if seen.secret is not SecretState.ABSENT:
        # DELETING first, then the Secret, then the engine; the fast lane waits for none of them.
        refusal = seen.refusal
        if refusal is None or now >= refusal.retry_at:
            return Decision(status, ApiStep.DELETE_SECRET, cancel=cancel, look_again=look_again)
        # Nor does the engine wait for a Secret that may not be deleted; the finalizer does.
        look_again = min(refusal.retry_at, look_again or refusal.retry_at)
    if seen.busy is not None:
        return Decision(status, cancel=cancel, look_again=look_again)
    bare = seen.holdings is not None and seen.holdings.empty and seen.fresh
    if bare and seen.secret is SecretState.ABSENT:
        return Decision(status, step=ApiStep.RELEASE)
    return Decision(status, None, verdict.operation, False, look_again)


def _without_holdings(seen: Seen) -> Seen:
    return Seen(
        engine=seen.engine,
        secret=seen.secret,
        busy=seen.busy,
        signalled=seen.signalled,
        signalled_at=seen.signalled_at,
        failure=seen.failure,
        refusal=seen.refusal,
    )


def _changed_engine(stored: SandboxStatus, seen: Seen) -> bool:
    """Another engine answers than the one that holds the container (invariant 4)."""
    recorded = stored.container.engine_id if stored.container else ""
    return (
        recorded != ""
        and seen.engine.id is not None
        and recorded != seen.engine.id
        and recorded not in seen.engine.accepted_ids
    )


def _blind(sandbox: Subject, seen: Seen, now: datetime, *, changed: bool, away: bool) -> Decision:
    """The engine cannot be believed: phases stay, nothing is done, the outage is told in time."""
    stored = sandbox.status
    if changed:
        recorded = stored.container.engine_id if stored.container else ""
        condition = (
            Reason.ENGINE_CHANGED,
            f"the container belongs to engine {recorded}, but engine {seen.engine.id} answers; "
            "bring the former back, or name its ID in the setting accepted_engine_ids to give "
            "its containers up",
        )
    elif away and seen.engine.unreachable_since is not None:
        shown_at = seen.engine.unreachable_since + ENGINE_OUTAGE_SHOWN_AFTER
        if now < shown_at:
            return Decision(stored, look_again=shown_at)
        condition = (
            Reason.ENGINE_UNREACHABLE,
            "the container engine does not answer; everything stays as it is until it does",
        )
    else:
        return Decision(stored)
    # Others' conditions are not kept: with one of ours more there could be too many.
    ours = set(ConditionType) - {ConditionType.ENGINE_REACHABLE}
    kept = [c for c in stored.conditions if c.type in ours]
    kept.append(
        _condition(sandbox, ConditionType.ENGINE_REACHABLE, False, condition[0], condition[1], now)
    )
    return Decision(stored.model_copy(update={"conditions": tuple(kept)}))


def _compose(
    sandbox: Subject, verdict: Verdict, seen: Seen, rules: Rules, now: datetime
) -> SandboxStatus:
    """The status that tells the verdict and what was seen. Equal inputs give equal output."""
    stored, spec, meta = sandbox.status, sandbox.spec, sandbox.metadata
    wished = wish(sandbox)
    if verdict.keep and not stored.conditions:
        return stored  # the API server's default says STARTING already
    phase = verdict.phase
    container = seen.holdings.container if seen.holdings else None
    ready = phase is Phase.RUNNING and verdict.reason is Reason.READY
    if wished is Wish.PAUSED:
        ready = phase is Phase.PAUSED
    reconciling = phase in (Phase.STARTING, Phase.DELETING) or verdict.reason is Reason.PAUSING
    stalled = phase in (Phase.ERROR, Phase.MISSING)
    reason, message = verdict.reason, verdict.message
    conditions = [
        _condition(sandbox, ConditionType.READY, ready, reason, message, now),
        _condition(sandbox, ConditionType.AVAILABLE, phase is Phase.RUNNING, reason, "", now),
        _condition(sandbox, ConditionType.RECONCILING, reconciling, reason, "", now),
        _condition(sandbox, ConditionType.STALLED, stalled, reason, "", now),
    ]
    reachable = stored.condition(ConditionType.ENGINE_REACHABLE)
    gone = wished is Wish.GONE
    if seen.holdings is not None and not (gone and stored.phase is Phase.DELETING):
        reachable = _condition(
            sandbox, ConditionType.ENGINE_REACHABLE, True, Reason.ENGINE_REACHABLE, "", now
        )
    if reachable is not None:
        conditions.append(reachable)
    return SandboxStatus(
        phase=phase,
        sandbox_spec_id=_spec_id(sandbox),
        created_by_user_id=(spec.created_by_user_id or "" if spec else stored.created_by_user_id),
        created_at=meta.creation_timestamp,
        exposed_urls=() if gone else _urls(sandbox, phase, container, rules),
        session_api_key_secret_ref=None if gone else _secret_ref(sandbox),
        # How the container ends while it is being deleted is worth no write.
        container=stored.container if gone else _container(sandbox, verdict, seen, container),
        suspended=stored.suspended,
        pausing=verdict.pausing,
        last_activity_at=stored.last_activity_at,
        expires_at=stored.expires_at,
        conditions=tuple(conditions),
        observed_generation=meta.generation,
    )


def _spec_id(sandbox: Subject) -> str:
    spec = sandbox.spec
    if spec is None:
        return sandbox.status.sandbox_spec_id
    return spec.template_ref.name if spec.template_ref else spec.image or ""


def _secret_ref(sandbox: Subject) -> SecretEntry | None:
    if sandbox.spec is None:
        return sandbox.status.session_api_key_secret_ref
    match sandbox.spec.session_key.mode:
        case "Generate":
            return SecretEntry(name=names.secret_name(sandbox.metadata.name), key=names.SECRET_KEY)
        case "SecretRef" if sandbox.spec.session_key.secret_ref is not None:
            ref = sandbox.spec.session_key.secret_ref
            return SecretEntry(name=ref.name, key=ref.key)
        case _:
            return None


def _urls(
    sandbox: Subject, phase: Phase, container: Container | None, rules: Rules
) -> tuple[ExposedUrl, ...]:
    """Where clients reach the ports; only while something may answer there."""
    if container is None or sandbox.spec is None:
        return ()
    if container.run is not Run.RUNNING or phase not in (Phase.STARTING, Phase.RUNNING):
        return ()
    host = f"[{rules.url_host}]" if ":" in rules.url_host else rules.url_host
    return tuple(
        ExposedUrl(
            name=port.name,
            url=f"{port.scheme}://{host}:{container.ports[port.container_port]}{in_url(port.path)}",
            port=container.ports[port.container_port],
        )
        for port in sandbox.spec.ports
        if port.container_port in container.ports
    )


def _container(
    sandbox: Subject, verdict: Verdict, seen: Seen, container: Container | None
) -> ContainerStatus | None:
    stored = sandbox.status.container
    if container is None:
        return stored
    same = stored is not None and stored.id == container.id
    restarts = stored.restart_count if stored is not None and same else 0
    exited = container.run is Run.EXITED
    return ContainerStatus(
        id=container.id,
        engine_id=seen.engine.id or "",
        name=container.name,
        image_id=container.image_id,
        started_at=container.started_at,
        finished_at=container.finished_at if exited else None,
        exit_code=container.exit_code if exited else None,
        reason=exit_cause(sandbox.status, container) if exited else "",
        restart_count=restarts if verdict.restart_count is None else verdict.restart_count,
    )


def _condition(
    sandbox: Subject,
    type_: ConditionType,
    status: bool,
    reason: Reason,
    message: str,
    now: datetime,
) -> Condition:
    before = sandbox.status.condition(type_)
    value = "True" if status else "False"
    message = one_line(message)  # as it is stored, or it would never be the same
    generation = sandbox.metadata.generation
    if before is not None and (
        (before.status, before.reason, before.message, before.observed_generation)
        == (value, reason, message, generation)
    ):
        return before
    since = now.replace(microsecond=0)
    if before is not None and before.status == value:
        since = before.last_transition_time
    return Condition(
        type=type_,
        status=value,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
