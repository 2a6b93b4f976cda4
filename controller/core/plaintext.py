"""Foreign text made fit to be shown: in messages, Events, columns, logs and every text of a status.

    visible(text)          the text with something to be seen for every character
    one_line(text, limit)  the same as one bounded line, for people
    in_url(path)           the same for a path of a URL, which stays the same path
    SEEN, NOT_HIDDEN       what the schema of a user's field asks for, as RE2 patterns

Not seen are the Unicode categories C* (controls, formats such as bidi and zero-width characters,
surrogates, private and unassigned ones), separators other than the plain space, and the characters
of other categories that Unicode says to draw as nothing (Default_Ignorable_Code_Point) or that
look like a space. They let a text pass for another, or command a terminal.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

MESSAGE_LENGTH = 8192
"""Characters of a condition's message at most."""

_BLANKS = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2800, 0x2800),  # braille pattern blank
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xFFFC, 0xFFFC),  # object replacement
    (0x1D159, 0x1D159),  # musical symbol null notehead
    (0xE0000, 0xE0FFF),  # tags, variation selectors, and what is kept free for more of them
)
_RANGES = "".join(
    rf"\x{{{first:X}}}" if first == last else rf"\x{{{first:X}}}-\x{{{last:X}}}"
    for first, last in _BLANKS
)
NOT_HIDDEN = rf"^[^\p{{Cc}}\p{{Cf}}\p{{Co}}\p{{Zl}}\p{{Zp}}{_RANGES}]*$"
"""No engine of patterns has all of this: Go's lacks Cn, Rust's Cs, so SEEN says it by inversion."""
SEEN = r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$"


def visible(text: str) -> str:
    """`text` with U+FFFD, or a space, in place of each character that is hidden.

    Replaced, not left out: without it a name could read as another's.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def one_line(text: str, limit: int = MESSAGE_LENGTH) -> str:
    """The same as one line of at most `limit` characters, however long `text` is."""
    text = visible(text[: limit + 1])  # one more than fits, so that it shows what is cut off
    if "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def in_url(path: str, limit: int = 1024) -> str:
    """A path with what is hidden percent-encoded: it stays the same path, if it fits."""
    if path.isascii() and path.isprintable():
        return path
    shown = visible(path)
    encoded = "".join(
        is_ if is_ == was else quote(was, errors="replace")
        for was, is_ in zip(path, shown, strict=True)
    )
    return encoded if len(encoded) <= limit else shown


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    if category[0] == "C":
        return "\ufffd"
    code = ord(character)
    if code >= _BLANKS[0][0] and any(first <= code <= last for first, last in _BLANKS):
        return "\ufffd"
    return character
