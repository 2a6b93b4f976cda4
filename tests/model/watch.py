"""The model's watch of the engine as a whole: controller/enginewatch.py."""

from __future__ import annotations

from tests.model import engine
from tests.model.shell import Shell
from tests.model.state import EMPTY, NEVER, Ghost, Held, World
from tests.model.words import VOLUME


def connect(w: World) -> World:
    """The operator reaches the engine and lists it."""
    w = w._replace(listed=True, away=NEVER, view_swapped=w.swapped)
    for i, one in enumerate(w.ones):
        w = _absorb(w, i, engine.find(one), seen_deleting=True)
    return w


def _absorb(w: World, i: int, held: Held, seen_deleting: bool) -> World:
    one = w.ones[i]
    if one.entry is None or one.op is not None:
        return w
    fresh = seen_deleting or not one.entry.obj.deleting
    entry = one.entry._replace(held=held, look=False, fresh=fresh)
    return w.with_one(i, one._replace(entry=entry))


def resync_begins(w: World) -> World:
    """The engine is listed."""
    if w.view_swapped != w.swapped:
        return w  # another engine answers by now: its listing is not believed
    for i, one in enumerate(w.ones):
        deleting = one.entry is not None and one.entry.obj.deleting > 0
        one = one._replace(listed=engine.find(one), listed_ok=True, listed_deleting=deleting)
        w = w.with_one(i, one)
    return w._replace(resyncing=True)


def resync_ends(shell: Shell, w: World) -> World:
    """The API is listed; entries are compared, orphans swept."""
    w = w._replace(resyncing=False)
    for i in reversed(range(len(w.ones))):
        one = w.ones[i]
        listed, usable = one.listed or EMPTY, one.listed_ok
        seen_deleting = one.listed_deleting
        one = one._replace(listed=None, listed_ok=True, listed_deleting=False)
        w = w.with_one(i, one)
        if one.obj is not None or one.entry is not None:
            w = shell.deliver(w, i)
            if i >= len(w.ones) or w.ones[i].cids != one.cids:
                continue  # nothing was left of it
        w = _doubt_secret(w, i)
        if w.away == NEVER and w.listed:
            w = _absorb(w, i, listed, seen_deleting) if usable else w
            w = sweep(w, i, listed)
    return w


def _doubt_secret(w: World, i: int) -> World:
    """Now and then the Secret is looked for: here, when it is to no avail."""
    one = w.ones[i]
    entry = one.entry
    if entry is None or one.secret or entry.secret != "P" or entry.obj.deleting:
        return w
    return w.with_one(i, one._replace(entry=entry._replace(secret="U")))


def sweep(w: World, i: int, held: Held) -> World:
    one = w.ones[i]
    orphan = one.obj is None and one.entry is None and held != EMPTY
    if not (orphan and one.suspect):
        return w.with_one(i, one._replace(suspect=orphan))
    cid = held.box.cid if held.box else 0
    volumes = (VOLUME,) if held.vol else ()
    one = one._replace(suspect=False)
    if cid:
        one = engine.call(one, Ghost("remove", cid, (), 0, 0), False).one
    return w.with_one(i, engine.call(one, Ghost("rmvol", 0, volumes, 0, 0), False).one)
