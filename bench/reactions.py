"""How soon the status follows what happens behind the operator's back, its own death included."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from bench.audit import Write
from bench.figures import WARM_UP, Row, at_most, counts, milliseconds, seconds
from bench.lab import Lab
from bench.sandboxes import SECONDS, Told, Wanted, in_phase
from controller.core import names
from dev import engine
from dev.progress import DevError

EVENT_BOUND_MS = 250
RESTART_BOUND_S = 5
VICTIMS = 5
"""So many containers are removed while the operator is down: each must show as MISSING."""
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class _Kind:
    """Something done to a container: the engine's event of it, and the status that tells of it."""

    name: str
    do: Callable[[Any, str], None]
    event: str
    shown: Wanted


_KINDS = (
    _Kind("kill", lambda c, id_: c.kill(id_), "die", lambda t: t.reason == "Exited"),
    _Kind("pause", lambda c, id_: c.pause(id_), "pause", lambda t: t.reason == "PausedExternally"),
    _Kind(
        "rm",
        lambda c, id_: c.remove_container(id_, force=True),
        "destroy",
        in_phase("MISSING"),
    ),
)


async def event_to_status(lab: Lab) -> list[Row]:
    """From the engine's own time of an event to the watch event that tells it: one at a time, and
    many as fast as the engine takes them."""
    rows, every = [], list[float]()
    with engine.client(lab.docker_host) as client:
        for kind in _KINDS:
            took = await _react(lab, client, kind)
            every += took
            what = f"docker {kind.name} to status"
            row = Row("event-to-status", what, milliseconds(took), curve=f"docker {kind.name}")
            rows.append(row)
        together, passed = await _react_to_many(lab, client)
    summary = at_most(
        "event-to-status", "all of these, one at a time", milliseconds(every), EVENT_BOUND_MS
    )
    many = at_most(
        "event-to-status",
        f"docker kill to status, {lab.sizes.burst} at once",
        milliseconds(together),
        EVENT_BOUND_MS,
        note=f"their events came within {passed:.1f} s",
    )
    return [summary, *rows, replace(many, curve=f"{lab.sizes.burst} at once")]


async def _react(lab: Lab, client: Any, kind: _Kind) -> list[float]:
    sandboxes, took = lab.sandboxes, []
    # Never: a hundred restarts would be at work beside the next measurement.
    spec = lab.spec(restartPolicy="Never")
    boxes = await lab.run_all(kind.name, lab.sizes.reactions + WARM_UP, spec)
    with _Events(lab, kind.event) as events:
        for name in lab.track(boxes, f"docker {kind.name}, one at a time"):
            began, last = time.monotonic(), sandboxes.last(name)
            await asyncio.to_thread(kind.do, client, last.container_id)
            happened = await asyncio.to_thread(events.of, last.container_id)
            shown = await sandboxes.until(name, kind.shown, after=began)
            took.append(shown.clock - happened)
            if kind.name == "pause":  # the operator thaws it
                await sandboxes.until(name, in_phase("RUNNING"), after=shown.at)
    await lab.end_all(boxes)
    return took[WARM_UP:]


async def _react_to_many(lab: Lab, client: Any) -> tuple[list[float], float]:
    """As many as are killed at once; and the seconds from the engine's first event to its last."""
    kind = _KINDS[0]
    boxes = await lab.run_all(kind.name, lab.sizes.burst, lab.spec(restartPolicy="Never"))
    ids = {name: lab.sandboxes.last(name).container_id for name in boxes}
    loop, began = asyncio.get_running_loop(), time.monotonic()
    with _Events(lab, kind.event) as events, ThreadPoolExecutor(len(boxes)) as pool:
        kills = [loop.run_in_executor(pool, kind.do, client, id_) for id_ in ids.values()]
        shown = await asyncio.gather(
            *(lab.sandboxes.until(name, kind.shown, after=began) for name in boxes)
        )
        await asyncio.gather(*kills)
        happened = await asyncio.to_thread(events.of_all, ids.values())
    took = [told.clock - happened[ids[name]] for name, told in zip(boxes, shown, strict=True)]
    await lab.end_all(boxes)
    return took, max(happened.values()) - min(happened.values())


class _Events:
    """The engine's events of one action on the operator's containers."""

    def __init__(self, lab: Lab, action: str) -> None:
        self._told: queue.Queue[tuple[str, float]] = queue.Queue()
        self._client = engine.client(lab.docker_host)
        label = f"{names.OWNER_LABEL}={lab.owner.label}"
        self._stream = self._client.events(
            filters={"type": "container", "event": action, "label": label}, decode=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> _Events:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._client.close()

    def of(self, container_id: str) -> float:
        """The engine's Unix time of the next event of this container."""
        return self.of_all([container_id])[container_id]

    def of_all(self, container_ids: Iterable[str]) -> dict[str, float]:
        """The same of each of these, by ID; events of others are passed over."""
        missing, found = set(container_ids), dict[str, float]()
        while missing:
            try:
                id_, at = self._told.get(timeout=SECONDS)
            except queue.Empty:
                raise DevError(f"Docker told no event of {', '.join(sorted(missing))}") from None
            if id_ in missing:
                missing.remove(id_)
                found[id_] = at
        return found

    def _read(self) -> None:
        for event in self._stream:
            self._told.put((event["Actor"]["ID"], event["timeNano"] / 1e9))


async def restart(lab: Lab) -> list[Row]:
    """kill -9 and start again, over all that run. While the operator is down some containers are
    removed: converged is when each of them shows as MISSING, which takes a full listing of both
    sides. The others must not be written to."""
    boxes = await lab.populate()
    took, strays = list[float](), list[Write]()
    for _ in lab.track(range(lab.sizes.restarts), "restart"):
        took.append(await restart_once(lab, strays))
    count = len(boxes)
    return [
        at_most(
            "restart",
            f"start of the process until {VICTIMS} of {count} show as MISSING",
            seconds(took),
            RESTART_BOUND_S,
            percent=100,
        ),
        at_most(
            "restart",
            f"writes on the other {count - VICTIMS} by then and {SETTLE_SECONDS:g} s later",
            counts([len(strays)]),
            0,
            note=", ".join(sorted({f"{w.verb} {w.resource}" for w in strays})),
        ),
    ]


async def restart_once(lab: Lab, strays: list[Write] | None = None) -> float:
    """Seconds from the start of the process until it has converged. `strays` is added to by the
    writes on what did not change."""
    # Evenly from the first to the last of the listing.
    ordered = sorted(lab.population)
    victims = [ordered[i * (len(ordered) - 1) // (VICTIMS - 1)] for i in range(VICTIMS)]
    lab.operator.kill()
    with engine.client(lab.docker_host) as client:
        for name in victims:
            id_ = lab.sandboxes.last(name).container_id
            await asyncio.to_thread(client.remove_container, id_, force=True)
    mark = lab.audit.mark()
    began = time.monotonic()
    lab.operator.start()
    shown: list[Told] = await asyncio.gather(
        *(lab.sandboxes.until(name, in_phase("MISSING"), after=began) for name in victims)
    )
    await lab.rest(SETTLE_SECONDS, "looking for writes")
    if strays is not None:
        strays += [w for w in lab.audit.since(mark) if _stray(w, victims)]
    await lab.end_all(victims)
    lab.population[:] = [name for name in lab.population if name not in victims]
    await lab.populate()
    return max(told.at for told in shown) - began


def _stray(write: Write, victims: list[str]) -> bool:
    """Whether a write is of none of the victims; Events are named after their Sandbox."""
    return not any(write.name == v or write.name.startswith(f"{v}.") for v in victims)
