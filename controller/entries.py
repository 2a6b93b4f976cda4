"""What the operator remembers of each Sandbox: a cache, by UID, of the API and the engine.

`Entries` keeps the newest version of every object and refuses late echoes; `Entry` holds what was
observed of one, and `Entry.seen` puts it into `decide`'s words. Losing all of it loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from controller.core.names import FINALIZER
from controller.core.resources import InvalidResource, Phase, SandboxStatus
from controller.core.state import (
    EngineView,
    Failure,
    Holdings,
    Probe,
    Run,
    SecretState,
    Seen,
    Verb,
)
from controller.core.subject import Subject
from controller.engines.base import EngineEvent

log = logging.getLogger(__name__)

OFFERED_AGAIN_SECONDS = 1.0
"""After a change to an object that had no room for its status."""
TOMBSTONE_SECONDS = 600.0
"""How long echoes of a deleted object are refused; watches are far faster."""


@dataclass(slots=True)
class Engines:
    """The engine as the watch of it sees it now."""

    view: EngineView


@dataclass(slots=True)
class InFlight:
    """An operation that runs for a Sandbox."""

    verb: Verb
    task: asyncio.Task[None] | None = None
    container_id: str | None = None
    """The container it works on."""
    cancelled: bool = False
    pulling: bool = False
    pull: asyncio.Task[None] | None = None
    overtaken: bool = False
    """Everything was listed meanwhile, as after an outage: what was told before may be missing."""
    events: list[EngineEvent] = field(default_factory=list)
    """The engine's events meanwhile; judged when it has ended."""

    def cancel(self) -> None:
        """End it at its next step; a pull, at once."""
        self.cancelled = True
        if self.pull is not None:
            self.pull.cancel()


@dataclass(slots=True)
class Unstored:
    """A status that the API server refuses. `Entry.subject` has it all the same, so that decisions
    go on from it; it is offered again from time to time, and soon after the object has changed."""

    stored: SandboxStatus
    """What the API server holds instead."""
    first_at: float
    """When it was refused first."""
    retry_at: float
    failures: int = 0
    """In a row. Until `final`, they may be an outage."""
    final: bool = False
    """Repeating cannot cure it."""


@dataclass(slots=True)
class Entry:
    """One Sandbox. Times are the event loop's."""

    uid: str
    subject: Subject
    holdings: Holdings | None = None
    born: float = 0.0
    """When the object was first heard of."""
    observed_at: float = 0.0
    """When the observation `holdings` began."""
    affected_at: float = 0.0
    """When the last effect of an operation of ours on the engine was over."""
    deleting_since: float | None = None
    """When deletion was first seen."""
    look: bool = False
    """Something happened at the engine that `holdings` does not show."""
    secret: SecretState = SecretState.UNKNOWN
    secret_uid: str | None = None
    key: str | None = field(default=None, repr=False)
    """The session key, from when it is made until the container has it."""
    key_hash: str | None = None
    """Hash of the key that the container was created with, for the label on the object; empty
    where it has none."""
    in_flight: InFlight | None = None
    signalled: str | None = None
    signalled_at: datetime | None = None
    failure: Failure | None = None
    refusal: Failure | None = None
    conflicted: bool = False
    """A write met a conflict that reading the object again did not explain."""
    unstored: Unstored | None = None
    """The API server does not take the status that `subject` has."""
    reported: str = ""
    """The reason of the Event about a refused write: one Event is enough until a write succeeds."""
    probe: Probe | None = None

    def seen(self, engine: EngineView) -> Seen:
        fresh = self.holdings is not None and self.observed_at >= max(
            self.affected_at, self.deleting_since or 0.0
        )
        secret = self.secret
        has_container = self.holdings is not None and self.holdings.container is not None
        if secret is SecretState.PRESENT and self.key is None and not has_container:
            secret = SecretState.UNKNOWN  # the next container needs the key: it is read again
        return Seen(
            engine=engine,
            holdings=self.holdings,
            fresh=fresh and not self.look,
            secret=secret,
            busy=self.in_flight.verb if self.in_flight else None,
            pulling=self.in_flight is not None and self.in_flight.pulling,
            signalled=self.signalled,
            signalled_at=self.signalled_at,
            failure=self.failure,
            refusal=self.refusal,
            probe=self.probe,
        )

    @property
    def unmarked(self) -> bool:
        """Deletion was asked for and the status does not say so yet."""
        return (
            self.deleting_since is not None
            and self.subject.status.phase is not Phase.DELETING
            and FINALIZER in self.subject.metadata.finalizers
        )

    def doubt_secret(self) -> None:
        """Have the generated Secret looked for again: someone may have deleted it."""
        if self.deleting_since is None and self.secret is SecretState.PRESENT:
            self.secret = SecretState.UNKNOWN

    def observe(self, holdings: Holdings, began: float) -> bool:
        """Take an observation that began then. Returns whether it tells anything new.

        Refused is what began before an effect of ours was over, or while one is under way.
        """
        if began < max(self.observed_at, self.affected_at):
            return False
        self.observed_at = began
        changed = holdings != self.holdings
        self.holdings = holdings
        self.look = False
        return changed

    def notice(self, event: EngineEvent) -> bool:
        """Take note of an engine event. Returns whether the key needs work now."""
        if self.in_flight is not None:
            self.in_flight.events.append(event)
            return False
        if implied(event, self.holdings):
            return False
        # A listing that began before now may not show it: `observe` refuses that.
        self.affected_at = asyncio.get_running_loop().time()
        if event.action == "die" and self.deleting_since is not None and self.holdings:
            container = self.holdings.container
            if container is not None and container.id == event.container_id:
                # All that deletion needs to know: spare it the inspection.
                self.holdings = replace(
                    self.holdings, container=replace(container, run=Run.EXITED, ports={})
                )
                return True
        self.look = True
        return True


def implied(event: EngineEvent, holdings: Holdings | None) -> bool:
    """Whether `holdings` shows the effect of the event already: then it is our own echo.

    Events of a container come in order, so one that was undone since is followed by another.
    """
    if holdings is None:
        return False
    container = holdings.container
    if container is None or container.id != event.container_id:
        return event.action in ("die", "destroy", "stop", "oom", "pause", "unpause")
    match event.action:
        case "create":
            return True
        case "start" | "unpause":
            return container.run is Run.RUNNING
        case "pause":
            return container.run is Run.FROZEN
        case "die" | "stop":
            return container.run is Run.EXITED
        case "oom":  # told of a container only once it has exited, and `die` follows then
            return container.run is not Run.EXITED or container.oom_killed
        case _:
            return False


def _with_unstored(entry: Entry, newer: Subject, now: float) -> Subject:
    """A newer version of an object whose status the API server refused. The change may have made
    room: the status is offered again soon, but not as often as somebody may edit the object."""
    unstored = entry.unstored
    if unstored is None or not unstored.final:
        return newer
    if newer.status != unstored.stored:
        entry.unstored = None
        return newer
    unstored.retry_at = min(unstored.retry_at, now + OFFERED_AGAIN_SECONDS)
    return replace(newer, status=entry.subject.status)


class Entries:
    """All entries by UID, and the tombstones of those that are gone."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._tombstones: dict[str, float] = {}
        self.listed = False
        """The engine has been listed: an unknown UID has nothing there."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, uid: str) -> Entry | None:
        return self._entries.get(uid)

    def namespace(self, uid: str) -> str:
        """Empty where the UID is unknown."""
        entry = self._entries.get(uid)
        return entry.subject.metadata.namespace if entry is not None else ""

    def update(self, obj: Mapping[str, Any]) -> Entry | None:
        """Take a version of an object. None where it is an echo: not newer, or of a gone one.

        Raises InvalidResource where even the metadata cannot be read.
        """
        uid = obj["metadata"]["uid"]
        if uid in self._tombstones:
            return None
        entry = self._entries.get(uid)
        # Resource versions of one object are numbers that grow: Kubernetes 1.35 promises it.
        if entry is not None and int(obj["metadata"]["resourceVersion"]) <= int(
            entry.subject.metadata.resource_version
        ):
            return None
        subject = Subject.read(obj, entry.subject if entry else None)
        now = asyncio.get_running_loop().time()
        if entry is None:
            # Before the claim the engine has nothing of it. A claimed one that the listing came
            # before, as after a restart, may have a container: it is looked for. So has one that
            # had a container once: someone took the finalizer away.
            claimed = FINALIZER in subject.metadata.finalizers
            known = self.listed and not claimed and subject.status.container is None
            entry = Entry(uid, subject, Holdings() if known else None, now)
            entry.look = self.listed and not known
            self._entries[uid] = entry
        else:
            if subject.metadata.generation != entry.subject.metadata.generation:
                entry.failure = entry.refusal = None  # a changed spec deserves a prompt attempt
            entry.subject = _with_unstored(entry, subject, now)
        if subject.metadata.deletion_timestamp is not None and entry.deleting_since is None:
            entry.deleting_since = now
            entry.refusal = None
            if entry.failure is not None and entry.failure.verb is not Verb.CLEAN:
                entry.failure = None
        return entry

    def take(self, obj: Mapping[str, Any]) -> Entry | None:
        """`update` with what a listing or a watch brings: one that cannot be read is left alone."""
        try:
            return self.update(obj)
        except InvalidResource as problem:
            log.error("a Sandbox cannot be read and is left alone: %s", problem)
            return None

    def remove(self, uid: str) -> Entry | None:
        """The object is gone."""
        self._tombstones[uid] = asyncio.get_running_loop().time()
        return self._entries.pop(uid, None)

    def prune(self) -> None:
        """Forget old tombstones."""
        oldest = asyncio.get_running_loop().time() - TOMBSTONE_SECONDS
        self._tombstones = {u: t for u, t in self._tombstones.items() if t > oldest}

    def known_holdings(self) -> dict[str, Holdings]:
        return {
            e.uid: e.holdings
            for e in self._entries.values()
            if e.holdings is not None and not e.look
        }
