"""How big things may be that a Sandbox, its Secrets or its image bring; docs/limits.md has all.

Bytes are those of UTF-8: a character has up to four.
"""

from __future__ import annotations

MAX_ENVIRONMENT_BYTES = 262_144
"""Of command, arguments and environment of one container together. The names of spec.env do not
count (there are 256 of 253 characters at the most); those that envFrom and an image bring do.
execve takes a quarter of the stack's limit for all, 2 MiB as a rule."""

MAX_STRING_BYTES = 131_071
"""Of one argument, or one variable with its name and '='. execve's MAX_ARG_STRLEN is 128 KiB with
the NUL at the end."""

MAX_VARIABLES = 4096
"""Entries that spec.envFrom and spec.env bring together, those that a later one replaces included.
"""

BULKY = 16_384
"""Bytes of memory, estimated: what of a spec is needed for creating a container alone is kept up to
here, and read again where it is more."""

_PER_VALUE = 100
"""What a small text, list or object takes in Python beside its content."""


def size(text: str) -> int:
    """Bytes of UTF-8."""
    # An unpaired surrogate cannot be sent, but must not raise here.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def memory(value: object) -> int:
    """Bytes of memory that JSON takes in Python: an estimate, for telling big from small."""
    total, pending = 0, [value]
    while pending:
        found = pending.pop()
        total += _PER_VALUE
        if isinstance(found, str):
            total += len(found) if found.isascii() else 4 * len(found)
        elif isinstance(found, dict):
            pending += found
            pending += found.values()
        elif isinstance(found, list):
            pending += found
    return total
