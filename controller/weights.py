"""What an engine operation costs others, in slots of its namespace's share.

An operation counts as one. Some keep the engine busy for longer than its answer takes, with locks
and the disk that all share: they count for more, so that one namespace has few of them under way.

    ports     Docker starts a proxy and sets rules of the packet filter for each, and takes them
              down again, under one lock of its network
    volumes   Docker fills a new one with what the image holds at its mount path, and deletes file
              by file. How much that is shows only in how long it takes: until an image's volumes
              were seen to be filled at once, they are taken for large
    restarts  come by themselves, again and again; a first start is waited for
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from controller.core.reasons import Reason
from controller.core.resources import SandboxSpec
from controller.core.state import Run, Verb
from controller.core.verdict import Operation, stored_reason
from controller.entries import Entry

PORTS_OF_A_SLOT = 4
"""So many published ports keep Docker busy for about as long as the rest of a start does."""
PORT_SECONDS = 0.03
"""How long Docker takes for one port after it has answered a signal: its end is not waited for."""
VOLUMES_AT_ONCE = 2
"""Creations with volumes of unknown content that one namespace has under way."""
QUICK_SECONDS = 2.0
"""What took less copied or deleted little."""
KNOWN = 1000
"""Images and mount paths that are remembered as quick."""


@dataclass(frozen=True, slots=True)
class Weight:
    cost: int = 1
    later: bool = False
    """After the namespace's other work: a restart."""
    linger: float = 0.0
    """Seconds that the engine goes on after its answer."""


class Weights:
    """Weighs operations, and learns which images' volumes are small."""

    def __init__(self, share: int) -> None:
        """`share` is what one namespace may have under way."""
        self._share = share
        self._quick: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def of(self, entry: Entry, operation: Operation) -> Weight:
        spec, holdings = entry.subject.spec, entry.holdings
        container = holdings.container if holdings is not None else None
        alive = container is not None and container.run in (Run.RUNNING, Run.FROZEN)
        ports = len(spec.ports) if spec is not None else len(container.ports) if container else 0
        published = 1 + ports // PORTS_OF_A_SLOT
        match operation.verb:
            case Verb.RUN:
                return Weight(published + self._filling(spec))
            case Verb.START:
                exited = container is not None and container.run is Run.EXITED
                again = exited and stored_reason(entry.subject.status) is not Reason.RESUMING
                return Weight(published + again, later=again)
            case Verb.SIGNAL_STOP | Verb.KILL if alive:
                return Weight(published, linger=PORT_SECONDS * ports)
            case Verb.CLEAN:
                emptied = self._filling(spec) if operation.volumes else 0
                return Weight((published if alive else 1) + emptied)
            case _:
                return Weight()

    def _filling(self, spec: SandboxSpec | None) -> int:
        """What volumes add."""
        if spec is None or not spec.volumes or _volumes(spec) in self._quick:
            return 0
        return max(1, self._share // VOLUMES_AT_ONCE - 1)

    def took(self, entry: Entry, seconds: float) -> None:
        """Volumes of the Sandbox were made, or removed, in so long."""
        spec = entry.subject.spec
        if spec is None:
            return
        key = _volumes(spec)
        self._quick.pop(key, None)
        if seconds < QUICK_SECONDS:
            self._quick[key] = None
            if len(self._quick) > KNOWN:
                self._quick.popitem(last=False)


def _volumes(spec: SandboxSpec) -> tuple[str, ...]:
    """What decides how much they hold to begin with."""
    return (spec.image or "", *sorted(volume.mount_path for volume in spec.volumes))
