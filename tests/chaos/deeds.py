"""What was done to containers and when, by whom, and what Docker told of it: by these notes it is
judged what a Sandbox must say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from tests.integration.operator import Json

_NEWS_SECONDS = 5.0
"""How long an event may take to an operator that hears at all: the machine may be busy, and one
that was away lists everything first."""

Span = tuple[float, float]
"""From when until when, in seconds of the epoch."""


@dataclass(frozen=True)
class Told:
    """An event of a container."""

    at: float
    action: str
    container: str
    exit_code: str


@dataclass
class Deeds:
    """What was done behind the operators' backs, what users asked for, and what Docker told."""

    removed: set[str] = field(default_factory=set)
    """IDs of containers that outsiders removed."""
    ended: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    """By UID, when its container was being killed, stopped or removed."""
    outages: list[Span] = field(default_factory=list)
    """When dockerd was going down, away or coming back: it ends every container then."""
    kills: list[float] = field(default_factory=list)
    """When dockerd was back after it had been killed."""
    paused: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By UID, when somebody began to ask for its pause."""
    deaf: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    """By namespace, when its operator may not have heard what Docker did; "" is every one's."""
    told: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """By UID, what Docker told by itself of its containers."""
    gaps: list[Span] = field(default_factory=list)
    """When nobody listened to that: what it told then may be lost."""
    said_frozen: dict[tuple[str, int], float] = field(default_factory=dict)
    """By container and millisecond of its start, when its status was last heard to say so."""

    def killed_since(self, stamp: str) -> bool:
        """Whether dockerd was killed after this moment, in Docker's words."""
        return any(seconds(stamp) <= back for back in self.kills)

    def ended_it(self, uid: str, container: Json) -> bool:
        """Whether anyone but its operator can have ended this container's last run."""
        return bool(self._causes(uid, seconds(container["State"]["FinishedAt"])))

    def removed_it(self, obj: Json) -> bool:
        """Whether the container that the status names is one of those that were removed."""
        return ((obj.get("status") or {}).get("container") or {}).get("id") in self.removed

    def hear_frozen(self, recorded: Json, now: float) -> None:
        """Note that a Sandbox says that its container, as its status has it, is frozen."""
        if "startedAt" in recorded:
            self.said_frozen[_run(recorded["id"], recorded["startedAt"])] = now

    def stopped_for_pause(self, obj: Json, container: Json) -> bool:
        """Whether the container's last run can have ended by a pause: its operator has stored that
        it stops it, and somebody had asked for a pause by then.

        An operator that has not heard of an end takes it for its own when the pause comes: no look
        is at the very instant at which the mark is stored. So what counts is not the end itself,
        but when the operator must have heard of it.
        """
        marked = ((obj.get("status") or {}).get("pausing") or {}).get("containerId")
        finished = seconds(container["State"]["FinishedAt"])
        heard = self._heard(obj["metadata"]["namespace"], finished)
        asked = self.paused.get(obj["metadata"]["uid"], ())
        return bool(marked == container["Id"] and any(at <= heard for at in asked))

    def frozen_when_ended(self, obj: Json, container: Json) -> bool:
        """Whether the container's last run can have been frozen when it was ended, as far as its
        operator can know.

        Docker thaws what it kills or stops, and an operator may not have heard of a thaw before
        the end came.
        """
        uid, state = obj["metadata"]["uid"], container["State"]
        began, finished = seconds(state["StartedAt"]), seconds(state["FinishedAt"])
        turns = [
            told
            for told in self.told.get(uid, ())
            if told.container == container["Id"]
            and told.action in ("pause", "unpause")
            and began <= told.at <= finished
        ]
        if turns and turns[-1].action == "pause":
            return True
        thawed = turns[-1].at if turns else began
        if turns:
            by_its_end = any(since - 1 <= thawed for since, _ in self._causes(uid, finished))
            if by_its_end or finished <= self._heard(obj["metadata"]["namespace"], thawed):
                return True
        # A pause that Docker told nobody of, as it was ending itself: its operator saw it.
        said = self.said_frozen.get(_run(container["Id"], state["StartedAt"]), 0.0)
        lost = any(since <= finished and over >= thawed for since, over in self.gaps)
        return lost and said > thawed

    def _causes(self, uid: str, finished: float) -> list[Span]:
        causes = [*self.outages, *self.ended.get(uid, ())]
        return [(began, over) for began, over in causes if began - 1 <= finished <= over + 1]

    def _heard(self, namespace: str, at: float) -> float:
        """When the namespace's operator had heard at the latest of what Docker did at `at`."""
        heard = at + _NEWS_SECONDS
        for began, over in sorted([*self.deaf.get("", ()), *self.deaf.get(namespace, ())]):
            if began <= heard and over >= at - 1:
                heard = max(heard, over + _NEWS_SECONDS)
        return heard


def seconds(stamp: str) -> float:
    """A moment of Docker's or the API server's as seconds of the epoch; of Docker's nine digits
    datetime takes six."""
    whole, _, rest = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(rest or '0')[:6]:0<6}+00:00").timestamp()


def _run(container: str, started: str) -> tuple[str, int]:
    return container, int(seconds(started) * 1000)
