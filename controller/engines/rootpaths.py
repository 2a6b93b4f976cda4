"""Where paths lead inside a container's root, which is hostile before and after it ran.

The engine and its runtime resolve some paths inside that root while they prepare a start, with the
rights of the host: mount targets, the working directory, their own mount points. A symlink there
can lead one of them to /dev or /proc, and what the runtime opens next is the host's (CVE-2025-31133
and its family). `Root` resolves such paths as the kernel would, by asking for one part after the
other, and `check` refuses what must not be used. Pure: the caller says how to ask.

    rules   mount targets       not the root, not /dev, /proc, /sys, not a file the engine mounts
            working directory   not /dev, /proc, /sys
            the engine's own    /dev, /proc, /sys are themselves; its files lead to none of them
            all of them         no way through /dev, /proc or /sys either: what is there now is
                                hidden by then, so a link through it leads elsewhere
            together            no mount hides a link that another's way, or its own, goes through

A stopped container's root does not change, so a check before its start has no race.

The last rule needs an argument. The engine mounts one volume after the other, those with fewer
parts first, and what can be asked is the root with all of them in place. There a volume may hide a
link: mounted at /d/d while /d/d leads to /d, it shows what its tenant has put there instead of /d,
and a volume at /d/l, mounted before, is where /d/l led to then. So `check_together` asks whether
something is mounted right at each place that the paths lead to. If so, with as many places as
mounts, nothing is mounted anywhere else. And it allows no mount on another's way but one that is
where its own path says, and has fewer parts. If the way of some mount was another when it was
mounted, then because of a mount on that way which came later; the one that belongs there, with
fewer parts, went another way itself then, and so on with ever fewer parts: so there is none, and
the ways are what can be asked.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from controller.core.plaintext import visible
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

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.path = path


class Astray(UnsafePath):
    """A path that leads to `at`, which is among what the kernel shows."""

    def __init__(self, at: str) -> None:
        super().__init__(f"leads to {_shown(at)}")
        self.at = at


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path whose directory part needs no resolving."""

    link: str | None = None
    """The text of a symlink, as it is; None for anything else."""
    directory: bool = True


Ask = Callable[[str], Entry | None]
"""What is at a path; None where nothing is. Raises UnsafePath where that cannot be said."""


class Root:
    """The root of one container that does not run. Every path is asked for once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, Entry | None] = {}
        self._ways: dict[str, tuple[str, ...]] = {}

    @property
    def visited(self) -> Collection[str]:
        """All paths that were asked for: what they led to holds while none of them changes."""
        return self._known.keys()

    def resolve(self, path: str) -> str:
        """The absolute path that `path` leads to; parts that do not exist are kept as they are.

        Raises Astray where it leads into or through /dev, /proc or /sys, and UnsafePath where that
        cannot be said within the bounds.
        """
        todo = _parts(path)
        current, links = "/", 0
        way: list[str] = []
        while todo:
            part = todo.pop(0)
            if part == "..":
                current = posixpath.dirname(current)
                continue
            there = posixpath.join(current, part)
            way.append(there)
            if there in KERNEL:
                raise Astray(posixpath.join(there, *todo))
            entry = self.entry(there)
            if entry is None or entry.link is None:
                if todo and ".." in todo and entry is None:
                    raise UnsafePath("goes back from a directory that does not exist")
                if todo and entry is not None and not entry.directory:
                    raise UnsafePath(f"{_leads(path, there)}, which is no directory")
                current = there
                continue
            links += 1
            if links > MAX_LINKS:
                raise UnsafePath(f"goes through more than {MAX_LINKS} symbolic links")
            if entry.link.startswith("/"):
                current = "/"
            todo = [*_parts(entry.link), *todo]
        self._ways[path] = tuple(way)
        return current

    def way(self, path: str) -> tuple[str, ...]:
        """What was asked for to resolve `path`, which `resolve` has done."""
        return self._ways[path]

    def entry(self, path: str) -> Entry | None:
        """What is at a path whose directory part is resolved. Raises UnsafePath."""
        if path not in self._known:
            if len(self._known) >= MAX_QUESTIONS:
                raise UnsafePath(f"and the others have more than {MAX_QUESTIONS} parts together")
            self._known[path] = self._ask(path)
        return self._known[path]


def check_engine(root: Root) -> tuple[str, ...]:
    """The engine's own mount points. Returns where its files are. Raises UnsafePath."""
    for path in KERNEL:
        entry = root.entry(path)
        if entry is not None and (entry.link is not None or not entry.directory):
            raise UnsafePath(f"has no directory at {path}, where the engine mounts its own")
    files = []
    for path in ENGINE_FILES:
        try:
            real = root.resolve(path)
        except Astray as astray:
            real = astray.at
        if real == "/" or _within(real, KERNEL):
            raise UnsafePath(f"leads {path}, which the engine mounts or makes, to {_shown(real)}")
        files.append(real)
    return tuple(files)


def check_mount(root: Root, path: str, engine_files: Iterable[str] = ()) -> str:
    """A mount target. Returns where it is. Raises UnsafePath."""
    own = {*ENGINE_FILES, *engine_files}
    try:
        real = root.resolve(path)
    except Astray as astray:
        raise UnsafePath(
            f"{_leads(path, astray.at)}, where the kernel and its devices show: mount it elsewhere"
        ) from None
    for at in dict.fromkeys((posixpath.normpath(path), real)):
        if at in ("/", "//"):
            raise UnsafePath(f"{_leads(path, '/')}, the root itself: mount it elsewhere")
        if _within(at, own):
            raise UnsafePath(
                f"{_leads(path, at)}, a file that the engine mounts itself: mount it elsewhere"
            )
    # The engine's files are mounted among the volumes. One below a volume that is where its path
    # says comes after it; of any other, what this root shows may not be what the engine meets.
    if real != posixpath.normpath(path) and any(_within(file, [real]) for file in own):
        raise UnsafePath(f"{_leads(path, real)}, where the engine mounts files: mount it elsewhere")
    return real


def check_together(
    root: Root, places: Mapping[str, str], is_mount: Callable[[str], bool] | None
) -> None:
    """All mount targets, each with the place that `check_mount` found. `is_mount` says whether
    something is mounted right at a directory; None where no volume can hide anything, since each
    shows what it hides. Raises UnsafePath, whose `path` is the one at fault."""
    for path, real in places.items():
        for other, at in places.items():
            if other != path and at == real:
                raise UnsafePath(f"{_shown(path)} and {_shown(other)} lead to one place", path)
            plain = at == posixpath.normpath(other) and at.count("/") < _depth(path)
            on_the_way = any(place != at and _within(place, [at]) for place in root.way(path))
            if on_the_way and (other == path or not plain):
                raise UnsafePath(
                    f"{_shown(path)} leads through {_shown(at)}, where {_shown(other)} leads to:"
                    " mount it elsewhere",
                    path,
                )
    if is_mount is None:
        return
    for path, real in places.items():
        entry = root.entry(real)
        directory = entry is not None and entry.link is None and entry.directory
        if not directory or not is_mount(real):
            raise UnsafePath(
                f"{_shown(path)} would be mounted elsewhere: a volume hides a symbolic link on the"
                " way to it. Mount it elsewhere",
                path,
            )


def check_working_directory(root: Root, path: str) -> None:
    """Where the main process starts. Raises UnsafePath."""
    if ".." in path.split("/"):
        raise UnsafePath("holds '..': name the directory itself")
    try:
        root.resolve(path)
    except Astray as astray:
        raise UnsafePath(
            f"{_leads(path, astray.at)}, where the kernel and its devices show: start elsewhere"
        ) from None


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


def _depth(path: str) -> int:
    return posixpath.normpath(path).count("/")


def _within(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _leads(path: str, to: str) -> str:
    if posixpath.normpath(path) == to:
        return f"{_shown(path)} is in {_shown(to)}" if path != to else f"is {_shown(to)}"
    return f"{_shown(path)} leads to {_shown(to)} inside the container"


def _shown(path: str) -> str:
    text = visible(path)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
