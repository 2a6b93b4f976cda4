"""Where paths lead inside a container's root, which is hostile before and after it ran.

The engine and its runtime resolve some paths inside that root while they prepare a start, with the
rights of the host: mount targets, the working directory, their own mount points. A symlink there
can lead one of them to /dev or /proc, and what the runtime opens next is the host's (CVE-2025-31133
and its family). `Root` resolves such paths as the kernel would, by asking for one part after the
other, and `check` refuses what must not be used. Pure: whoever calls it says how to ask.

    rules   mount targets       not the root, not /dev, /proc, /sys, not a file the engine mounts
            working directory   not /dev, /proc, /sys
            the engine's own    /dev, /proc, /sys are themselves; its files lead to none of them

A stopped container's root does not change, so a check before its start has no race.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from controller.core.resources import ENGINE_FILES
from controller.core.resources import KERNEL_PATHS as KERNEL

MAX_PARTS = 32
"""Of one path. Each part is a question to the engine."""
MAX_LINKS = 16
"""Followed for one path; the kernel follows 40."""
MAX_QUESTIONS = 320
"""For one container: each takes the engine some milliseconds."""
_MAX_LENGTH = 4096
"""PATH_MAX of Linux."""
_SHOWN = 128


class UnsafePath(Exception):
    """A path that must not be used. `why` completes a sentence that begins with the field."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path whose directory part needs no resolving: `link` is the target of a symlink,
    absolute or relative to the directory; None for anything else."""

    link: str | None = None


Ask = Callable[[str], Entry | None]
"""What is at a path; None where nothing is. Raises UnsafePath where that cannot be said."""


class Root:
    """The root of one container that does not run. Every path is asked for once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, Entry | None] = {}

    @property
    def visited(self) -> Collection[str]:
        """All paths that were asked for: what they led to holds while none of them changes."""
        return self._known.keys()

    def resolve(self, path: str) -> str:
        """The absolute path that `path` leads to; parts that do not exist are kept as they are.

        Raises UnsafePath where it cannot be told within the bounds.
        """
        todo = _parts(path)
        current, links = "/", 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                current = posixpath.dirname(current)
                continue
            there = posixpath.join(current, part)
            entry = self._entry(there)
            if entry is None or entry.link is None:
                current = there
                continue
            links += 1
            if links > MAX_LINKS:
                raise UnsafePath(f"goes through more than {MAX_LINKS} symbolic links")
            if entry.link.startswith("/"):
                current = "/"
            todo = [*_parts(entry.link), *todo]
        return current

    def _entry(self, path: str) -> Entry | None:
        if path not in self._known:
            if len(self._known) >= MAX_QUESTIONS:
                raise UnsafePath(f"and the others have more than {MAX_QUESTIONS} parts together")
            self._known[path] = self._ask(path)
        return self._known[path]


def check_engine(root: Root) -> tuple[str, ...]:
    """The engine's own mount points. Returns where its files are. Raises UnsafePath."""
    for path in KERNEL:
        if root.resolve(path) != path:
            raise UnsafePath(f"has a symbolic link at {path}, where the engine mounts its own")
    files = []
    for path in ENGINE_FILES:
        real = root.resolve(path)
        if real == "/" or _within(real, KERNEL):
            raise UnsafePath(f"leads {path}, which the engine mounts or makes, to {_shown(real)}")
        files.append(real)
    return tuple(files)


def check_mount(root: Root, path: str, engine_files: Iterable[str] = ()) -> str:
    """A mount target. Returns where it is. Raises UnsafePath."""
    real = root.resolve(path)
    own = {*ENGINE_FILES, *engine_files}
    for at in dict.fromkeys((posixpath.normpath(path), real)):
        if at in ("/", "//"):
            raise UnsafePath(f"{_leads(path, '/')}, the root itself: mount it elsewhere")
        if _within(at, KERNEL):
            raise UnsafePath(
                f"{_leads(path, at)}, where the kernel and its devices show: mount it elsewhere"
            )
        if _within(at, own):
            raise UnsafePath(
                f"{_leads(path, at)}, a file that the engine mounts itself: mount it elsewhere"
            )
    return real


def check_working_directory(root: Root, path: str) -> None:
    """Where the main process starts. Raises UnsafePath."""
    if ".." in path.split("/"):
        raise UnsafePath("holds '..': name the directory itself")
    real = root.resolve(path)
    for at in (posixpath.normpath(path), real):
        if _within(at, KERNEL):
            raise UnsafePath(
                f"{_leads(path, at)}, where the kernel and its devices show: start elsewhere"
            )


def disturbs(mounts: Iterable[str], visited: Collection[str]) -> bool:
    """Whether something mounted at `mounts` (resolved) changes what `visited` showed."""
    return any(_within(path, [mount]) for mount in mounts for path in visited)


def _parts(path: str) -> list[str]:
    if len(path) > _MAX_LENGTH or "\0" in path:
        raise UnsafePath(f"holds or leads to a path of more than {_MAX_LENGTH} characters")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if len(parts) > MAX_PARTS:
        raise UnsafePath(f"holds or leads to a path of more than {MAX_PARTS} parts")
    return parts


def _within(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _leads(path: str, to: str) -> str:
    if posixpath.normpath(path) == to:
        return f"{_shown(path)} is in {_shown(to)}" if path != to else f"is {_shown(to)}"
    return f"{_shown(path)} leads to {_shown(to)} inside the container"


def _shown(path: str) -> str:
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
