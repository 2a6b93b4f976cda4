"""Time goes by: every age in a state, by some seconds or by an hour."""

from __future__ import annotations

from tests.model.state import MID, NEVER, OLD, Box, Dec, Entry, Fail, Held, Obj, One, World
from tests.model.words import Words


def later(words: Words, w: World, long: bool) -> World:
    ones = tuple(_one(words, one, long) for one in w.ones)
    return w._replace(ones=ones, away=_age(w.away, long))


def _one(words: Words, one: One, long: bool) -> One:
    box, other = one.other
    pend = one.pend
    if pend is not None:
        dec: Dec = pend.dec._replace(status=words.older(pend.dec.status, long))
        pend = pend._replace(dec=dec, before=words.older(pend.before, long))
    op = one.op._replace(looked=_held(one.op.looked, long)) if one.op else None
    return one._replace(
        obj=_obj(words, one.obj, long) if one.obj else None,
        entry=_entry(words, one.entry, long) if one.entry else None,
        box=_box(one.box, long),
        other=(_box(box, long), other),
        pend=pend,
        op=op,
        listed=_held(one.listed, long),
    )


def _obj(words: Words, obj: Obj, long: bool) -> Obj:
    status = words.older(obj.status, long)
    return obj._replace(deleting=_age(obj.deleting, long), status=status)


def _entry(words: Words, entry: Entry, long: bool) -> Entry:
    return entry._replace(
        obj=_obj(words, entry.obj, long),
        held=_held(entry.held, long),
        just_signalled=False,
        fail=_due(entry.fail),
        refusal=_due(entry.refusal),
    )


def _due(fail: Fail | None) -> Fail | None:
    return fail._replace(due=True) if fail else None


def _age(age: int, long: bool) -> int:
    if age == NEVER:
        return NEVER
    return OLD if long else max(age, MID)


def _box(box: Box | None, long: bool) -> Box | None:
    if box is None:
        return None
    return box._replace(started=_age(box.started, long), finished=_age(box.finished, long))


def _held(held: Held | None, long: bool) -> Held | None:
    return None if held is None else held._replace(box=_box(held.box, long))
