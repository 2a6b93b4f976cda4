"""The session key and its Secret: made, found again, rewritten, deleted; never logged.

The Secret is named by the operator and carries the Sandbox's UID. One of that name without the
UID is someone else's: never read, used or deleted.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from dataclasses import dataclass, field

from controller.core import names
from controller.core.reasons import Reason
from controller.core.resources import ObjectMeta
from controller.kube.api import Conflict, Forbidden, KubeApi, NotFound

MIN_LENGTH = 32
"""Shorter keys are refused: a lookup by their hash must not be guessable."""


class KeyRefused(Exception):
    """The Secret cannot be had; says why. Never carries a key."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A Secret of ours."""

    uid: str
    key: str | None = field(repr=False)


def generate() -> str:
    """A new key: 256 random bits, 43 characters that are safe in headers and environments."""
    return secrets.token_urlsafe(32)


async def find(api: KubeApi, meta: ObjectMeta) -> StoredKey | None:
    """The generated Secret of this Sandbox; None where there is none.

    Raises KeyRefused where the name is another's, ApiError.
    """
    name = names.secret_name(meta.name)
    try:
        secret = await api.get_secret(meta.namespace, name)
    except NotFound:
        return None
    labels = secret["metadata"].get("labels") or {}
    if labels.get(names.UID_LABEL) != meta.uid:
        raise KeyRefused(
            Reason.SECRET_NAME_TAKEN,
            f"a Secret named {name} exists that is not this Sandbox's; delete or rename it, or "
            "use sessionKey.mode SecretRef",
        )
    return StoredKey(secret["metadata"]["uid"], entry(secret, names.SECRET_KEY))


async def store(api: KubeApi, meta: ObjectMeta, key: str) -> StoredKey:
    """Create the Secret with this key, or find the one that an earlier attempt created.

    Raises KeyRefused, ApiError.
    """
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": names.secret_name(meta.name),
            "namespace": meta.namespace,
            "labels": {names.UID_LABEL: meta.uid, names.NAME_LABEL: meta.name},
            # A second net under the finalizer, for when the operator is gone for good.
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": meta.name,
                    "uid": meta.uid,
                }
            ],
        },
        "data": {names.SECRET_KEY: base64.b64encode(key.encode()).decode()},
    }
    try:
        created = await api.create_secret(meta.namespace, secret)
    except Conflict:
        found = await find(api, meta)
        if found is None:
            raise  # it went between the two calls: the next attempt will tell
        return found
    except Forbidden as error:
        if "being terminated" in str(error):
            raise KeyRefused(
                Reason.NAMESPACE_TERMINATING,
                f"namespace {meta.namespace} is being deleted: nothing is created in it",
            ) from None
        raise
    return StoredKey(created["metadata"]["uid"], key)


async def delete(api: KubeApi, meta: ObjectMeta, secret_uid: str | None) -> None:
    """Delete the generated Secret if it is there and ours. Raises ApiError."""
    name = names.secret_name(meta.name)
    if secret_uid is not None:
        try:
            await api.delete_secret(meta.namespace, name, secret_uid)
        except NotFound:
            return
        except Conflict:
            pass  # another of the same name; ours too, perhaps: it is looked at
        else:
            return
    try:
        found = await find(api, meta)
    except KeyRefused:
        return
    if found is not None:
        with contextlib.suppress(NotFound):
            await api.delete_secret(meta.namespace, name, found.uid)


def entry(secret: dict[str, object], key: str) -> str | None:
    """One entry of a Secret, decoded; None where it is absent or no UTF-8."""
    data = secret.get("data")
    value = data.get(key) if isinstance(data, dict) else None
    return decoded(value) if isinstance(value, str) else None


def decoded(value: str) -> str | None:
    """A value of a Secret's data; None where it is no UTF-8."""
    try:
        return base64.b64decode(value).decode()
    except ValueError:
        return None
