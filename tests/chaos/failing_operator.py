"""`python -m tests.chaos.failing_operator run`: the operator, with points where it kills itself.

Each verb of KubeApi and DockerEngine that has an effect, or that a decision rests on, is wrapped:
just before it and just after it is a point. A file names the one that is armed and how often it
is passed before it strikes; it is renamed when it does, and then SIGKILL ends the process: nothing
of it runs on, as after a crash.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from controller import cli
from controller.core import names
from controller.engines.docker import DockerEngine
from controller.kube.api import KubeApi

VARIABLE = "CHAOS_FAILPOINT"
"""Environment variable: path of the file that arms a point."""

_ENGINE = {
    "_ensure_network": "ensure-network",
    "_ensure_volume": "create-volume",
    "_create_container": "create-container",
    "start": "start",
    "signal_stop": "signal-stop",
    "kill": "kill",
    "freeze": "freeze",
    "thaw": "thaw",
    "update_limits": "update-limits",
    "remove": "remove",
    "remove_volume": "remove-volume",
    "environment": "read-key",
    "find": "find",
    "inspect": "inspect",
    "list": "list",
}
_API = {
    "patch_metadata": ("claim", "label", "release"),
    "patch_status": ("tell", "tell-pausing", "tell-deleting"),
    "create_secret": ("create-secret",),
    "delete_secret": ("delete-secret",),
    "get_secret": ("get-secret",),
    "create_event": ("create-event",),
    "list_sandboxes": ("list-sandboxes",),
}
VERBS = (*_ENGINE.values(), *(verb for verbs in _API.values() for verb in verbs))
POINTS = tuple(f"{when} {verb}" for verb in VERBS for when in ("before", "after"))


def arm(file: Path, point: str, passes: int) -> None:
    """Have the operator that reads `file` kill itself when it has passed the point so often."""
    disarm(file)
    new = file.with_suffix(".new")
    new.write_text(json.dumps([point, passes]))
    new.rename(file)


def disarm(file: Path) -> bool:
    """Arm nothing. Returns whether what was armed had struck."""
    struck = _struck(file)
    file.unlink(missing_ok=True)
    hit = struck.exists()
    struck.unlink(missing_ok=True)
    return hit


def has_struck(file: Path) -> bool:
    return _struck(file).exists()


def _struck(file: Path) -> Path:
    return file.with_suffix(".struck")


class _Points:
    """The process's own view of the file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()  # engine verbs pass in threads
        self._armed = ""
        self._passed = 0

    def reach(self, point: str) -> None:
        with self._lock:
            try:
                armed = self._file.read_text()
            except FileNotFoundError:
                return
            if armed != self._armed:
                self._armed, self._passed = armed, 0
            wanted, passes = json.loads(armed)
            if wanted != point:
                return
            self._passed += 1
            if self._passed <= passes:
                return
            self._file.rename(_struck(self._file))
            os.kill(os.getpid(), signal.SIGKILL)
            while True:  # not one step further while the signal is on its way
                time.sleep(1)


def wrap(points: _Points) -> None:
    """Put the points around the verbs of the two classes."""
    for method, verb in _ENGINE.items():
        _around(DockerEngine, method, _always(verb), points)
    for method, verbs in _API.items():
        _around(KubeApi, method, _API_NAMES.get(method, _always(verbs[0])), points)


def _always(verb: str) -> Callable[..., str]:
    return lambda *_: verb


def _metadata_verb(*arguments: Any) -> str:
    changes = arguments[-1]
    if "finalizers" not in changes:
        return "label"
    return "claim" if names.FINALIZER in (changes["finalizers"] or ()) else "release"


def _status_verb(*arguments: Any) -> str:
    changes = arguments[-1]
    if changes.get("phase") == "DELETING":
        return "tell-deleting"
    return "tell-pausing" if changes.get("pausing") else "tell"


_API_NAMES: dict[str, Callable[..., str]] = {
    "patch_metadata": _metadata_verb,
    "patch_status": _status_verb,
}


def _around(owner: type, method: str, verb_of: Callable[..., str], points: _Points) -> None:
    original = getattr(owner, method)

    if iscoroutinefunction(original):

        @wraps(original)
        async def wrapped(*arguments: Any, **options: Any) -> Any:
            verb = verb_of(*arguments)
            points.reach(f"before {verb}")
            result = await original(*arguments, **options)
            points.reach(f"after {verb}")
            return result
    else:

        @wraps(original)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            verb = verb_of(*arguments)
            points.reach(f"before {verb}")
            result = original(*arguments, **options)
            points.reach(f"after {verb}")
            return result

    setattr(owner, method, wrapped)


if __name__ == "__main__":
    wrap(_Points(Path(os.environ[VARIABLE])))
    cli.main()
