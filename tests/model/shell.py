"""The model's operator: controller/reconciler.py, entries.py and operations.py, step by step.

Everything between two awaits of the real code is one step here. Functions take and give a `World`
and name the `One` by its place; where the object is gone for good (`gone`) the place may go too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from controller.core.decide import ApiStep
from controller.core.reasons import Reason
from controller.core.state import Run, Verb
from tests.model import engine, properties
from tests.model.state import (
    EMPTY,
    NEVER,
    Dec,
    Entry,
    Fail,
    Ghost,
    Held,
    Obj,
    One,
    Op,
    Pend,
    Todo,
    World,
)
from tests.model.words import ENGINES, Words

CALLS: dict[Verb, tuple[str, ...]] = {
    Verb.OBSERVE: (),
    Verb.RUN: ("create", "start"),
    Verb.START: ("start",),
    Verb.SIGNAL_STOP: ("signal",),
    Verb.KILL: ("kill",),
    Verb.FREEZE: ("freeze",),
    Verb.THAW: ("thaw",),
    Verb.UPDATE_LIMITS: ("limit",),
    Verb.READ_KEY: ("env",),
    Verb.CLEAN: ("remove", "rmvol"),
}
"""The engine calls of an operation; after them the engine is looked at."""
UNTOLD_ATTEMPTS = 3
"""More attempts make no difference to `decide`."""


class Did(NamedTuple):
    """What a step did at the API server, and what the operator learned of it."""

    one: One
    entry: Entry | None
    """None: that the object is gone."""
    todo: Todo | None = None


@dataclass(frozen=True, slots=True)
class Shell:
    """The operator's steps, for one kind of Sandbox."""

    words: Words

    # The cache of the API

    def deliver(self, w: World, i: int) -> World:
        """The newest version of the object is heard of: by the watch, a listing or a read."""
        one = w.ones[i]
        if one.obj is None:
            return self.gone(w, i)
        if one.entry is None:
            return w.with_one(i, one._replace(entry=self.born(w, one.obj)))
        return w.with_one(i, one._replace(entry=self.update(one.entry, one.obj)))

    def born(self, w: World, obj: Obj) -> Entry:
        had_one = self.words.statuses[obj.status].container is not None
        known = w.listed and not obj.claimed and not had_one
        held = EMPTY if known else None
        return Entry(obj, False, held, fresh=not obj.deleting, look=w.listed and not known)

    def update(self, entry: Entry, obj: Obj) -> Entry:
        fail, refusal, fresh = entry.fail, entry.refusal, entry.fresh
        if obj.gen != entry.obj.gen:
            fail = refusal = None
        if obj.deleting and not entry.obj.deleting:
            fresh, refusal = False, None
            if fail is not None and fail.verb is not Verb.CLEAN:
                fail = None
        return entry._replace(obj=obj, stale=False, fail=fail, refusal=refusal, fresh=fresh)

    def gone(self, w: World, i: int) -> World:
        one = w.ones[i]
        op = one.op._replace(cancelled=True) if one.op else None
        return w.with_one(i, one._replace(entry=None, op=op, pend=None))

    # The fast lane

    def reconcile(self, w: World, i: int) -> World:
        one = w.ones[i]
        entry = one.entry
        assert entry is not None
        assert one.pend is None
        seen_engine = ENGINES[w.view_swapped] if w.listed else None
        dec = self.words.decide(entry, one.op, w.away, seen_engine)
        properties.of_decision(self.words, one, entry, dec, w.away)
        if dec.cancel and one.op is not None and not one.op.cancelled:
            one = one._replace(op=one.op._replace(cancelled=True))
            w = w.with_one(i, one)
        deleting = entry.obj.deleting > 0
        dec = dec._replace(look=NEVER)  # a timer is `calm`'s matter
        if dec.writes:
            pend = Pend(dec, entry.obj.status, deleting, entry.obj.gen, step=False)
            return w.with_one(i, one._replace(pend=pend))
        return self._go_on(w, i, dec, deleting, entry.obj.gen)

    def _go_on(self, w: World, i: int, dec: Dec, deleting: bool, gen: int) -> World:
        one = w.ones[i]
        entry = one.entry
        if entry is None or (entry.obj.deleting > 0, entry.obj.gen) != (deleting, gen):
            return w  # it is another wish's: it is decided again
        if entry.probing != dec.probe:
            entry = entry._replace(probe="", probing=dec.probe)
            w = w.with_one(i, one := one._replace(entry=entry))
        if dec.step is not None:
            pend = Pend(dec, entry.obj.status, deleting, 0, step=True)
            return w.with_one(i, one._replace(pend=pend))
        return self.begin(w, i, dec.todo)

    def status_lands(self, w: World, i: int) -> tuple[World, bool]:
        """A status write takes effect. Returns whether it was accepted."""
        one = w.ones[i]
        pend, obj = one.pend, one.obj
        assert pend is not None
        if obj is None:
            return w, False
        stored = self.words.merged(pend.before, pend.dec.status, obj.status)
        properties.of_status(self.words, one, obj.status, stored)
        return w.with_one(i, one._replace(obj=obj._replace(status=stored))), True

    def status_written(self, w: World, i: int) -> World:
        """The status write lands and is answered."""
        pend = w.ones[i].pend
        assert pend is not None
        w, accepted = self.status_lands(w, i)
        w = w.with_one(i, w.ones[i]._replace(pend=None))
        if not accepted:
            return self.gone(w, i)
        w = self.deliver(w, i)
        return self._go_on(w, i, pend.dec, pend.deleting, pend.gen)

    def status_unanswered(self, w: World, i: int, lands: bool) -> World:
        """The status write fails, or lands without an answer. A deletion goes on all the same."""
        pend = w.ones[i].pend
        assert pend is not None
        if lands:
            w, _ = self.status_lands(w, i)
        w = self._unanswered(w, i, lands)
        return self._go_on(w, i, pend.dec, pend.deleting, pend.gen) if pend.deleting else w

    def _unanswered(self, w: World, i: int, lands: bool) -> World:
        one = w.ones[i]
        entry = one.entry
        if entry is not None and lands:
            entry = entry._replace(stale=True)
        return w.with_one(i, one._replace(pend=None, entry=entry))

    # Steps at the API server

    def step(self, w: World, i: int, lands: bool = True, answered: bool = True) -> World:
        """The step that is on its way lands, is answered, or neither."""
        one = w.ones[i]
        pend, entry = one.pend, one.entry
        assert pend is not None
        assert entry is not None
        one = one._replace(pend=None)
        if not lands:
            return w.with_one(i, one)
        did = self._land(w, i, pend.dec.step)
        if not answered:
            entry = entry._replace(stale=entry.stale or did.one.obj != one.obj)
            if did.one.secret and not one.secret:
                entry = entry._replace(key=did.one.secret)  # made before it was sent
            return w.with_one(i, did.one._replace(pend=None, entry=entry))
        w = w.with_one(i, did.one._replace(pend=None, entry=did.entry or entry))
        if did.entry is None:
            return self.gone(w, i)
        return self.begin(w, i, did.todo) if did.todo else w

    def _land(self, w: World, i: int, step: ApiStep | None) -> Did:
        one = w.ones[i]
        entry = one.entry
        assert entry is not None
        if step is ApiStep.ENSURE_SECRET:
            return self.ensure_secret(w, i, entry)
        if step is ApiStep.DELETE_SECRET:
            return Did(one._replace(secret=0), entry._replace(secret="A", key=0, refusal=None))
        if one.obj is None:
            return Did(one, None)
        if entry.stale:  # a conflict: it is read again
            return Did(one, self.update(entry, one.obj))
        if step is ApiStep.CLAIM:
            obj = one.obj._replace(claimed=True)
            key = self.new_key(one) if self.words.secret else 0
            return Did(one._replace(obj=obj), self.update(entry, obj)._replace(key=key))
        return Did(one._replace(obj=None), None)

    def ensure_secret(self, w: World, i: int, entry: Entry) -> Did:
        one = w.ones[i]
        others = w.name_taken or any(o.secret for j, o in enumerate(w.ones) if j != i)
        refusal = None if entry.obj.deleting else Fail(None, Reason.SECRET_NAME_TAKEN, False, 1)
        refused = Did(one, entry._replace(refusal=refusal or entry.refusal))
        box = entry.held.box if entry.held else None
        if not entry.key and not one.secret:
            if others:
                return refused
            if box is not None:
                wait = entry.fail is not None and entry.fail.verb is Verb.READ_KEY
                wait = wait and entry.fail is not None and not entry.fail.due
                return Did(one, entry, None if wait else Todo(Verb.READ_KEY, box.cid, (), 0, None))
            entry = entry._replace(key=self.new_key(one))
        if not one.secret:
            if others:
                return refused
            one = one._replace(secret=entry.key)
        key = 0 if box is not None else one.secret
        return Did(one, entry._replace(secret="P", key=key, refusal=None))

    @staticmethod
    def new_key(one: One) -> int:
        """A key that is nowhere yet; the least number, so that states stay equal."""
        used = {one.secret, one.entry.key if one.entry else 0, one.op.key if one.op else 0}
        used |= {one.box.key if one.box else 0, one.ghost.key if one.ghost else 0}
        return next(k for k in range(1, 9) if k not in used)

    # The slow lane

    def begin(self, w: World, i: int, todo: Todo | None) -> World:
        one = w.ones[i]
        entry = one.entry
        assert entry is not None
        if one.op is not None:
            return w
        if entry.look and w.away == NEVER:
            todo = Todo(Verb.OBSERVE, 0, (), 0, None)
            if entry.fail is not None and entry.fail.reason is Reason.ENGINE_UNREACHABLE:
                todo = todo if entry.fail.due else None
        if todo is None or w.away != NEVER:
            return w
        properties.of_operation(self.words, entry, todo)
        stage = 1 if todo.verb is Verb.CLEAN and not todo.cid else 0
        op = Op(todo, todo.verb, todo.cid, entry.key, stage, todo.verb in properties.STARTS)
        return w.with_one(i, one._replace(op=op))

    def send(self, w: World, i: int) -> World:
        """Its turn has come: its first call is sent, if it is still wanted."""
        one = w.ones[i]
        op = one.op
        assert op is not None
        if self.unwanted(one):
            return w.with_one(i, one._replace(op=op._replace(waits=False, stage=9)))
        properties.of_start(one)
        return w.with_one(i, one._replace(op=op._replace(waits=False)))

    def unwanted(self, one: One) -> bool:
        """What is asked before each call that starts something."""
        assert one.op is not None
        return one.op.cancelled or one.entry is None or one.entry.obj.deleting > 0

    def call_of(self, one: One) -> Ghost | None:
        """The engine call that is on its way; None when it is the look."""
        op = one.op
        assert op is not None
        calls = CALLS[op.todo.verb]
        if op.stage >= len(calls):
            return None
        limit = one.entry.obj.limit if one.entry else 0
        limit = op.todo.limit if op.todo.verb is Verb.UPDATE_LIMITS else limit
        return Ghost(calls[op.stage], op.cid, op.todo.volumes, limit, op.key)

    def proceed(self, w: World, i: int, events: str = "told") -> World:
        """The call on its way takes effect and is answered; the next one is sent."""
        call = self.call_of(w.ones[i])
        assert call is not None
        w, refused = self.affect(w, i, call, events)
        if refused is not None:
            return self.refused(w, i, refused)
        one = w.ones[i]
        op, entry = one.op, one.entry
        assert op is not None
        op = op._replace(stage=op.stage + 1)
        if call.call == "create":
            assert one.box is not None
            op = op._replace(cid=one.box.cid)
            entry = entry._replace(key=0) if entry else None
            if self.unwanted(one):
                return w.with_one(i, one._replace(op=op._replace(stage=9), entry=entry))
            op = op._replace(verb=Verb.START)
            properties.of_start(one)
        if call.call == "env" and entry is not None:
            entry = entry._replace(key=one.box.key if one.box else 0)
        if op.stage < len(CALLS[op.todo.verb]):
            return w.with_one(i, one._replace(op=op, entry=entry))
        if entry is not None:
            entry = entry._replace(fail=None)
        if op.todo.verb is Verb.SIGNAL_STOP:
            if entry is not None:
                entry = entry._replace(signalled=op.todo.run, just_signalled=True)
            return self._end(w.with_one(i, one._replace(op=op, entry=entry)), i)
        return w.with_one(i, one._replace(op=op, entry=entry))

    def refused(self, w: World, i: int, reason: Reason) -> World:
        """The engine says no to the call on its way."""
        one = w.ones[i]
        op = one.op
        assert op is not None
        one = one._replace(entry=self._failed(one.entry, op.verb, reason))
        if op.todo.verb is Verb.SIGNAL_STOP:
            return self._end(w.with_one(i, one), i)
        return w.with_one(i, one._replace(op=op._replace(stage=9)))

    def unanswered(self, w: World, i: int, ghost: Ghost | None = None) -> World:
        """No answer comes: the outcome is unknown, and `ghost` may still take effect."""
        one = w.ones[i]
        op, entry = one.op, one.entry
        assert op is not None
        if entry is not None:
            entry = entry._replace(look=True, fresh=False)
            entry = self._failed(entry, op.todo.verb, Reason.ENGINE_UNREACHABLE)
        one = one._replace(entry=entry, ghost=ghost or one.ghost, listed_ok=False)
        return self._end(w.with_one(i, one), i)

    def _failed(self, entry: Entry | None, verb: Verb, reason: Reason) -> Entry | None:
        if entry is None:
            return None
        attempts = 1
        if entry.fail is not None and entry.fail.verb is verb:
            attempts = min(entry.fail.attempts + 1, UNTOLD_ATTEMPTS)
        return entry._replace(fail=Fail(verb, reason, False, attempts))

    def look(self, w: World, i: int) -> World:
        """The engine is looked at; the answer is on its way."""
        one = w.ones[i]
        op, entry = one.op, one.entry
        assert op is not None
        deleting = entry is not None and entry.obj.deleting > 0
        observes = op.todo.verb is Verb.OBSERVE
        if entry is not None and observes and entry.fail and entry.fail.verb is Verb.OBSERVE:
            entry = entry._replace(fail=None)
        before = entry.held if entry else None
        cid = op.cid or (before.box.cid if before and before.box else 0)
        box = engine.inspect(one, cid) if cid and not deleting else None
        if box is None:
            held = engine.find(one)
            if held.box is None and self.may_be_elsewhere(w, entry):
                return self.unanswered(w, i)
        else:
            held = Held(box, before.vol if before and before.box else True)
        op = op._replace(looked=held, looked_deleting=deleting)
        return w.with_one(i, one._replace(op=op, entry=entry, listed_ok=False))

    def may_be_elsewhere(self, w: World, entry: Entry | None) -> bool:
        """What is missed was there, or is to go, and another engine answers than is known."""
        if entry is None or w.view_swapped == w.swapped:
            return False
        had_one = self.words.statuses[entry.obj.status].container is not None
        had_one = had_one or (entry.held is not None and entry.held.box is not None)
        return had_one or entry.obj.deleting > 0

    def looked(self, w: World, i: int) -> World:
        """The look is answered: the operation ends."""
        one = w.ones[i]
        op, entry = one.op, one.entry
        assert op is not None
        if entry is not None:
            fresh = op.looked_deleting or not entry.obj.deleting
            entry = entry._replace(held=op.looked, look=False, fresh=fresh)
        return self._end(w.with_one(i, one._replace(entry=entry)), i)

    def _end(self, w: World, i: int) -> World:
        one = w.ones[i]
        op, entry = one.op, one.entry
        assert op is not None
        if entry is not None and any(
            not self.words.implied(entry.held, cid, action) for cid, action in op.heard
        ):
            entry = entry._replace(look=True)
        return w.with_one(i, one._replace(op=None, entry=entry))

    # What the engine tells

    def affect(self, w: World, i: int, call: Ghost, events: str) -> tuple[World, Reason | None]:
        one = w.ones[i]
        box, obj = one.box, one.obj
        stops = call.call in ("signal", "kill")
        if stops and box and obj and not self.words.marked_run(obj.status, box):
            one = one._replace(box=box._replace(how="unsure"))  # it met a later run
        effect = engine.call(one, call, self.words.readiness)
        return self.tell(w.with_one(i, effect.one), i, effect, events), effect.refused

    def tell(self, w: World, i: int, effect: engine.Effect, events: str) -> World:
        """Events are told at once, or the last of them is told late, or they are lost."""
        if events == "told":
            for cid, action in effect.events:
                w = self.notice(w, i, cid, action)
        elif events == "late":
            w = w.with_one(i, w.ones[i]._replace(late=effect.events[-1]))
        return w

    def notice(self, w: World, i: int, cid: int, action: str) -> World:
        one = w.ones[i]
        entry, op = one.entry, one.op
        if entry is None or not w.up or not w.listed or w.away != NEVER:
            return w
        if w.view_swapped != w.swapped:
            return w  # the stream is the other engine's
        if op is not None:
            heard = tuple(sorted({*op.heard, (cid, action)}))
            return w.with_one(i, one._replace(op=op._replace(heard=heard)))
        if self.words.implied(entry.held, cid, action):
            return w
        entry, box = entry._replace(fresh=False), entry.held.box if entry.held else None
        if action == "die" and entry.obj.deleting and box is not None and box.cid == cid:
            assert entry.held is not None
            died = box._replace(run=Run.EXITED, finished=NEVER, code=0)
            entry = entry._replace(held=entry.held._replace(box=died))
        else:
            entry = entry._replace(look=True)
        return w.with_one(i, one._replace(entry=entry, listed_ok=False))
