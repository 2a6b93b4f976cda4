"""Whether an answer repeats a secret value: an engine or an admission policy may quote its request.

Such a text is left out whole (invariant 7): cutting the value out of it would leave the forms of it
that nobody thought of, and the halves of one that was cut off.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection
from urllib.parse import quote, quote_plus

WITHHELD = "its answer is left out, because it repeats a secret value"

MIN_LENGTH = 6
"""Shorter values are in many texts by chance, and are no secret to anybody."""


_PIECES = re.compile(r"[A-Za-z0-9]{12,}")


def repeats(text: str, secrets: Collection[str]) -> bool:
    """Whether `text` holds one of the secrets, as it is, in an encoding that answers use, or, where
    its encoding is another, so long a piece of it that no encoding changes."""
    return any(
        form in text for value in secrets if len(value) >= MIN_LENGTH for form in _forms(value)
    )


def _forms(value: str) -> set[str]:
    raw = value.encode()
    escaped = json.dumps(value, ensure_ascii=False)[1:-1]
    of_go = escaped  # whose JSON is safe to put into HTML
    for character in "<>&\u2028\u2029":
        of_go = of_go.replace(character, f"\\u{ord(character):04x}")
    return {
        value,
        *_PIECES.findall(value),
        " ".join(value.split()),  # in one line, as messages are put
        repr(value)[1:-1],
        escaped,
        json.dumps(value)[1:-1],
        of_go,
        json.dumps(escaped)[1:-1],
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        b64encode(raw).decode().rstrip("="),
        urlsafe_b64encode(raw).decode().rstrip("="),
    }
