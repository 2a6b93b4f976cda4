"""What follows when faults have stopped: one step after the other, until nothing is left to do."""

from __future__ import annotations

from tests.model import properties, watch
from tests.model.ages import later
from tests.model.state import One, World
from tests.model.steps import Next, Steps, news
from tests.model.words import ENGINES


def calm(steps: Steps, w: World) -> Next | None:
    """What happens next when nothing goes wrong any more; None when nothing is left to do."""
    shell = steps.shell
    if not w.engine_up:
        return Next("engine comes back", w._replace(engine_up=True))
    if w.swapped != _belongs_to_other(steps, w):
        return Next("its engine takes over", steps.swap(w))
    if w.name_taken:
        return Next("the other Secret goes", w._replace(name_taken=False))
    if not w.up:
        return Next("operator starts", steps.started(w))
    for i, one in enumerate(w.ones):
        if one.ghost is not None:
            return Next(f"{one.ghost.call} takes effect after all", steps.haunt(w, i))
        if one.late is not None:
            heard = w.with_one(i, one._replace(late=None))
            late = shell.notice(heard, i, *one.late)
            return Next(f"{one.late[1]} is heard of late", late)
        if news(one):
            return Next("operator hears of the object", shell.deliver(w, i))
    if not properties.known(w):
        return Next("operator connects to the engine", watch.connect(w))
    for i, one in enumerate(w.ones):
        step = _one(steps, w, i, one)
        if step is not None:
            return step
    for long in (False, True):
        aged = later(steps.words, w, long)
        if aged != w:
            return Next("an hour passes" if long else "some seconds pass", aged)
    resynced = watch.resync_ends(shell, w if w.resyncing else watch.resync_begins(w))
    return Next("resync", resynced) if resynced != w else None


def _belongs_to_other(steps: Steps, w: World) -> bool:
    """The other engine has the container, as a status tells."""
    recorded = (steps.words.statuses[one.obj.status].container for one in w.ones if one.obj)
    return any(c is not None and c.engine_id == ENGINES[True] for c in recorded)


def _one(steps: Steps, w: World, i: int, one: One) -> Next | None:
    shell = steps.shell
    if one.obj is None and one.secret and one.entry is None:
        return Next("the Secret of a gone object is collected", steps.collect(w, i))
    if one.op is not None and one.op.looked is not None:
        return Next("the look is answered", shell.looked(w, i))
    if one.op is not None:
        call = shell.call_of(one)
        if call is None:
            return Next("the engine is looked at", shell.look(w, i))
        return Next(f"{call.call} is done", shell.proceed(w, i))
    if one.pend is not None:
        if one.pend.step:
            return Next(f"{one.pend.dec.step} is done", shell.step(w, i))
        told = "status " + " ".join(steps.words.told(one.pend.dec.status))
        return Next(f"{told} is written", shell.status_written(w, i))
    if one.entry is None:
        return None
    then = shell.reconcile(w, i)
    if then != w:
        return Next("operator reconciles", then)
    return next(steps.probe(w, i, one), None)
