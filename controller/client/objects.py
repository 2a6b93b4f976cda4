"""A Sandbox as the API's JSON, read leniently: what a newer operator adds does no harm.

identity(obj), is_live(obj), status(obj), is_current(obj), cause(obj), info(obj, key).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.client import ids
from controller.client.models import ExposedUrl, SandboxInfo, SandboxStatus

Object = Mapping[str, Any]


def identity(obj: Object) -> str | None:
    """The id that leads to this object; None if none does."""
    metadata = obj["metadata"]
    return ids.id_of(metadata["name"], metadata.get("annotations") or {})


def status(obj: Object) -> SandboxStatus:
    """The phase; STARTING where the operator has not said anything yet."""
    if obj["metadata"].get("deletionTimestamp"):
        return SandboxStatus.DELETING
    return SandboxStatus((obj.get("status") or {}).get("phase") or SandboxStatus.STARTING.value)


def is_live(obj: Object) -> bool:
    """Whether reads show it: it is not being deleted."""
    return status(obj) is not SandboxStatus.DELETING


def is_current(obj: Object) -> bool:
    """Whether the status speaks of the present spec, not of one before a pause or a resume."""
    observed = (obj.get("status") or {}).get("observedGeneration")
    return not observed or int(observed) >= int(obj["metadata"].get("generation", 0))


def user(obj: Object) -> str | None:
    return (obj.get("spec") or {}).get("createdByUserId")


def spec_id(obj: Object) -> str:
    spec, told = obj.get("spec") or {}, obj.get("status") or {}
    template = (spec.get("templateRef") or {}).get("name")
    return str(told.get("sandboxSpecId") or template or spec.get("image") or "")


def cause(obj: Object) -> tuple[str, str]:
    """Reason and message of the condition Ready: why the phase is what it is."""
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition["type"] == "Ready":
            return condition["reason"], condition.get("message", "")
    return "Unknown", ""


def info(obj: Object, sandbox_id: str, key: str | None) -> SandboxInfo:
    """What an application sees of it."""
    urls = (obj.get("status") or {}).get("exposedUrls") or []
    return SandboxInfo(
        id=sandbox_id,
        created_by_user_id=user(obj),
        sandbox_spec_id=spec_id(obj),
        status=status(obj),
        session_api_key=key,
        exposed_urls=[ExposedUrl(name=u["name"], url=u["url"], port=u["port"]) for u in urls]
        or None,
        created_at=obj["metadata"]["creationTimestamp"],
    )
