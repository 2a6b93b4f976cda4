"""Session keys, read from the Secret that a Sandbox's status names. Never kept, never logged."""

from __future__ import annotations

import base64
import hmac

from controller.client.api import Api
from controller.client.errors import SandboxForbidden
from controller.client.models import SandboxStatus
from controller.client.objects import Object, status

TOLD = frozenset({SandboxStatus.RUNNING, SandboxStatus.ERROR})
"""In STARTING and PAUSED nothing answers to the key; in MISSING nothing is there. In ERROR the
process may live (NotReady), and the key is what to look into it with."""


async def key_of(api: Api, obj: Object) -> str | None:
    """The session key, where there is one to tell and the caller may read it."""
    if status(obj) not in TOLD:
        return None
    try:
        stored = await _stored(api, obj)
    except SandboxForbidden:
        return None
    return stored.decode() if stored is not None and stored.isascii() else None


async def belongs(api: Api, obj: Object, key: str) -> bool:
    """Whether `key`, of ASCII, is this Sandbox's, whatever its phase; compared in constant time.

    The label that led here is no proof: whoever writes the object writes it. Raises
    SandboxForbidden where the caller may not read the Secret.
    """
    stored = await _stored(api, obj)
    return stored is not None and hmac.compare_digest(stored, key.encode("ascii"))


async def _stored(api: Api, obj: Object) -> bytes | None:
    """None where there is no key (yet); an empty one is none."""
    reference = (obj.get("status") or {}).get("sessionApiKeySecretRef")
    if not reference:
        return None
    secret = await api.get_secret(reference["name"])
    entry = ((secret or {}).get("data") or {}).get(reference["key"])
    return base64.b64decode(entry) or None if entry else None
