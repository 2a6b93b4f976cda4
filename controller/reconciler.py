"""The fast lane: one `reconcile(key)` for every trigger, deletion included.

It asks `decide`, writes the status, takes the API step, starts the operation, and says when to
look again. It talks to the API server alone and never waits for the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from controller.core import names
from controller.core.decide import ApiStep, Decision, decide, may_go_on, terse
from controller.core.reasons import ConditionType, Reason
from controller.core.resources import SandboxStatus
from controller.core.rules import Rules
from controller.core.state import Failure, SecretState, Verb
from controller.core.verdict import Operation
from controller.entries import Engines, Entries, Entry, Unstored
from controller.fairness import RoundRobin
from controller.kube import session_keys
from controller.kube.api import (
    ApiError,
    ApiUnreachable,
    Conflict,
    KubeApi,
    NotFound,
    Refused,
    TooLarge,
)
from controller.kube.environment import session_key_of_user
from controller.kube.events import EventPoster, News
from controller.operations import Operations
from controller.prober import Prober, target
from controller.workqueue import WorkQueue

log = logging.getLogger(__name__)

_STEPS = 8
"""Steps of one key in a row; then the others have their turn."""
_SECRET_RETRY = timedelta(seconds=2)
_BEREAVED_RETRY_SECONDS = 1.0
_REFUSED_RETRY_SECONDS = 60.0
"""Until the API server is asked again for what it has refused: repeating does not cure it, a
change of its settings, of a role or of a policy does."""
_FINAL_AFTER = 5
"""Failures in a row of one status write, while other writes are accepted, that count as refused."""
_BEREAVED_OF_A_NAMESPACE = 1000
_OUTAGE_WRITES_PER_SECOND = 50.0
"""Pace of statuses that only tell of an outage (invariant 4)."""


class Reconciler:
    """Brings one Sandbox after the other a step closer to what was wished."""

    def __init__(
        self,
        *,
        api: KubeApi,
        entries: Entries,
        queue: WorkQueue,
        operations: Operations,
        prober: Prober,
        events: EventPoster,
        engine: Engines,
        rules: Rules,
        probe_host: str,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._entries = entries
        self._queue = queue
        self._operations = operations
        self._prober = prober
        self._events = events
        self._engine = engine
        self._rules = rules
        self._probe_host = probe_host
        self._now = now
        self._next_outage_write = 0.0
        self._outage_turns: dict[str, float] = {}
        self._bereaved = Bereaved()

    async def work(self) -> None:
        """One worker: takes keys until it is cancelled. The one place where errors are judged."""
        while True:
            key = await self._queue.get()
            try:
                await self.reconcile(key)
                self._queue.succeeded(key)
            except Refused as error:
                self._report(key, error)
                self._queue.failed(key, _REFUSED_RETRY_SECONDS)
            except ApiError as error:
                log.info("%s is tried again: %s", key, error)
                self._queue.failed(key)
            except Exception as error:
                log.error("%s is tried again after an internal error: %r", key, type(error))
                log.debug("", exc_info=True)
                self._queue.failed(key)
            finally:
                self._queue.done(key)

    async def reconcile(self, uid: str) -> None:
        """Bring one Sandbox as far as the API server lets it go now. Raises ApiError."""
        untold: ApiError | None = None
        for _ in range(_STEPS):
            entry = self._entries.get(uid)
            if entry is None:
                self._queue.forget(uid)
                return
            seen = entry.seen(self._engine.view)
            now = self._now()
            decision = decide(entry.subject, seen, self._rules, now)
            deleting, wishes = entry.deleting_since, _wishes(entry)
            if decision.cancel and entry.in_flight is not None:
                entry.in_flight.cancel()
            if untold is None and self._to_be_stored(entry, decision):
                try:
                    if not await self._tell(entry, decision):
                        return
                except ApiError as error:
                    untold = error
                    await self._not_stored(entry, decision, error)
            if self._entries.get(uid) is not entry or entry.deleting_since != deleting:
                continue  # it went, or its deletion came, while the status was written
            if _wishes(entry) != wishes:
                continue  # another wish came so, too: its own event will pass for an echo
            if entry.deleting_since is not None:
                self._queue.marked(uid)
                if self._queue.pressed(uid):
                    self._queue.add(uid)  # in a burst every deletion is shown before one goes on
                    return
            unstored = entry.unstored
            refused = False
            if unstored is not None and unstored.final:
                refused = True
                wait = unstored.retry_at - asyncio.get_running_loop().time()
                self._queue.add_after(uid, wait)
            if (untold or refused) and not may_go_on(entry.subject, decision, refused=refused):
                break
            self._probe(entry, decision)
            if decision.look_again is not None and decision.look_again > now:
                self._queue.add_after(uid, (decision.look_again - now).total_seconds())
            if decision.step is None:
                self._begin(entry, decision.operation)
                if not untold:
                    await self._label_users_key(entry)
                break
            if not await self._take(entry, decision.step):
                break
        else:
            self._queue.add(uid)
        if untold is not None and not isinstance(untold, Refused):
            raise untold

    # Status

    async def _tell(self, entry: Entry, decision: Decision) -> bool:
        """Write the status. Returns whether to go on with the decision."""
        if self._only_tells_outage(entry, decision.status):
            time = asyncio.get_running_loop().time()
            turn = self._outage_turns.pop(entry.uid, None)
            if turn is None:
                turn = max(time, self._next_outage_write)
                self._next_outage_write = turn + 1 / _OUTAGE_WRITES_PER_SECOND
            if turn > time:
                self._outage_turns[entry.uid] = turn
                self._queue.add_after(entry.uid, turn - time)
                return False
        before, meta = entry.subject.status, entry.subject.metadata
        if entry.unstored is not None:
            before = entry.unstored.stored
        changes = merge_patch(before.manifest(), decision.status.manifest())
        if not changes:
            entry.unstored = None
            return True
        try:
            written = await self._api.patch_status(meta.namespace, meta.name, meta.uid, changes)
        except NotFound:
            self.gone(entry.uid)
            return False
        except Conflict as conflict:
            # The name is another object's now, or the API server gave up against other writers.
            await self._refresh(entry, conflict)
            return False
        entry.unstored, entry.reported = None, ""
        self._written(entry, written)
        self._announce(entry, before, decision.status)
        return True

    @staticmethod
    def _to_be_stored(entry: Entry, decision: Decision) -> bool:
        """Whether the status is written now. One that was refused is offered again in time, and a
        new phase at once."""
        unstored, status = entry.unstored, decision.status
        if unstored is None or not unstored.final:
            return status != entry.subject.status
        early = asyncio.get_running_loop().time() < unstored.retry_at
        if early and status.phase is entry.subject.status.phase:
            entry.subject = replace(entry.subject, status=status)
            return False
        return True

    async def _not_stored(self, entry: Entry, decision: Decision, error: ApiError) -> None:
        """A status could not be stored. Where repeating cannot cure it, what goes on goes on from
        it as if it were, an Event says so to the user, and what has room is stored."""
        now = asyncio.get_running_loop().time()
        unstored = entry.unstored
        if unstored is None:
            unstored = entry.unstored = Unstored(entry.subject.status, now, now)
        unstored.failures += 1
        refused = isinstance(error, Refused)
        # An answer that only this object gets: it has no room, and the words for it are unknown
        # to us, or somebody's webhook fails for it.
        refused |= (
            error.status >= 500
            and unstored.failures >= _FINAL_AFTER
            and self._api.written_at > unstored.first_at
        )
        if not refused:
            return
        if isinstance(error, TooLarge):
            await self._store_tersely(entry, unstored, decision.status)
        self._report(entry.uid, error)
        unstored.final = True
        unstored.retry_at = now + _REFUSED_RETRY_SECONDS
        entry.subject = replace(entry.subject, status=decision.status)

    async def _store_tersely(self, entry: Entry, unstored: Unstored, status: SandboxStatus) -> None:
        short, meta = terse(status), entry.subject.metadata
        changes = merge_patch(unstored.stored.manifest(), short.manifest())
        if not changes:
            return
        try:
            obj = await self._api.patch_status(meta.namespace, meta.name, meta.uid, changes)
        except ApiError as error:
            log.info("%s: not even a short status can be stored: %s", entry.uid, error)
            return
        unstored.final = False  # what comes is the newest there is, and no status of ours is in it
        self._written(entry, obj)
        unstored.stored = entry.subject.status
        entry.unstored = unstored

    def _report(self, uid: str, error: ApiError) -> None:
        """An Event says what the status cannot."""
        entry = self._entries.get(uid)
        log.warning("%s: the API server refuses a write: %s", uid, error)
        if entry is None:
            return
        meta, phase = entry.subject.metadata, entry.subject.status.phase
        reason, message = Reason.API_REFUSED, f"the API server refuses to store it: {error}"
        if isinstance(error, TooLarge):
            reason = Reason.OBJECT_TOO_LARGE
            message = (
                "the object is too large for the API server to store its status or finalizer: "
                "remove annotations, labels, owner references or environment values. Nothing is "
                "started for it until then; pausing and deleting go on"
            )
        if entry.reported != reason:
            entry.reported = reason
            self._events.post(News(meta, phase, reason, message, self._now()))

    def _only_tells_outage(self, entry: Entry, status: SandboxStatus) -> bool:
        stored = entry.subject.status
        return status.phase is stored.phase and (
            status.model_copy(update={"conditions": ()})
            == stored.model_copy(update={"conditions": ()})
            and {c.type for c in status.conditions if c not in stored.conditions}
            == {ConditionType.ENGINE_REACHABLE}
        )

    def _announce(self, entry: Entry, before: SandboxStatus, after: SandboxStatus) -> None:
        was, is_ = before.condition(ConditionType.READY), after.condition(ConditionType.READY)
        if is_ is None or (was is not None and was.reason == is_.reason):
            return
        meta = entry.subject.metadata
        log.info("%s/%s: %s %s", meta.namespace, meta.name, after.phase, is_.reason)
        self._events.post(News(meta, after.phase, Reason(is_.reason), is_.message, self._now()))

    # Steps

    async def _take(self, entry: Entry, step: ApiStep) -> bool:
        """Take one step at the API server. Returns whether to decide again at once."""
        match step:
            case ApiStep.CLAIM:
                return await self._claim(entry)
            case ApiStep.ENSURE_SECRET:
                return await self._ensure_secret(entry)
            case ApiStep.DELETE_SECRET:
                return await self._delete_secret(entry)
            case ApiStep.RELEASE:
                return await self._release(entry)

    async def _claim(self, entry: Entry) -> bool:
        meta, spec = entry.subject.metadata, entry.subject.spec
        labels = {names.NAME_LABEL: meta.name}
        key: str | None = None
        generated = spec is not None and spec.session_key.mode == "Generate"
        if generated and (entry.secret_uid or entry.subject.status.container):
            entry.doubt_secret()  # someone took the finalizer away: it has its key already
        elif generated:
            key = session_keys.generate()
        elif spec is not None:
            # One that may not be read is told of once it is claimed, by the attempt to create.
            with contextlib.suppress(Refused):
                key = await session_key_of_user(self._api, meta.namespace, spec)
        if key is not None:
            labels[names.KEY_HASH_LABEL] = names.key_hash(key)
        finalizers = await self._finalizers(entry)
        if finalizers is None:
            return False
        changes = {"finalizers": [*finalizers, names.FINALIZER], "labels": labels}
        if not await self._patch(entry, changes):
            return False
        if generated and key is not None:
            entry.key = key
        return True

    async def _ensure_secret(self, entry: Entry) -> bool:
        meta = entry.subject.metadata
        try:
            # Right after the claim there can be none; a name that is taken shows when storing.
            claimed_now = entry.key is not None and entry.secret_uid is None
            found = None if claimed_now else await session_keys.find(self._api, meta)
            if found is None:
                container = entry.holdings.container if entry.holdings else None
                if entry.key is None and container is not None:
                    self._read_key(entry, container.id)
                    return False
                entry.key = entry.key or session_keys.generate()
                if not await self._label(entry, names.key_hash(entry.key)):
                    return False
                found = await session_keys.store(self._api, meta, entry.key)
            if found.key is None:
                raise session_keys.KeyRefused(
                    Reason.SECRET_NOT_FOUND,
                    f"Secret {names.secret_name(meta.name)} has no text under key "
                    f"{names.SECRET_KEY}; delete it, and it is written anew",
                )
        except session_keys.KeyRefused as refused:
            return self._refused(entry, refused.reason, refused.message)
        except Refused as error:
            message = f"the API server refuses what the session key needs: {error}"
            log.info("%s: %s", entry.uid, message)
            return self._refused(entry, Reason.API_REFUSED, message)
        if not await self._label(entry, names.key_hash(found.key)):
            return False
        entry.secret, entry.secret_uid = SecretState.PRESENT, found.uid
        holdings = entry.holdings
        has_container = holdings is not None and holdings.container is not None
        entry.key = None if has_container else found.key
        entry.refusal = None
        return True

    def _refused(self, entry: Entry, reason: Reason, message: str) -> bool:
        if entry.deleting_since is None:  # else the key is of no interest any more
            entry.refusal = self._refusal(reason, message)
        return True

    def _refusal(self, reason: Reason, message: str) -> Failure:
        return Failure(None, reason, message, self._now() + _SECRET_RETRY)

    def _read_key(self, entry: Entry, container_id: str) -> None:
        failure = entry.failure
        if failure is not None and failure.verb is Verb.READ_KEY:
            wait = (failure.retry_at - self._now()).total_seconds()
            if wait > 0:
                self._queue.add_after(entry.uid, wait)
                return
        self._begin(entry, Operation(Verb.READ_KEY, container_id))

    async def _label(self, entry: Entry, hash_: str) -> bool:
        """Have the label that finds a Sandbox by its key. Returns whether it is in place."""
        if entry.subject.metadata.labels.get(names.KEY_HASH_LABEL) == hash_:
            return True
        return await self._patch(entry, {"labels": {names.KEY_HASH_LABEL: hash_}})

    async def _label_users_key(self, entry: Entry) -> None:
        """A user's key may come later than the claim: it is labelled once a container has it.

        Whether its creation was answered or not, or another life of this process made it: then the
        container itself tells it.
        """
        spec, holdings, failure = entry.subject.spec, entry.holdings, entry.failure
        if spec is None or spec.session_key.mode != "SecretRef" or entry.deleting_since is not None:
            return
        if entry.key_hash is not None:
            if entry.key_hash:
                await self._label(entry, entry.key_hash)
        elif names.KEY_HASH_LABEL in entry.subject.metadata.labels:
            return
        elif failure is not None and failure.verb is not Verb.READ_KEY:
            return  # its backoff is not to be ended
        elif holdings is not None and holdings.container is not None:
            self._read_key(entry, holdings.container.id)

    async def _delete_secret(self, entry: Entry) -> bool:
        spec = entry.subject.spec
        if spec is None or spec.session_key.mode == "Generate":
            try:
                await session_keys.delete(self._api, entry.subject.metadata, entry.secret_uid)
            except ApiError as error:
                # The engine does not wait for it (decide); the finalizer does.
                message = f"the API server refuses to delete the session key's Secret: {error}"
                refusal = self._refusal(Reason.API_REFUSED, message)
                entry.refusal = replace(refusal, silent=isinstance(error, ApiUnreachable))
                return True
        entry.secret, entry.key, entry.refusal = SecretState.ABSENT, None, None
        return True

    async def _release(self, entry: Entry) -> bool:
        finalizers = await self._finalizers(entry)
        if finalizers is None:
            return False
        others = [f for f in finalizers if f != names.FINALIZER]
        if await self._patch(entry, {"finalizers": others or None}) and not others:
            self.gone(entry.uid)
        return False

    async def _finalizers(self, entry: Entry) -> Sequence[str] | None:
        """All of the object, at the version that `_patch` sends. None where there is a newer one,
        which is in the entry then, or the object is gone."""
        meta = entry.subject.metadata
        if not meta.finalizers_cut:
            return meta.finalizers
        try:
            now = (await self._api.get_whole_sandbox(meta.namespace, meta.name))["metadata"]
        except NotFound:
            self.gone(entry.uid)
            return None
        if (now["uid"], now["resourceVersion"]) != (meta.uid, meta.resource_version):
            await self._refresh(entry, Conflict("the object has been modified", 409, "Conflict"))
            return None
        return tuple(now.get("finalizers") or ())

    async def _patch(self, entry: Entry, changes: Mapping[str, Any]) -> bool:
        """Change metadata at the version that the decision was made on. Returns whether it was
        done; if not, a newer version is in the entry, or the object is gone."""
        meta = entry.subject.metadata
        try:
            written = await self._api.patch_metadata(
                meta.namespace, meta.name, meta.uid, meta.resource_version, changes
            )
        except NotFound:
            self.gone(entry.uid)
            return False
        except Conflict as conflict:
            await self._refresh(entry, conflict)
            return False
        entry.reported = ""
        self._written(entry, written)
        return True

    def _written(self, entry: Entry, obj: Mapping[str, Any]) -> None:
        entry.conflicted = False
        self._entries.update(obj)

    async def _refresh(self, entry: Entry, conflict: Conflict) -> None:
        """Read the object again and have it decided on. Raises ApiError; the conflict itself where
        it lasts, and the object that is read does not explain it."""
        meta = entry.subject.metadata
        try:
            obj = await self._api.get_sandbox(meta.namespace, meta.name)
        except NotFound:
            self.gone(entry.uid)
            return
        if obj["metadata"]["uid"] != entry.uid:
            self.gone(entry.uid)
            return
        if self._entries.update(obj) is None:
            if entry.conflicted:
                raise conflict
            entry.conflicted = True
        self._queue.add(entry.uid)

    def gone(self, uid: str) -> None:
        """The object is gone: what the engine may still hold of it is the sweep's.

        It may be gone in spite of the finalizer: someone removed that by hand, or the API server's
        delete had read the object before the claim was stored, and deletes by UID alone.
        """
        entry = self._entries.remove(uid)
        if entry is not None:
            if entry.in_flight is not None:
                entry.in_flight.cancel()
            claimed = names.FINALIZER in entry.subject.metadata.finalizers
            if claimed and entry.secret is not SecretState.ABSENT:
                self._bereaved.put(entry)
        self._outage_turns.pop(uid, None)
        self._prober.forget(uid)
        self._queue.forget(uid)

    async def delete_bereaved_secrets(self) -> None:
        """Delete the Secrets of Sandboxes that went without being released, for ever.

        What a restart forgets here is left to the owner reference."""
        while True:
            entry = await self._bereaved.get()
            spec = entry.subject.spec
            if spec is not None and spec.session_key.mode != "Generate":
                continue
            try:
                await session_keys.delete(self._api, entry.subject.metadata, entry.secret_uid)
            except ApiUnreachable:
                self._bereaved.put(entry)
                await asyncio.sleep(_BEREAVED_RETRY_SECONDS)
            except ApiError as error:
                log.warning("the Secret of %s is left: %s", entry.uid, error)

    # Engine and probes

    def _begin(self, entry: Entry, operation: Operation | None) -> None:
        if entry.in_flight is not None:
            return
        if entry.look and self._engine.view.unreachable_since is None:
            operation = self._looking(entry)
        if operation is not None and self._engine.view.unreachable_since is None:
            self._operations.start(entry, operation)

    def _looking(self, entry: Entry) -> Operation | None:
        """What is known is stale: look first, or later if looking has just failed."""
        failure = entry.failure
        if failure is not None and failure.reason is Reason.ENGINE_UNREACHABLE:
            wait = (failure.retry_at - self._now()).total_seconds()
            if wait > 0:
                self._queue.add_after(entry.uid, wait)
                return None
        return Operation(Verb.OBSERVE)

    def _probe(self, entry: Entry, decision: Decision) -> None:
        spec, container = entry.subject.spec, decision.probe
        wanted = None
        if spec is not None and container is not None:
            wanted = target(spec, container, self._probe_host)
        self._prober.watch(entry, wanted)


class Bereaved:
    """Sandboxes that went without being released. Namespaces take turns, and each has a bound: of
    what is dropped the owner reference has the Secret deleted."""

    def __init__(self) -> None:
        self._uids: RoundRobin[str] = RoundRobin()
        self._entries: dict[str, Entry] = {}
        self._arrived = asyncio.Event()

    def put(self, entry: Entry) -> None:
        namespace = entry.subject.metadata.namespace
        if self._uids.count(namespace) >= _BEREAVED_OF_A_NAMESPACE:
            del self._entries[self._uids.pop_of(namespace)]
        self._uids.add(entry.uid, namespace)
        self._entries[entry.uid] = entry
        self._arrived.set()

    async def get(self) -> Entry:
        while not self._uids:
            self._arrived.clear()
            await self._arrived.wait()
        return self._entries.pop(self._uids.pop())


def _wishes(entry: Entry) -> tuple[int, Mapping[str, str]]:
    """All that a user can change of a Sandbox, beside deleting it."""
    return entry.subject.metadata.generation, entry.subject.metadata.annotations


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns `before` into `after`."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if nested := merge_patch(old, value):
                patch[name] = nested
        elif old != value:
            patch[name] = value
    return patch
