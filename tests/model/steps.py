"""What can happen next: every action of users, others, faults, the engine, time and the operator.

`successors` gives all of them; what follows when faults have stopped is `calm`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from controller.core.reasons import Reason
from controller.core.state import Run, Verb
from tests.model import engine, watch
from tests.model.ages import later
from tests.model.shell import Shell
from tests.model.state import EMPTY, NEVER, NEW, Obj, One, Violation, World
from tests.model.words import Words

USER, FAULT = "user", "fault"


@dataclass(frozen=True)
class Scenario:
    """One kind of Sandbox, and what may happen to it."""

    name: str
    spec: dict[str, Any] = field(default_factory=dict)
    user: frozenset[str] = frozenset()
    """Of create, pause (and resume), limit, delete."""
    users: int = 0
    """How many of them at most, beside the first create."""
    fault: frozenset[str] = frozenset()
    faults: int = 0
    least: int = 0
    """So many states are reached; were there fewer, something could not happen any more."""
    resyncs: bool = False
    """A resync may begin and end at any time; else only once faults have stopped."""


class Next(NamedTuple):
    action: str
    world: World
    cost: str = ""
    """USER or FAULT: what budget it takes from."""
    kind: str = ""
    """Which of the scenario's acts or faults it is."""


def taken(
    action: str, step: Callable[..., World], *of: Any, cost: str = "", kind: str = ""
) -> Next:
    """A step that is taken here and now; where that breaks a property, its trace ends with it."""
    try:
        return Next(action, step(*of), cost, kind)
    except Violation as violation:
        violation.trace = [action]
        raise


@dataclass(frozen=True)
class Steps:
    """The transitions of one scenario."""

    scenario: Scenario
    words: Words
    shell: Shell

    def successors(self, w: World, user: bool, fault: bool) -> Iterator[Next]:
        """All that can happen; what users do and faults only where they may."""
        faults = self.scenario.fault if fault else frozenset()
        if user:
            yield from self._users(w)
        yield from self._time(w)
        yield from self._whole(w, faults)
        for i, one in enumerate(w.ones):
            n = f" #{i + 1}" if len(w.ones) > 1 else ""
            yield from (s._replace(action=s.action + n) for s in self._engine(w, i, one, faults))
            if w.up:
                yield from (s._replace(action=s.action + n) for s in self._fast(w, i, one, faults))
            if one.op is not None:
                yield from (s._replace(action=s.action + n) for s in self._slow(w, i, one, faults))

    # Users

    def _users(self, w: World) -> Iterator[Next]:
        may = self.scenario.user
        i = next((i for i, one in enumerate(w.ones) if one.obj is not None), None)
        if i is None:
            if "create" in may and len(w.ones) < 2:
                yield Next("user creates", self.created(w), USER, "create")
            return
        one = w.ones[i]
        obj = one.obj
        assert obj is not None
        if obj.deleting:
            return
        if "pause" in may:
            action = "user resumes" if obj.paused else "user pauses"
            yield self._changed(w, i, action, obj._replace(paused=not obj.paused), "pause")
        if "limit" in may:
            resized = obj._replace(limit=1 - obj.limit)
            yield self._changed(w, i, "user changes a limit", resized, "limit")
        if "delete" in may:
            left = obj._replace(deleting=NEW) if obj.claimed else None
            yield Next("user deletes", self._stored(w, i, left), USER, "delete")

    def created(self, w: World) -> World:
        obj = Obj(NEVER, False, False, 0, 1, self.words.first)
        return w._replace(ones=(*w.ones, One(obj)))

    def _changed(self, w: World, i: int, action: str, obj: Obj, kind: str) -> Next:
        return Next(action, self._stored(w, i, obj._replace(gen=obj.gen + 1)), USER, kind)

    def _stored(self, w: World, i: int, obj: Obj | None) -> World:
        one = w.ones[i]
        entry = one.entry._replace(stale=True) if one.entry else None
        return w.with_one(i, one._replace(obj=obj, entry=entry))

    # Time

    def _time(self, w: World) -> Iterator[Next]:
        # The API server answers or fails within seconds.
        if not any(one.pend for one in w.ones):
            for action, long in (("some seconds pass", False), ("an hour passes", True)):
                aged = later(self.words, w, long)
                if aged != w:
                    yield Next(action, aged)

    # The engine and the operator as a whole

    def _whole(self, w: World, faults: frozenset[str]) -> Iterator[Next]:
        if "outage" in faults and w.engine_up:
            yield Next("engine goes away", w._replace(engine_up=False), FAULT, "outage")
        if not w.engine_up:
            yield Next("engine comes back", w._replace(engine_up=True))
        if "swap" in faults and not w.swapped and w.engine_up:
            yield Next("another engine takes over", self.swap(w), FAULT, "swap")
            # One made at an engine that is not known yet is recorded as the former's.
            if w.listed and w.away == NEVER and all(self._recorded(one) for one in w.ones):
                silently = self.swap(w, known=False)
                yield Next("another engine takes over, unnoticed", silently, FAULT, "swap")
        if w.swapped:
            yield Next("the former engine takes over", self.swap(w))
        if "crash" in faults and w.up:
            yield from self._crash(w)
        if not w.up:
            yield Next("operator starts", self.started(w))
            return
        if overlooked(w):
            yield Next("operator notices the outage", w._replace(away=NEW))
        lost = not w.listed or w.away != NEVER or w.view_swapped != w.swapped
        if w.engine_up and lost:
            yield Next("operator connects to the engine", watch.connect(w))
        if self.scenario.resyncs:
            if w.resyncing:
                yield taken("resync lists the API", watch.resync_ends, self.shell, w)
            elif w.engine_up and w.listed:
                yield Next("resync lists the engine", watch.resync_begins(w))

    def swap(self, w: World, known: bool = True) -> World:
        """The engine under the address is another. `known`: the operator notices at once, by its
        connections; else whenever it does."""
        ones = tuple(
            one._replace(
                box=one.other[0],
                vol=one.other[1],
                other=(one.box, one.vol),
                # Nobody can tell of a container that no status names yet.
                unguarded=one.unguarded or (_has_something(one) and not self._recorded(one)),
            )
            for one in w.ones
        )
        w = w._replace(swapped=not w.swapped, ones=ones)
        for i, one in enumerate(w.ones):
            w = self.shell.unanswered(w, i) if one.op and not one.op.waits else w
        return w._replace(away=NEW if w.listed else NEVER) if known else w

    def _recorded(self, one: One) -> bool:
        return one.obj is not None and self.words.statuses[one.obj.status].container is not None

    def _crash(self, w: World) -> Iterator[Next]:
        ones = [
            one._replace(
                entry=None, pend=None, op=None, late=None, listed=None, listed_ok=True,
                suspect=False,
                listed_deleting=False,
            )
            for one in w.ones
        ]  # fmt: skip
        down = w._replace(
            up=False, listed=False, away=NEVER, view_swapped=False, resyncing=False,
            ones=tuple(one for one in ones if not one.is_nothing),
        )  # fmt: skip
        yield Next("operator is killed", down, FAULT, "crash")
        for i, one in enumerate(w.ones):
            call = self.shell.call_of(one) if one.op and not one.op.waits else None
            if call is not None and call.call != "env" and one.ghost is None:
                ones[i] = ones[i]._replace(ghost=call)
                left = tuple(one for one in ones if not one.is_nothing)
                cut_off = down._replace(ones=left)
                yield Next(f"operator is killed, {call.call} is sent", cut_off, FAULT, "crash")
                ones[i] = ones[i]._replace(ghost=one.ghost)

    def started(self, w: World) -> World:
        return w._replace(up=True)

    # The engine and others there

    def _engine(self, w: World, i: int, one: One, faults: frozenset[str]) -> Iterator[Next]:
        if one.ghost is not None and w.engine_up:
            yield taken(f"{one.ghost.call} takes effect after all", self.haunt, w, i)
            yield Next(f"{one.ghost.call} never happens", w.with_one(i, one._replace(ghost=None)))
        if one.late is not None:
            heard = w.with_one(i, one._replace(late=None))
            yield Next(f"{one.late[1]} is heard of late", self.shell.notice(heard, i, *one.late))
        box = one.box
        if box is None:
            return
        if box.termed:
            yield Next("container heeds its stop signal", self._did(w, i, _ended(one, 143, "ours")))
        up, frozen = box.run is Run.RUNNING, box.run is Run.FROZEN
        acts = []
        if up:
            how = self._how_it_ends(one)
            acts += [("exits", "container exits by itself", engine.leave(one, 1, how))]
            acts += [("freeze", "someone freezes it", engine.freeze(one))]
        elif frozen:
            acts += [("reboot", "a reboot kills it", engine.leave(one, 255, "frozen"))]
            acts += [("thaw", "someone thaws it", engine.thaw(one, "unsure"))]
        else:
            acts += [("start", "someone starts it", engine.start(one, self.words.readiness))]
        gone = engine.remove(one._replace(taken=True))
        acts += [("remove", "someone removes it", gone)]
        for kind, action, effect in acts:
            if kind in faults:
                yield Next(action, self._did(w, i, effect), FAULT, kind)
                if "events" in faults:
                    quiet = _unsure(effect)
                    lost = self._did(w, i, quiet, "lost")
                    yield Next(f"{action}; the event is lost", lost, FAULT, "events")
                    late = self._did(w, i, quiet, "late")
                    yield Next(f"{action}; the event is late", late, FAULT, "events")
        if self.words.readiness and up and "answers" in faults:
            flipped = one._replace(box=box._replace(answers=not box.answers))
            yield Next("its server changes its mind", w.with_one(i, flipped), FAULT, "answers")
        if self.words.readiness and up and not box.answers:
            ready = one._replace(box=box._replace(answers=True))
            yield Next("its server is ready", w.with_one(i, ready))

    def _how_it_ends(self, one: One) -> str:
        """Whether anyone could tell that it ended by itself."""
        box, obj = one.box, one.obj
        assert box is not None
        statuses = [one.pend.dec.status] if one.pend else []
        statuses += [obj.status] if obj else []
        marked = any(self.words.marked(status, box.cid) for status in statuses)
        held = one.entry.held if one.entry else None
        known = held is not None and held.box == box.seen()
        return "itself" if known and not marked else "unsure"

    def _did(self, w: World, i: int, effect: engine.Effect, events: str = "told") -> World:
        return self.shell.tell(w.with_one(i, effect.one), i, effect, events)

    def haunt(self, w: World, i: int) -> World:
        """A call without a caller takes effect."""
        one = w.ones[i]
        ghost = one.ghost
        assert ghost is not None
        guarded = _guarded(one)
        w, _ = self.shell.affect(w, i, ghost, "told")
        one = w.ones[i]._replace(ghost=None)
        if one.box is not None and ghost.call == "create":
            # Its key may be lost: with its caller, and in a Secret that someone deletes.
            lost = "secret" in self.scenario.fault
            one = one._replace(unguarded=one.unguarded or not guarded, keyless=one.keyless or lost)
        elif one.box is not None and ghost.call in ("thaw", "signal"):
            one = one._replace(box=one.box._replace(how="unsure"))
        return w.with_one(i, one)

    # The operator's fast lane

    def _fast(self, w: World, i: int, one: One, faults: frozenset[str]) -> Iterator[Next]:
        shell = self.shell
        if news(one):
            yield Next("operator hears of the object", shell.deliver(w, i))
        if "vanish" in faults and one.obj is not None and one.obj.claimed:
            gone = self._stored(w, i, None)
            gone = gone.with_one(i, gone.ones[i]._replace(unguarded=True))
            yield Next("object goes in spite of its finalizer", gone, FAULT, "vanish")
        if "secret" in faults and one.secret:
            yield Next("someone deletes its Secret", self.collect(w, i), FAULT, "secret")
        if one.obj is None and one.secret:
            yield Next("the Secret of a gone object is collected", self.collect(w, i))
        if one.entry is None:
            return
        if one.pend is None:
            reconciled = taken("operator reconciles", shell.reconcile, w, i)
            if reconciled.world != w:
                yield reconciled
            yield from self.probe(w, i, one)
        elif one.pend.step:
            step = one.pend.dec.step
            yield taken(f"{step} is done", shell.step, w, i)
            if "api" in faults:
                fails = shell.step(w, i, lands=False, answered=False)
                yield Next(f"{step} fails", fails, FAULT, "api")
                lost = shell.step(w, i, answered=False)
                yield Next(f"{step} is done, unanswered", lost, FAULT, "api")
        else:
            told = "status " + " ".join(self.words.told(one.pend.dec.status))
            yield taken(f"{told} is written", shell.status_written, w, i)
            if "api" in faults:
                fails = shell.status_unanswered(w, i, lands=False)
                yield Next(f"{told} fails", fails, FAULT, "api")
                lost = shell.status_unanswered(w, i, lands=True)
                yield Next(f"{told} is written, unanswered", lost, FAULT, "api")

    def collect(self, w: World, i: int) -> World:
        return w.with_one(i, w.ones[i]._replace(secret=0))

    def probe(self, w: World, i: int, one: One) -> Iterator[Next]:
        entry, box = one.entry, one.box
        assert entry is not None
        if entry.probing is None:
            return
        same = box is not None and (box.cid, box.runno) == entry.probing
        good = same and box is not None and box.run is Run.RUNNING and box.answers
        found = ("ready",) if good else ("bad", "failing")
        for probe in found:
            if probe != entry.probe and not (probe == "bad" and entry.probe == "failing"):
                probed = one._replace(entry=entry._replace(probe=probe))
                yield Next(f"probe: {probe}", w.with_one(i, probed))

    # The operator's slow lane

    def _slow(self, w: World, i: int, one: One, faults: frozenset[str]) -> Iterator[Next]:
        shell, op = self.shell, one.op
        assert op is not None
        if op.looked is not None:
            yield Next("the look is answered", shell.looked(w, i))
            return
        call = shell.call_of(one)
        what = call.call if call else "the look"
        if op.waits:
            yield taken(f"{what} has its turn", shell.send, w, i)
            return
        if not w.engine_up:
            yield Next(f"{what} gets no answer", shell.unanswered(w, i))
            return
        if call is None:
            yield Next("the engine is looked at", shell.look(w, i))
        else:
            yield taken(f"{what} is done", shell.proceed, w, i)
            if "events" in faults and what not in ("rmvol", "env"):
                effect = engine.call(one, call, self.words.readiness)
                if effect.events:
                    late = shell.proceed(w, i, "late")
                    yield Next(f"{what} is done; its event is late", late, FAULT, "events")
            if "refused" in faults:
                no = shell.refused(w, i, Reason.ENGINE_REFUSED)
                yield Next(f"{what} is refused", no, FAULT, "refused")
            if "unanswered" in faults:
                after, _ = shell.affect(w, i, call, "told")
                unheard = shell.unanswered(after, i)
                yield Next(f"{what} is done, unanswered", unheard, FAULT, "unanswered")
                if one.ghost is None and what != "env":
                    ghost = shell.unanswered(w, i, call)
                    yield Next(f"{what} is under way, unanswered", ghost, FAULT, "unanswered")
        if "unanswered" in faults:
            unheard = shell.unanswered(w, i)
            yield Next(f"{what} fails without an answer", unheard, FAULT, "unanswered")


def overlooked(w: World) -> bool:
    """The engine is away, or another, and the operator has yet to notice."""
    absent = not w.engine_up or w.view_swapped != w.swapped
    return absent and w.listed and w.away == NEVER


def news(one: One) -> bool:
    """The API server has a version of the object that the operator has not."""
    if one.entry is None:
        return one.obj is not None
    return one.obj is None or one.entry.stale or one.entry.obj != one.obj


def _has_something(one: One) -> bool:
    """Something is at one of the engines, or is being made."""
    making = one.op is not None and one.op.verb is Verb.RUN
    late = one.ghost is not None and one.ghost.call == "create"
    return one.box is not None or one.vol or one.other != (None, False) or making or late


def _guarded(one: One) -> bool:
    """The object will not go before the operator has looked at the engine again."""
    if one.obj is None or not one.obj.claimed:
        return False
    if not one.obj.deleting:
        return True
    entry, op = one.entry, one.op
    seen = entry is not None and entry.fresh and entry.held == EMPTY
    seen = seen or (op is not None and op.looked == EMPTY)
    return not (seen or one.listed == EMPTY)


def _ended(one: One, code: int, how: str) -> engine.Effect:
    return engine.leave(one, code, how)


def _unsure(effect: engine.Effect) -> engine.Effect:
    box = effect.one.box
    if box is None:
        return effect
    return effect._replace(one=effect.one._replace(box=box._replace(how="unsure")))
