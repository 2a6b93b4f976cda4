"""The model's engine: the verbs of `controller.engines.base`, and what others do to a container.

`call` is one engine call taking effect; `find` and `inspect` are the reads. Whether a caller hears
of it is the shell's matter. Each change tells its events, as (container, action).
"""

from __future__ import annotations

from typing import NamedTuple

from controller.core.reasons import Reason
from controller.core.state import Run
from tests.model.state import EMPTY, NEVER, NEW, OLD, Box, Ghost, Held, One, Violation
from tests.model.words import KEPT, VOLUME

ALIVE = (Run.RUNNING, Run.FROZEN)
STRANGER = 99
"""The container of another owner, which is always there."""
EVENTS_OF = tuple[tuple[int, str], ...]


class Effect(NamedTuple):
    one: One
    refused: Reason | None = None
    events: EVENTS_OF = ()


def find(one: One) -> Held:
    """A listing of one UID: what carries its label and the operator's."""
    return Held(one.box.seen() if one.box else None, one.vol) if one.box or one.vol else EMPTY


def inspect(one: One, cid: int) -> Box | None:
    return one.box.seen() if one.box is not None and one.box.cid == cid else None


def taken(one: One) -> Box | None:
    """The container that already has the name of this UID's."""
    return one.box


def call(one: One, what: Ghost, timed: bool) -> Effect:
    """A call takes effect. `timed`: the age of a run's start matters."""
    box = one.box
    if what.cid == STRANGER:
        raise Violation("stranger", f"{what.call} of a container of another owner")
    if what.call == "create":
        return _create(one, what)
    if what.call == "rmvol":
        return _remove_volumes(one, what)
    if box is None or box.cid != what.cid:
        gone_is_well = what.call in ("signal", "kill", "remove")
        return Effect(one, None if gone_is_well else Reason.CONTAINER_MISSING)
    match what.call:
        case "start":
            if box.run is Run.FROZEN:
                return Effect(one, Reason.START_FAILED)
            return Effect(one) if box.run is Run.RUNNING else start(one, timed)
        case "signal":
            thawed = thaw(one, "") if box.run is Run.FROZEN else Effect(one)
            box = thawed.one.box
            if box is not None and box.run is Run.RUNNING:
                return thawed._replace(one=one._replace(box=box._replace(termed=True)))
            return thawed
        case "kill":
            return leave(one, 137, "ours") if box.run in ALIVE else Effect(one)
        case "freeze":
            if box.run is Run.RUNNING:
                return freeze(one)
            return Effect(one, None if box.run is Run.FROZEN else Reason.EXITED)
        case "thaw":
            if box.run is Run.FROZEN:
                return thaw(one, "")
            return Effect(one, None if box.run is Run.RUNNING else Reason.EXITED)
        case "limit":
            changed = one._replace(box=box._replace(limit=what.limit))
            return Effect(changed, None, ((box.cid, "update"),))
        case "remove":
            return remove(one)
        case _:
            return Effect(one)


def _create(one: One, what: Ghost) -> Effect:
    if taken(one) is not None:
        return Effect(one)  # adopted
    if one.box is not None:
        raise Violation("one container", "there are two of one UID")
    cid = one.cids + 1
    box = Box(cid, Run.CREATED, 0, NEVER, NEVER, 0, what.limit, key=what.key)
    one = one._replace(box=box, vol=True, kept=True, cids=cid)
    return Effect(one, None, ((cid, "create"),))


def _remove_volumes(one: One, what: Ghost) -> Effect:
    if KEPT in what.volumes and one.kept:
        raise Violation("retained volume", "a volume with reclaimPolicy Retain was removed")
    if VOLUME not in what.volumes or not one.vol:
        return Effect(one)
    if one.box is not None:
        return Effect(one, Reason.CLEANUP_FAILED)  # in use
    return Effect(one._replace(vol=False))


def start(one: One, timed: bool) -> Effect:
    box = one.box
    assert box is not None
    box = box._replace(
        run=Run.RUNNING,
        runno=box.runno + 1,
        started=NEW if timed else OLD,
        finished=NEVER,
        code=0,
        how="",
        termed=False,
        answers=not timed,
    )
    return Effect(one._replace(box=box), None, ((box.cid, "start"),))


def freeze(one: One) -> Effect:
    box = one.box
    assert box is not None
    return Effect(one._replace(box=box._replace(run=Run.FROZEN)), None, ((box.cid, "pause"),))


def thaw(one: One, how: str) -> Effect:
    box = one.box
    assert box is not None
    box = box._replace(run=Run.RUNNING, how=how or box.how)
    return Effect(one._replace(box=box), None, ((box.cid, "unpause"),))


def leave(one: One, code: int, how: str) -> Effect:
    """A run ends. `how`: `ours` by our signal or kill; `itself`, which no phase may call PAUSED;
    `frozen` (a reboot); `unsure`, where nobody could tell."""
    box = one.box
    assert box is not None
    if box.how == "unsure":
        how = "unsure"
    box = box._replace(
        run=Run.EXITED, finished=NEW, code=code, how=how, termed=False, answers=False
    )
    return Effect(one._replace(box=box), None, ((box.cid, "die"),))


def remove(one: One) -> Effect:
    box = one.box
    assert box is not None
    died: EVENTS_OF = ((box.cid, "die"),) if box.run in ALIVE else ()
    return Effect(one._replace(box=None), None, (*died, (box.cid, "destroy")))
