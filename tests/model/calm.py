"""What follows when nothing new goes wrong: one step after the other, until nothing is left to do.

Either all that was wrong is over (`heals`), or what keeps an engine away, another in its place or a
name taken goes on. Time goes by only when there is nothing else to do: so whatever it brings must
have been waited for, and a grace period that ends had its signal.
"""

from __future__ import annotations

from controller.core.state import Verb
from tests.model import engine, properties, watch
from tests.model.ages import later
from tests.model.state import NEVER, NEW, OLD, One, Violation, World
from tests.model.steps import Next, Steps, news, overlooked, taken
from tests.model.words import ENGINES


def calm(steps: Steps, w: World, heals: bool = True) -> Next | None:
    """What happens next; None when nothing is left to do."""
    shell = steps.shell
    healed = _healed(steps, w) if heals else None
    if healed is not None:
        return healed
    if not w.up:
        return Next("operator starts", steps.started(w))
    for i, one in enumerate(w.ones):
        if one.ghost is not None and w.engine_up:
            return taken(f"{one.ghost.call} takes effect after all", steps.haunt, w, i)
        if one.late is not None:
            heard = w.with_one(i, one._replace(late=None))
            late = shell.notice(heard, i, *one.late)
            return Next(f"{one.late[1]} is heard of late", late)
        if news(one):
            return Next("operator hears of the object", shell.deliver(w, i))
    if w.engine_up and not properties.known(w):
        return Next("operator connects to the engine", watch.connect(w))
    if overlooked(w):
        return Next("operator notices the outage", w._replace(away=NEW))
    for i, one in enumerate(w.ones):
        step = _one(steps, w, i, one)
        if step is not None:
            return step
    for long in (False, True):
        aged = later(steps.words, w, long)
        if aged != w:
            _waits(steps, w, aged, long)
            return Next("an hour passes" if long else "some seconds pass", aged)
    return _resync(steps, w, heals)


def _healed(steps: Steps, w: World) -> Next | None:
    if not w.engine_up:
        return Next("engine comes back", w._replace(engine_up=True))
    if w.swapped != belongs_to_other(steps, w):
        return Next("its engine takes over", steps.swap(w))
    if w.name_taken:
        return Next("the other Secret goes", w._replace(name_taken=False))
    return None


def belongs_to_other(steps: Steps, w: World) -> bool:
    """The other engine has the container, as a status tells."""
    recorded = (steps.words.statuses[one.obj.status].container for one in w.ones if one.obj)
    return any(c is not None and c.engine_id == ENGINES[True] for c in recorded)


def _one(steps: Steps, w: World, i: int, one: One) -> Next | None:
    shell = steps.shell
    if one.obj is None and one.secret and one.entry is None:
        return Next("the Secret of a gone object is collected", steps.collect(w, i))
    if one.op is not None and one.op.looked is not None:
        return Next("the look is answered", shell.looked(w, i))
    if one.op is not None and one.op.waits:
        return taken("it has its turn", shell.send, w, i)
    if one.op is not None:
        call = shell.call_of(one)
        what = call.call if call else "the look"
        if not w.engine_up:
            return Next(f"{what} gets no answer", shell.unanswered(w, i))
        if call is None:
            return Next("the engine is looked at", shell.look(w, i))
        return taken(f"{what} is done", shell.proceed, w, i)
    if one.pend is not None:
        if one.pend.step:
            return taken(f"{one.pend.dec.step} is done", shell.step, w, i)
        told = "status " + " ".join(steps.words.told(one.pend.dec.status))
        return taken(f"{told} is written", shell.status_written, w, i)
    if one.entry is None:
        return None
    then = taken("operator reconciles", shell.reconcile, w, i)
    if then.world != w:
        return then
    return next(steps.probe(w, i, one), None)


def _waits(steps: Steps, w: World, aged: World, long: bool) -> None:
    """Nothing is left to do until time has gone by; the operator knows what it waits for."""
    seen_engine = ENGINES[w.view_swapped] if w.listed else None
    for i, one in enumerate(w.ones):
        entry, box = one.entry, one.box
        if entry is None:
            continue
        dec = steps.words.decide(entry, one.op, w.away, seen_engine)
        reads_key = entry.fail is not None and entry.fail.verb is Verb.READ_KEY
        in_time = dec.look != NEVER and (long or dec.look != OLD)
        # The reconciler itself waits to look, and to read a key, again.
        asleep = not (in_time or entry.look or reads_key)
        if asleep and taken("time passes", steps.shell.reconcile, aged, i).world != aged:
            raise Violation("wakeup", "there is something to do by then, and nothing wakes it")
        if not long or box is None or box.run not in engine.ALIVE or box.termed:
            continue
        status = entry.obj.status
        stopping = steps.words.marked_run(status, box) and not steps.words.grace_over(status)
        # Of a signal that another engine took it cannot be known that it met nothing.
        told = "swap" not in steps.scenario.fault and properties.known(w)
        if told and (stopping or entry.obj.deleting not in (NEVER, OLD)):
            raise Violation("signal", "its grace period goes by, and it was sent no signal")


def _resync(steps: Steps, w: World, heals: bool) -> Next | None:
    shell = steps.shell
    resynced = watch.resync_ends(shell, w if w.resyncing else watch.resync_begins(w))
    if resynced == w:
        return None
    # What is not heard while an engine is away, a listing shows; it passes over what is in flight.
    if heals and steps.scenario.fault.isdisjoint(("events", "outage", "swap")):
        for one, after in zip(w.ones, resynced.ones, strict=False):
            if one.entry and after.entry and one.entry.held != after.entry.held:
                raise Violation("heard", f"{one.entry.held} was believed, and no event was lost")
    return Next("resync", resynced)
