"""The states of the model: hashable values, equal where nothing that follows can differ.

    World
     |- ones: One, ...     everything of one Sandbox UID, the oldest first
     |    |- obj           the object at the API server
     |    |- secret        its generated Secret there
     |    |- box, vol      its container and managed volume at the engine
     |    |- ghost         an engine call whose caller is gone; it may still take effect
     |    |- late          an engine event that has not been heard yet
     |    |- entry         what the operator remembers (`controller.entries.Entry`)
     |    |- op            its operation in flight (`controller.operations`)
     |    +- pend          a write to the API that has not landed (`controller.reconciler`)
     +- the engine, the operator and its view of the engine as a whole

A moment is an age: NEW (now), MID (some seconds: backoffs are over, grace periods are not) or OLD
(everything is over); two runs of one container are told apart by `runno`. A status is the number
that `words.Words` gave it.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.core.decide import ApiStep
from controller.core.reasons import Reason
from controller.core.state import Run, Verb

NEVER, NEW, MID, OLD = 0, 1, 2, 3
"""Ages of moments."""

RunOf = tuple[int, int]
"""One run of one container: its `cid` and `runno`."""


class Obj(NamedTuple):
    """A Sandbox object, as stored or as cached."""

    deleting: int
    """Age of deletionTimestamp."""
    claimed: bool
    """Has our finalizer."""
    paused: bool
    """spec.operatingMode is Paused."""
    limit: int
    """Which of two sizes spec.resources.limits asks for."""
    gen: int
    status: int


class Box(NamedTuple):
    """A container. What is believed of one has no truth that cannot be seen (`seen`)."""

    cid: int
    run: Run
    runno: int
    started: int
    finished: int
    code: int
    limit: int
    # Not to be seen:
    how: str = ""
    """Why its last run ended; see `engine.leave`."""
    termed: bool = False
    """It got its stop signal, and may end at any time."""
    key: int = 0
    """Which session key its environment has; 0 is none."""
    answers: bool = False
    """Its server is ready."""

    def seen(self) -> Box:
        return Box(*self[:7])


class Held(NamedTuple):
    """What is believed that the engine holds of one UID."""

    box: Box | None
    vol: bool


EMPTY = Held(None, False)


class Fail(NamedTuple):
    """`controller.core.state.Failure`."""

    verb: Verb | None
    reason: Reason
    due: bool
    attempts: int


class Entry(NamedTuple):
    """What the operator remembers of one UID."""

    obj: Obj
    stale: bool
    """The API server has a newer resourceVersion."""
    held: Held | None
    fresh: bool
    """`held` was observed after the last effect and after deletion was seen."""
    look: bool
    secret: str = "U"
    """U, A, P: `SecretState`."""
    key: int = 0
    signalled: RunOf | None = None
    just_signalled: bool = False
    """Less than `verdict.LATE_GRACE` ago; afterwards it makes no difference when."""
    fail: Fail | None = None
    refusal: Fail | None = None
    probe: str = ""
    """What the prober found: nothing yet, `ready`, `bad`, or `failing`."""
    probing: RunOf | None = None


class Todo(NamedTuple):
    """`controller.core.verdict.Operation`."""

    verb: Verb
    cid: int
    volumes: tuple[str, ...]
    limit: int
    run: RunOf | None


class Dec(NamedTuple):
    """`controller.core.decide.Decision`."""

    writes: bool
    status: int
    step: ApiStep | None
    todo: Todo | None
    cancel: bool
    probe: RunOf | None
    look: int = NEVER
    """When to look again: within some seconds (MID), or later (OLD)."""


class Pend(NamedTuple):
    """A decision whose status or step is on its way to the API server."""

    dec: Dec
    before: int
    """The cached status that the decision was made on."""
    deleting: bool
    """Deletion was seen when it was made."""
    gen: int
    """The generation that it was made on."""
    step: bool
    """The step is on its way, else the status."""


class Op(NamedTuple):
    """An operation in flight."""

    todo: Todo
    verb: Verb
    """What a failure is one of: RUN becomes START once the container is created."""
    cid: int
    key: int
    stage: int = 0
    """The next engine call of `shell.CALLS`; past them, the look."""
    waits: bool = False
    """For a slot, or for what is read before: its first call is not sent yet. Only of what starts
    something."""
    cancelled: bool = False
    looked: Held | None = None
    """What the look at the end saw; its answer is on its way."""
    looked_deleting: bool = False
    heard: tuple[tuple[int, str], ...] = ()
    """Events meanwhile: container, action."""


class Ghost(NamedTuple):
    """An engine call without a caller."""

    call: str
    cid: int
    volumes: tuple[str, ...]
    limit: int
    key: int


class One(NamedTuple):
    """Everything of one UID."""

    obj: Obj | None = None
    secret: int = 0
    """Which key it holds; 0: there is none."""
    box: Box | None = None
    vol: bool = False
    kept: bool = False
    """The volume with reclaimPolicy Retain; it may outlive all else."""
    cids: int = 0
    """How many containers it has had."""
    other: tuple[Box | None, bool] = (None, False)
    """Container and volume at the other engine."""
    ghost: Ghost | None = None
    late: tuple[int, str] | None = None
    entry: Entry | None = None
    op: Op | None = None
    pend: Pend | None = None
    listed: Held | None = None
    """What the listing of a resync under way saw."""
    listed_ok: bool = True
    """Nothing has happened since that makes the listing stale."""
    listed_deleting: bool = False
    """Deletion had been seen when it began."""
    suspect: bool = False
    """A sweep has found it without an object."""
    taken: bool = False
    """Someone else removed its container."""
    unguarded: bool = False
    """Excused of invariant 2: its object went in spite of the finalizer, or a create outlived its
    caller and the object, or what it has is at an engine that no status names."""
    keyless: bool = False
    """Excused of having its Secret's key: a create outlived its caller, and the Secret may go."""

    @property
    def is_nothing(self) -> bool:
        return (
            self.obj is None
            and self.entry is None
            and self.op is None
            and self.ghost is None
            and self.box is None
            and not self.vol
            and not self.secret
            and self.other == (None, False)
        )


class World(NamedTuple):
    """One state of everything."""

    ones: tuple[One, ...] = ()
    engine_up: bool = True
    swapped: bool = False
    """Another engine answers under the address."""
    up: bool = True
    """The operator runs."""
    listed: bool = True
    """It has listed the engine."""
    away: int = NEVER
    """Since when the operator knows of an outage."""
    view_swapped: bool = False
    """It takes the other engine for the present one."""
    resyncing: bool = False
    name_taken: bool = False
    """Someone else's Secret has the name of ours."""

    def with_one(self, i: int, one: One) -> World:
        ones = self.ones
        if one.is_nothing:
            return self._replace(ones=ones[:i] + ones[i + 1 :])
        return self._replace(ones=(*ones[:i], one, *ones[i + 1 :]))


class Violation(Exception):
    """A property does not hold."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.trace: list[str] = []
