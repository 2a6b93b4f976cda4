"""What the operator costs: writes at the API server, and processor and memory when all is quiet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from bench.audit import Write
from bench.figures import Figures, Point, Row, at_most, counts
from bench.lab import Lab, Operator
from bench.usage import cpu_seconds, resident_mb
from controller.core import names

TO_RUNNING_BOUND = 4
TO_GONE_BOUND = 3
CPU_BOUND_PERCENT = 2
MEMORY_BOUND_MB = 150
SETTLE_SECONDS = 3.0


async def writes(lab: Lab) -> list[Row]:
    """Writes by the operator on each Sandbox and its Secret, by the API server's audit log."""
    mark = lab.audit.mark()
    boxes = await lab.run_all("writes", lab.sizes.writers, lab.spec())
    await lab.rest(SETTLE_SECONDS, "settling")
    to_running = lab.audit.since(mark)
    mark = lab.audit.mark()
    await lab.sandboxes.remove_all(boxes)
    await lab.rest(SETTLE_SECONDS, "settling")
    to_gone = lab.audit.since(mark)
    rows = []
    for what, seen, bound in (
        ("per Sandbox and its Secret, to RUNNING", to_running, TO_RUNNING_BOUND),
        ("more until gone", to_gone, TO_GONE_BOUND),
    ):
        each = counts(sorted(_per_sandbox(seen, boxes).values()))
        rows.append(at_most("writes", what, each, bound, percent=100, note=_kinds(seen, boxes)))
        rows.append(Row("writes", f"Events, {what}", counts([_events(seen) / len(boxes)])))
    return rows


async def idle(lab: Lab) -> list[Row]:
    """Processor time and memory of the operator's process over sandboxes that only run, and
    whether it writes anything."""
    boxes, wait = await lab.populate(), lab.sizes.idle_seconds
    await lab.rest(SETTLE_SECONDS, "settling")
    mark = lab.audit.mark()
    used = await idle_percent(lab, lab.operator, wait)
    written = counts([len(lab.audit.since(mark))])
    what = f"{len(boxes)} idle sandboxes: writes in {wait:g} s"
    return [*idle_rows(lab, "idle", len(boxes), used), at_most("idle", what, written, 0)]


async def idle_percent(lab: Lab, operator: Operator, wait: float) -> float:
    """What part of a core an operator uses while nothing is asked of it, in so many seconds."""
    before, began = cpu_seconds(operator.process), time.monotonic()
    await lab.rest(wait, "measuring the operator at rest")
    used, passed = cpu_seconds(operator.process) - before, time.monotonic() - began
    return 100 * used / passed


def idle_rows(lab: Lab, scenario: str, running: int, used: float) -> list[Row]:
    """The part of a core, and the operator's memory as it is now."""
    what, percent = f"{running} idle sandboxes", Figures.of([used], "%")
    memory = Figures.of([resident_mb(lab.operator.process)], "MB")
    core = at_most(scenario, f"{what}: part of a core", percent, CPU_BOUND_PERCENT)
    resident = at_most(scenario, f"{what}: resident memory", memory, MEMORY_BOUND_MB)
    return [
        replace(core, point=Point("part of a core at rest", running)),
        replace(resident, point=Point("resident memory", running)),
    ]


def _per_sandbox(seen: Iterable[Write], boxes: list[str]) -> Counter[str]:
    owner = {name: name for name in boxes} | {names.secret_name(name): name for name in boxes}
    found = Counter(dict.fromkeys(boxes, 0))
    found.update(owner[w.name] for w in seen if w.name in owner and not w.is_event)
    return found


def _kinds(seen: Iterable[Write], boxes: list[str]) -> str:
    total = Counter(f"{w.verb} {w.resource}" + _refused(w) for w in seen if not w.is_event)
    return ", ".join(f"{count / len(boxes):g} {kind}" for kind, count in sorted(total.items()))


def _refused(write: Write) -> str:
    return f" ({write.code})" if write.code >= 300 else ""


def _events(seen: Iterable[Write]) -> int:
    return sum(w.is_event for w in seen)
