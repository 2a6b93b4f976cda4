"""What must hold: of each decision, each write and call, each state, and of every state at rest.

one container       invariant 1; raised by `engine`, which would have a second one
finalizer           invariant 2: whatever exists of a UID, its object is claimed
stranger            invariant 9; raised by `engine`
started after deletion, started while paused      once the operator has heard of it: of what is
                    decided, begins, goes on, and is sent
grace, backoff, retained volume, secret (before the container; gone before what is deleted)
phase, condition, deleting, operation, signal, outage      raised by `phases`, of each decision
deleting, missing, paused, outage      what the phases promise (docs/phases.md)
converges           raised by `explore`: when faults stop it comes to rest, and writes nothing
wakeup, signal, heard      raised by `calm`: timers are set for what time brings, no grace period
                    goes by without its signal, and no event is taken for an echo
name taken, outage  while that lasts, it is told
as wished           what it comes to rest as
"""

from __future__ import annotations

from controller.core.decide import ApiStep
from controller.core.reasons import ConditionType, Reason
from controller.core.resources import Phase
from controller.core.state import Run, Verb
from controller.core.verdict import Wish
from tests.model.state import NEVER, OLD, Box, Dec, Entry, One, Todo, Violation, World
from tests.model.words import ENGINES, Words

STARTS = (Verb.RUN, Verb.START, Verb.THAW)
LOOKS = (Verb.OBSERVE, Verb.READ_KEY)
ENDED = ("Exited", "Completed", "OOMKilled")


def of_decision(words: Words, one: One, entry: Entry, dec: Dec, away: int) -> None:
    """A decision, and what it was made on. `away`: since when the engine is known to be."""
    wished, op, refusal = words.wish(entry.obj), one.op, entry.refusal
    blind = entry.held is None or away != NEVER
    goes_on = op is not None and op.verb in STARTS and not (op.cancelled or dec.cancel)
    if goes_on and wished is Wish.GONE:
        raise Violation("started after deletion", f"{op and op.verb} is under way, and goes on")
    if goes_on and wished is Wish.PAUSED and not blind:
        raise Violation("started while paused", f"{op and op.verb} is under way, and goes on")
    if dec.step is ApiStep.ENSURE_SECRET and refusal is not None and not refusal.due:
        raise Violation("backoff", f"{dec.step} is repeated at once")
    starts = dec.todo is not None and dec.todo.verb in STARTS
    if starts and wished is Wish.PAUSED:
        raise Violation("started while paused", f"{dec.todo} is decided")
    if starts and wished is Wish.GONE:
        raise Violation("started after deletion", f"{dec.todo} is decided")
    verb = dec.todo.verb if dec.todo else None
    box = entry.held.box if entry.held else None
    believed_up = box is not None and box.run in (Run.RUNNING, Run.FROZEN)
    if verb is Verb.CLEAN and believed_up and entry.obj.deleting != OLD:
        raise Violation("grace", "it is removed within its grace period")
    if verb is Verb.KILL and not words.grace_over(entry.obj.status):
        raise Violation("grace", "it is killed within its grace period")
    if blind and dec.status != entry.obj.status and wished is not Wish.GONE:
        before, after = words.told(entry.obj.status), words.told(dec.status)
        if before != after:
            raise Violation("outage", f"{before} becomes {after}, and nothing is known")
    if dec.step is ApiStep.RELEASE and wished is not Wish.GONE:
        raise Violation("finalizer", "it is removed from an object that is not deleted")


def of_operation(words: Words, entry: Entry, todo: Todo) -> None:
    """An operation that begins."""
    fail = entry.fail
    if todo.verb is not Verb.OBSERVE and not entry.obj.claimed:
        raise Violation("finalizer", f"{todo.verb} before the claim")
    if fail is not None and fail.verb is todo.verb and not fail.due:
        raise Violation("backoff", f"{todo.verb} is repeated at once")
    if todo.verb is Verb.CLEAN and not entry.obj.deleting:
        raise Violation("as wished", "what is not deleted is removed")
    if todo.verb is Verb.RUN and words.secret and not (entry.secret == "P" and entry.key):
        raise Violation("secret", "the container is made before its Secret is stored")
    if todo.verb not in LOOKS and entry.obj.deleting and entry.secret != "A":
        raise Violation("secret", f"{todo.verb} before the Secret of a deleted one is gone")
    if todo.verb in STARTS and words.wish(entry.obj) is not Wish.RUNNING:
        raise Violation("started while paused", f"{todo.verb} begins")


def of_start(one: One) -> None:
    """A call that starts something is sent."""
    assert one.op is not None
    if one.op.cancelled:
        raise Violation("started while paused", f"{one.op.verb} goes on, and was cancelled")
    if one.entry is None or one.entry.obj.deleting:
        raise Violation("started after deletion", f"{one.op.verb} goes on, and that was heard")


def of_status(words: Words, one: One, before: int, after: int) -> None:
    """A status that is stored over another."""
    was, (phase, reason) = words.told(before), words.told(after)
    box = one.box
    if was[0] == Phase.DELETING and phase != Phase.DELETING:
        raise Violation("deleting", f"DELETING becomes {phase}")
    if phase == Phase.MISSING and was[0] != phase and not one.taken:
        raise Violation("missing", "its container was never there, or is")
    if phase == Phase.PAUSED and reason in ("Stopped", "MemoryLost") and was != (phase, reason):
        recorded = words.statuses[after].container
        same = box is not None and recorded is not None and recorded.id == f"c{box.cid}"
        if same and box is not None and box.run is Run.EXITED and box.how == "itself":
            raise Violation("paused", f"it exited by itself and is called {phase} {reason}")


def of_state(w: World) -> None:
    """Every state."""
    for one in w.ones:
        if one.unguarded or (one.box is None and not one.vol and not one.secret):
            continue
        if one.obj is None or not one.obj.claimed:
            raise Violation("finalizer", "something exists that no finalizer guards")


def at_rest(words: Words, w: World) -> None:
    """A state where nothing is left to do."""
    for one in w.ones:
        obj, box = one.obj, one.box
        if one._replace(other=(None, False)).is_nothing:
            continue  # what an engine that is away holds is swept when it comes back
        if obj is None or obj.deleting:
            raise Violation("as wished", "a deleted Sandbox is still there, or something of it")
        (phase, reason), status = words.told(obj.status), words.statuses[obj.status]
        run = box.run if box else None
        found = f"{phase} {reason}, container {run}"
        reachable = status.condition(ConditionType.ENGINE_REACHABLE)
        if reachable is not None and reachable.status != "True":
            raise Violation("as wished", f"EngineReachable is False: {found}")
        if status.observed_generation != obj.gen:
            raise Violation("as wished", f"the status is of an older generation: {found}")
        if phase == Phase.MISSING:
            if not (one.taken and words.reports_missing and box is None):
                raise Violation("as wished", found)
        elif reason == "SecretNameTaken":
            if not w.name_taken:
                raise Violation("as wished", found)
        elif obj.paused:
            if not _rests(box, phase, reason):
                raise Violation("as wished", f"wished paused: {found}")
        else:
            _runs(words, one, phase, reason, found)


def while_it_lasts(words: Words, w: World) -> None:
    """Nothing is left to do, and something is wrong that goes on: that is told, as it is."""
    for one in w.ones:
        obj = one.obj
        if obj is None or not obj.claimed:
            continue
        (phase, reason), status = words.told(obj.status), words.statuses[obj.status]
        if obj.deleting and phase != Phase.DELETING:
            raise Violation("deleting", f"{phase} {reason} is told of a deleted one")
        if w.name_taken:
            if (phase, reason) != (Phase.ERROR, "SecretNameTaken"):
                raise Violation("name taken", f"{phase} {reason} is told")
            continue
        reachable = status.condition(ConditionType.ENGINE_REACHABLE)
        told = (reachable.status, reachable.reason) if reachable else ("", "")
        held_elsewhere = status.container and status.container.engine_id != ENGINES[w.swapped]
        if not w.engine_up:
            expected = Reason.ENGINE_UNREACHABLE
        elif held_elsewhere:
            expected = Reason.ENGINE_CHANGED
        else:
            continue
        if told != ("False", expected):
            raise Violation("outage", f"EngineReachable is {told}, and {expected} lasts")


def _rests(box: Box | None, phase: str, reason: str) -> bool:
    """Wished paused, it is, and that is told as it came about."""
    if phase == Phase.ERROR:
        return reason in ENDED and _ended(box)
    if phase != Phase.PAUSED:
        return False
    match box.run if box else None:
        case None | Run.CREATED:
            return reason == "NotStarted"
        case Run.FROZEN:
            return reason == "Frozen"
        case Run.EXITED:
            return reason in ("Stopped", "MemoryLost")
        case _:
            return False


def _ended(box: Box | None) -> bool:
    """It has exited, and not because we stopped it."""
    return box is not None and box.run is Run.EXITED and box.how != "ours"


def _runs(words: Words, one: One, phase: str, reason: str, found: str) -> None:
    box, obj = one.box, one.obj
    assert obj is not None
    if words.never_restarts and phase == Phase.ERROR and reason in ENDED and _ended(box):
        return
    if box is None or box.run is not Run.RUNNING:
        raise Violation("as wished", f"wished running: {found}")
    ready = (phase, reason) == (Phase.RUNNING, "Ready")
    late = reason in ("StartupDeadlineExceeded", "NotReady") and not box.answers
    if not (ready or (late and words.readiness)):
        raise Violation("as wished", f"wished running: {found}")
    if ready and not box.answers:
        raise Violation("as wished", f"its server does not answer: {found}")
    if box.limit != obj.limit:
        raise Violation("as wished", f"its limits are not those asked for: {found}")
    if words.secret and not one.keyless and (not one.secret or one.secret != box.key):
        raise Violation("as wished", f"its Secret is not its key: {found}")


def known(w: World) -> bool:
    """The operator knows all there is to know of the engine."""
    return w.up and w.listed and w.away == NEVER and w.view_swapped == w.swapped
