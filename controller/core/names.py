"""Every name and label that the operator gives to anything, formatted in this one place."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

GROUP = "sandbox.openhands.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
PLURAL = "sandboxes"
KIND = "Sandbox"

FINALIZER = f"{GROUP}/engine-cleanup"
FIELD_MANAGER = "sandbox-operator"

# Annotations and labels on the Sandbox object.
RESUME_REQUESTED_AT = f"{GROUP}/resume-requested-at"
ID_ANNOTATION = f"{GROUP}/sandbox-id"
"""The application's id of the sandbox, where the object's name does not hold it."""
NAME_LABEL = f"{GROUP}/name"
KEY_HASH_LABEL = f"{GROUP}/key-sha256"

# Labels on engine objects (and, UID_LABEL, on the generated Secret). Docker's labels never change,
# so whatever a later step needs to know is here from creation on.
OWNER_LABEL = f"{GROUP}/operator"
UID_LABEL = f"{GROUP}/uid"
NAMESPACE_LABEL = f"{GROUP}/namespace"
SANDBOX_LABEL = f"{GROUP}/name"
SPEC_HASH_LABEL = f"{GROUP}/spec-hash"
STOP_GRACE_LABEL = f"{GROUP}/stop-grace-seconds"
RECLAIM_LABEL = f"{GROUP}/reclaim-policy"
VOLUME_LABEL = f"{GROUP}/volume"

SECRET_KEY = "session-api-key"  # noqa: S105 - the entry's name, not a key
"""The entry of the generated Secret that holds the session key."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who an engine object belongs to: one operator instance of one cluster (invariant 9)."""

    cluster_uid: str
    """UID of the namespace kube-system."""
    instance: str
    """The setting `instance_name`."""

    @property
    def label(self) -> str:
        return f"{self.cluster_uid}.{self.instance}"


def container_name(owner: Owner, uid: str) -> str:
    """A function of the full UID, so that the engine itself refuses a second container.

    Docker's DNS gives every container of a network the names of its neighbours by their addresses:
    one way, then, and of 128 bits. The cluster's UID goes in, which someone with rights in a
    namespace of their own cannot read: who knows another's Sandbox UID cannot ask for its address
    either. No key that could be lost, since the name must be the same after every restart; and not
    the instance, so that two operators of one cluster never make two containers of one Sandbox.
    """
    text = f"container\0{owner.cluster_uid}\0{uid}"
    return f"sbx-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def former_container_name(uid: str) -> str:
    """What earlier versions named it: such a container is as much ours."""
    return f"sbx-{uid}"


def volume_name(uid: str, volume: str) -> str:
    return f"sbx-{uid}-{volume}"


def network_name(owner: Owner) -> str:
    """The operator's own bridge; 12 hex digits of SHA-256 keep it short and distinct."""
    return f"sbx-{hashlib.sha256(owner.label.encode()).hexdigest()[:12]}"


def secret_name(sandbox: str) -> str:
    return f"{sandbox}-session-key"


def key_hash(key: str) -> str:
    """Base32 of SHA-256 of a session key: 52 characters, so a label value."""
    return base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().rstrip("=")
