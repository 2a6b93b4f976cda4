"""Patterns as in a shell (`registry.example/team/*`), matched in linear time.

fnmatch makes a backtracking pattern of them, and the text is a tenant's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2


def matches(text: str, pattern: str) -> bool:
    """Whether all of `text` fits `pattern`: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`, case counts."""
    try:
        return _compiled(pattern).fullmatch(text) is not None
    except UnicodeEncodeError:  # a lone surrogate is no text
        return False


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[" and (end := _end_of_set(pattern, at)) > 0:
            parts.append(_set(pattern[at:end]))
            at = end + 1
        else:
            parts.append(re2.escape(character))
    return re2.compile(f"(?s){''.join(parts)}")


def _end_of_set(pattern: str, at: int) -> int:
    """Where the set that begins at `at` ends, or -1. A `]` that comes first is in it."""
    return pattern.find("]", at + 1 + pattern.startswith("!", at))


def _set(inside: str) -> str:
    negated = inside.startswith("!")
    left = inside[negated:]
    parts: list[str] = []
    while left:
        if len(left) > 2 and left[1] == "-":
            if left[0] <= left[2]:  # else it is a range of nothing
                parts.append(f"{_literal(left[0])}-{_literal(left[2])}")
            left = left[3:]
        else:
            parts.append(_literal(left[0]))
            left = left[1:]
    if not parts:
        return "." if negated else r"[^\x00-\x{10FFFF}]"
    return f"[{'^' if negated else ''}{''.join(parts)}]"


def _literal(character: str) -> str:
    return rf"\x{{{ord(character):X}}}"
