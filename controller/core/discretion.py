"""Whether an answer repeats a secret value: an engine or an admission policy may quote its request.

Such a text is left out whole (invariant 7): cutting the value out of it would leave the forms of it
that nobody thought of, and the halves of one that was cut off.

Both the text and the values may be made to be slow to search, so none is searched for another: a
value is recognised by how each of its forms begins, which is looked up among the pieces of the
text. That takes time in proportion to the text and to the values, not to their product.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection, Iterator
from urllib.parse import quote, quote_plus

import re2

WITHHELD = "its answer is left out, because it repeats a secret value"

MIN_LENGTH = 6
"""Shorter values are in many texts by chance, and are no secret to anybody."""
MAX_TEXT = 4096
"""A longer text counts as one that repeats a secret: what it holds is not looked for."""

_BEGINNING = 24
"""So many characters of a form are recognised as it."""
_PIECE = 12
"""So long a run of letters and digits is the same in every encoding."""
_HEAD = 96
"""Of a value so much is encoded: no encoding makes fewer than _BEGINNING characters of it."""
_PIECES = re2.compile(rf"[A-Za-z0-9]{{{_PIECE}}}")


def repeats(text: str, secrets: Collection[str]) -> bool:
    """Whether `text` holds one of the secrets, as it is, in an encoding that answers use, or, where
    its encoding is another, so long a piece of it that no encoding changes. How such a form begins
    is enough. Where the text is longer than MAX_TEXT it does, unless there are no secrets."""
    values = [value for value in secrets if len(value) >= MIN_LENGTH]
    if not values:
        return False
    if len(text) > MAX_TEXT:
        return True
    grams: dict[int, set[str]] = {}
    for value in values:
        for form in _forms(value):
            size = len(form)
            if size not in grams:
                grams[size] = {text[at : at + size] for at in range(len(text) - size + 1)}
            if form in grams[size]:
                return True
    return False


def _forms(value: str) -> Iterator[str]:
    """How each form of `value` begins, in MIN_LENGTH to _BEGINNING characters."""
    for form in _encoded(value[:_HEAD]):
        if len(form) >= MIN_LENGTH:
            yield form[:_BEGINNING]
    in_one_line = " ".join(value.split(None, _BEGINNING)[:_BEGINNING])  # as messages are put
    if len(in_one_line) >= MIN_LENGTH:
        yield in_one_line[:_BEGINNING]
    text = value.encode(errors="replace").decode()  # re2 takes no lone surrogates
    yield from _PIECES.findall(text)


def _encoded(head: str) -> Iterator[str]:
    raw = head.encode(errors="replace")
    escaped = json.dumps(head, ensure_ascii=False)[1:-1]
    of_go = escaped  # whose JSON is safe to put into HTML
    for character in "<>&\u2028\u2029":
        of_go = of_go.replace(character, f"\\u{ord(character):04x}")
    yield head
    represented = repr(head)[1:-1].replace("\\'", "'")
    yield represented
    yield represented.replace("'", "\\'")  # it depends on the rest whether it is escaped
    yield escaped
    yield json.dumps(head)[1:-1]
    yield of_go
    yield json.dumps(escaped)[1:-1]
    yield quote(raw, safe="")
    yield quote(raw)
    yield quote_plus(raw)
    yield b64encode(raw).decode().rstrip("=")
    yield urlsafe_b64encode(raw).decode().rstrip("=")
