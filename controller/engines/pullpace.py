"""How fast a pull moves, read from the lines of Docker's answer, and when it is too slow to go on.

dockerd downloads three layers at once for everybody (max-concurrent-downloads): one image whose
layers trickle would keep all others from being pulled. So there is a least rate, and a higher one
while another namespace's pull waits for dockerd's downloads. What extracts or waits for its turn
may take its time, up to the bound of the whole pull, which the caller sets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

SILENT_SECONDS = 60.0
"""Until the registry has answered what the image consists of."""
WINDOW_SECONDS = 30.0
LEAST_BYTES = 512 << 10
"""In every window: 17 KiB/s, a modem's rate. A registry that is worth waiting for is faster."""
CONTENDED_SECONDS = 10.0
CONTENDED_BYTES = 1 << 20
"""The same while others wait: 100 KiB/s. Slower, 20 minutes would not do for a small image."""
STUCK_SECONDS = 120.0
"""All layers wait for dockerd and none is being downloaded for us: someone else's pulls, or a
registry that takes the connection and says nothing."""
LAYER_BYTES = 64 << 10
"""What a finished layer counts for at least: many small ones are no slow pull."""

_DOWNLOADED = ("Verifying Checksum", "Download complete")
_DONE = ("Pull complete", "Already exists")


class Pace:
    """One pull. Times are of any one clock, in seconds."""

    def __init__(self, tenant: str, now: float) -> None:
        self.tenant = tenant
        self.given_up: str | None = None
        """Why, once the caller has given it up."""
        self._began = now
        self._layers = False
        """The registry has said what there is."""
        self._downloading: dict[str, int] = {}
        """Bytes of each layer that dockerd downloads, as far as it says."""
        self._waiting: set[str] = set()
        self._extracting: set[str] = set()
        self._moved: deque[tuple[float, int]] = deque()
        """When, on the clock of `_spent`, and how many bytes."""
        self._spent = 0.0
        """Seconds with a download under way: a wait in between is no fresh start."""
        self._counted_at = now
        self._extracted_at = now
        self.waits_since: float | None = None
        """Since when it has nothing to do but to wait for dockerd's downloads."""

    def line(self, line: Mapping[str, Any], now: float) -> None:
        """Take a line of the answer."""
        layer, status = line.get("id"), line.get("status")
        if not isinstance(layer, str) or not isinstance(status, str):
            return
        if status.startswith("Pulling from"):
            return
        self._count(now)
        self._layers = True
        downloaded = self._downloading.pop(layer, None)
        self._waiting.discard(layer)
        if status == "Waiting":
            self._waiting.add(layer)
        elif status == "Extracting":
            self._extracting.add(layer)
            self._extracted_at = now
        elif status in _DONE:
            self._extracting.discard(layer)
            self._extracted_at = now
        elif status in _DOWNLOADED:
            if downloaded is not None:
                self._moved.append((self._spent, max(0, LAYER_BYTES - downloaded)))
        else:  # "Pulling fs layer", "Downloading", "Retrying in 5 seconds"
            current = _current(line)
            self._moved.append((self._spent, max(0, current - (downloaded or 0))))
            self._downloading[layer] = current
        while self._moved and self._moved[0][0] < self._spent - WINDOW_SECONDS:
            self._moved.popleft()
        if self._waiting and not self._downloading and not self._extracting:
            self.waits_since = now if self.waits_since is None else self.waits_since
        else:
            self.waits_since = None

    def fault(self, now: float, others: Iterable[Pace] = ()) -> str | None:
        """Why it is given up now; None where it may go on. `others` are the other pulls."""
        if not self._layers:
            if now - self._began >= SILENT_SECONDS:
                return f"the registry did not answer within {SILENT_SECONDS:.0f} s"
            return None
        self._count(now)
        others = list(others)
        contended = any(o.tenant != self.tenant and o.held_up(now) for o in others)
        if self._downloading:
            if contended and self._moves_less(CONTENDED_BYTES, CONTENDED_SECONDS):
                return _told(CONTENDED_BYTES, CONTENDED_SECONDS) + " while other images waited"
            # What extracts keeps the disk busy, which downloads are written to.
            extracts = self._extracting and now - self._extracted_at < WINDOW_SECONDS
            if not extracts and self._moves_less(LEAST_BYTES, WINDOW_SECONDS):
                return _told(LEAST_BYTES, WINDOW_SECONDS)
        elif self.waits_since is not None:
            # dockerd says nothing of a download that waits for a registry's first word.
            waited = [o for o in others if o.waits_since is not None]
            first = all(self._began <= o._began for o in waited)
            patience = WINDOW_SECONDS if contended and first else STUCK_SECONDS
            stuck = now - self.waits_since >= patience
            if stuck and not any(o._downloading for o in others):
                return f"no layer was downloaded for {patience:.0f} s"
        return None

    def held_up(self, now: float) -> bool:
        """It has waited for dockerd's downloads for long."""
        return self.waits_since is not None and now - self.waits_since >= CONTENDED_SECONDS

    def _count(self, now: float) -> None:
        if self._downloading:
            self._spent += now - self._counted_at
        self._counted_at = now

    def _moves_less(self, bytes_: int, seconds: float) -> bool:
        return self._spent >= seconds and self._bytes(seconds) < bytes_

    def _bytes(self, seconds: float) -> int:
        return sum(moved for at, moved in self._moved if at > self._spent - seconds)


def _told(bytes_: int, seconds: float) -> str:
    """The bound and not what was met: of each attempt the status would be written again."""
    return f"the registry sent less than {bytes_ >> 10} KiB in {seconds:.0f} s"


def _current(line: Mapping[str, Any]) -> int:
    detail = line.get("progressDetail")
    current = detail.get("current") if isinstance(detail, Mapping) else None
    return current if isinstance(current, int) else 0
