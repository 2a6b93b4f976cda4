"""One Sandbox object as the decision reads it: whatever the API server holds, never an error.

A spec that cannot be read becomes a `problem`, so that the object can be reported on and deleted;
a status that cannot be read (someone else wrote it) counts as the part of it that can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.core import names
from controller.core.resources import InvalidResource, ObjectMeta, SandboxSpec, SandboxStatus

_MOMENT = TypeAdapter(datetime)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a Sandbox object says."""

    metadata: ObjectMeta
    spec: SandboxSpec | None
    status: SandboxStatus
    problem: InvalidResource | None = None
    """Why `spec` is None."""

    @property
    def resume_requested_at(self) -> datetime | None:
        """The annotation of that name; None where it is absent or no RFC 3339 time."""
        text = self.metadata.annotations.get(names.RESUME_REQUESTED_AT)
        try:
            moment = _MOMENT.validate_python(text)
        except ValidationError:
            return None
        return moment if moment.tzinfo is not None else None

    @classmethod
    def read(cls, obj: Mapping[str, Any], known: Subject | None = None) -> Subject:
        """Read the API's JSON. The spec of `known` is reused while uid and generation are its."""
        metadata = ObjectMeta.parse(_needed(obj["metadata"]), "metadata")
        spec: SandboxSpec | None
        problem: InvalidResource | None
        if (
            known is not None
            and known.metadata.uid == metadata.uid
            and known.metadata.generation == metadata.generation
        ):
            spec, problem = known.spec, known.problem
        else:
            spec, problem = _read_spec(obj.get("spec"))
        return cls(metadata, spec, _read_status(obj.get("status")), problem)


def _needed(metadata: object) -> object:
    """Metadata without what the decision does not read: others' labels and annotations, such as
    kubectl's copy of the whole object, would be kept in memory for nothing."""
    if not isinstance(metadata, Mapping):
        return metadata
    kept = dict(metadata)
    for field in ("labels", "annotations"):
        values = metadata.get(field)
        if isinstance(values, Mapping):
            kept[field] = {k: v for k, v in values.items() if str(k).startswith(names.GROUP)}
    return kept


def _read_spec(raw: object) -> tuple[SandboxSpec | None, InvalidResource | None]:
    try:
        spec = SandboxSpec.parse(raw, "spec")
        spec.limits()
    except InvalidResource as problem:
        return None, problem
    if spec.image is None:
        return None, InvalidResource("spec.image", "is required: templates come later")
    return spec, None


def _read_status(raw: object) -> SandboxStatus:
    try:
        return SandboxStatus.parse(raw or {}, "status")
    except InvalidResource:
        pass
    readable: dict[str, Any] = {}
    for name, value in raw.items() if isinstance(raw, Mapping) else ():
        try:
            SandboxStatus.parse({name: value})
        except InvalidResource:
            continue
        readable[name] = value
    return SandboxStatus.parse(readable)
