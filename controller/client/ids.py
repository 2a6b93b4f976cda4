"""An application's id of a sandbox <-> the name of its object. Any text is an id.

| id                                                        | object's name                      |
|-----------------------------------------------------------|------------------------------------|
| a DNS label of <= 52 characters, not starting with `id-`  | the id itself                      |
| any other of 1 to 37 bytes                                | `id-` + lower-case base32 of it    |
| any other                                                 | `id-` + lower-case base32 of its   |
|                                                           | SHA-256; the id is in ID_ANNOTATION|

Base32 without padding; an id's bytes are its UTF-8. A name has at most 63 characters, so that it
is a label value. 32 bytes can look like a SHA-256, which is why every read asks `id_of` whether
the object that it found is the one it asked for.
"""

import base64
import hashlib
from collections.abc import Mapping

import re2

from controller.core.names import ID_ANNOTATION

PREFIX = "id-"
MAX_NAME = 63
_PLAIN = re2.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")


def object_name(sandbox_id: str) -> str:
    """The name of the object that this id belongs to. Defined for every str; raises nothing."""
    if _is_plain(sandbox_id):
        return sandbox_id
    # A lone surrogate is no text, but asking for it must find nothing rather than fail.
    data = sandbox_id.encode("utf-8", "surrogatepass")
    encoded = PREFIX + _base32(data)
    if data and len(encoded) <= MAX_NAME:
        return encoded
    return PREFIX + _base32(hashlib.sha256(data).digest())


def _is_plain(sandbox_id: str) -> bool:
    # re2 takes no lone surrogate, which isascii rules out.
    return (
        len(sandbox_id) <= MAX_NAME
        and sandbox_id.isascii()
        and not sandbox_id.startswith(PREFIX)
        and _PLAIN.fullmatch(sandbox_id) is not None
    )


def annotations_of(sandbox_id: str) -> dict[str, str]:
    """What an object must be annotated with at its creation, so that its id can be read back."""
    return {} if id_of(object_name(sandbox_id), {}) == sandbox_id else {ID_ANNOTATION: sandbox_id}


def id_of(name: str, annotations: Mapping[str, str]) -> str | None:
    """The id of the object with this name and these annotations.

    None where no id leads to it: an object made by other means and named outside the rule.
    """
    noted = annotations.get(ID_ANNOTATION)
    candidate = noted if noted is not None else _decode(name)
    return candidate if candidate is not None and object_name(candidate) == name else None


def _decode(name: str) -> str | None:
    if not name.startswith(PREFIX):
        return name
    text = name.removeprefix(PREFIX).upper()
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8)).decode("utf-8", "surrogatepass")
    except ValueError:
        return None


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
