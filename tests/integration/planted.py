"""Recognisable secrets, and the search for them.

`plant` makes one; `Search` finds any of them in a text in every form that texts put values into,
whole or cut off. tests/unit/test_planted.py shows that it does.
"""

from __future__ import annotations

import json
import re
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

WINDOW = 12
"""Characters of a secret in a row that count as it: a message may be cut off in the middle of one.
Of a random value that is past all chance."""


def plant(what: str) -> str:
    """A value that is nowhere by chance, with characters that encodings change."""
    assert len(what) < WINDOW, "what is in many texts must not be taken for a piece of the value"
    return f'{what}/{uuid.uuid4().hex}+&<"{uuid.uuid4().hex}\\=é'


class Search:
    """Looks for secrets, given by what they are."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._forms = {
            (what, form): text
            for what, value in secrets.items()
            for form, text in _forms(value)
            if text
        }

    def found(self, text: str) -> set[str]:
        """Which secrets are in `text`, and how: "the key, as base64"."""
        return {f"{what}, {form}" for (what, form), part in self._forms.items() if part in text}


def _forms(value: str) -> Iterator[tuple[str, str]]:
    yield "raw", value
    yield "URL-quoted", quote(value)
    yield "URL-quoted", quote(value, safe="")
    yield "as a form's field", quote_plus(value)
    yield "as JSON", json.dumps(value)[1:-1]
    yield "as JSON in UTF-8", json.dumps(value, ensure_ascii=False)[1:-1]
    yield "as JSON in JSON", json.dumps(json.dumps(value)[1:-1])[1:-1]
    yield "as repr", repr(value)[1:-1]
    yield "as hexadecimal", value.encode().hex()
    yield "backwards", value[::-1]
    for shift in range(3):
        # In a longer text that is encoded, a value begins at any of three places of base64's four.
        encoded = b64encode(b"\0" * shift + value.encode()).decode()
        whole = encoded[4 if shift else 0 :].rstrip("=")[:-1]
        yield f"as base64, shifted by {shift}", whole
        yield f"as base64 for URLs, shifted by {shift}", whole.translate(_FOR_URLS)
    for start in range(len(value) - WINDOW + 1):
        piece = value[start : start + WINDOW]
        if _PLAIN.fullmatch(piece):
            yield f"{WINDOW} characters of it from {start} on", piece


_PLAIN = re.compile(r"[-_A-Za-z0-9]+")
_FOR_URLS = str.maketrans("+/", "-_")
