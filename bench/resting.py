"""What the operator costs: writes at the API server, and processor and memory when all is quiet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bench.audit import Write
from bench.figures import Figures, Row, at_most, counts
from bench.lab import Lab
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
    await lab.rest(lab.sizes.rest_seconds, "counting writes at rest")
    at_rest = lab.audit.since(mark)
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
    what = f"of any kind in {lab.sizes.rest_seconds:g} s at rest, {len(boxes)} sandboxes"
    rows.append(at_most("writes", what, counts([len(at_rest)]), 0))
    return rows


async def idle(lab: Lab) -> list[Row]:
    """Processor time and memory of the operator's process over sandboxes that only run."""
    boxes = await lab.populate()
    await lab.rest(SETTLE_SECONDS, "settling")
    process, mark = lab.operator.process, lab.audit.mark()
    before = process.cpu_times()
    await lab.rest(lab.sizes.idle_seconds, "measuring the operator at rest")
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    percent = Figures.of([100 * used / lab.sizes.idle_seconds], "%")
    memory = Figures.of([process.memory_info().rss / 1e6], "MB")
    what = f"{len(boxes)} idle sandboxes"
    written = counts([len(lab.audit.since(mark))])
    return [
        at_most("idle", f"{what}: part of a core", percent, CPU_BOUND_PERCENT),
        at_most("idle", f"{what}: resident memory", memory, MEMORY_BOUND_MB),
        at_most("idle", f"{what}: writes in {lab.sizes.idle_seconds:g} s", written, 0),
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
