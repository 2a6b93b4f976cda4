"""Trees with symlinks, followed as the kernel does."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from controller.engines.rootpaths import UnsafePath

LINKS = 40
"""What Linux follows at most."""


def follow(path: str, link: Callable[[str], str | None]) -> str:
    """Where a path leads in the scope of the root. `link` has the text of a symlink, or None."""
    todo, current, links = path.split("/"), "/", 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            current = posixpath.dirname(current)
            continue
        there = posixpath.join(current, part)
        target = link(there)
        if target is None:
            current = there
            continue
        links += 1
        if links > LINKS:
            raise UnsafePath("has a loop")
        current = "/" if target.startswith("/") else current
        todo = [*target.split("/"), *todo]
    return current
