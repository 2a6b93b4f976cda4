"""One Sandbox object as the decision reads it: whatever the API server holds, never an error.

A spec that cannot be read becomes a `problem`, so that the object can be reported on and deleted;
a status that cannot be read (someone else wrote it) counts as the part of it that can.

`lighten` takes out of an object, as soon as it is parsed, what no decision reads. An object may be
1.5 MiB; what is left of it is some tens of KiB at the most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.core import names, sizes
from controller.core.resources import InvalidResource, ObjectMeta, SandboxSpec, SandboxStatus

_MOMENT = TypeAdapter(datetime)

_ANNOTATIONS = frozenset({names.RESUME_REQUESTED_AT})
_LABELS = frozenset({names.NAME_LABEL, names.KEY_HASH_LABEL})
_LONGEST_VALUE = 253
"""Of a label or an annotation that the decision reads: no time and no hash is longer."""
_FINALIZERS_KEPT = 4096
"""Characters of all finalizers together. The API server bounds neither their number nor their sum.
"""
_METADATA = frozenset(str(f.alias or name) for name, f in ObjectMeta.model_fields.items())

_BULK = ("command", "args", "env", "envFrom", "labels", "volumes")
"""Fields of spec that can be big, and are needed, but for their keys and names, to create a
container alone."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a Sandbox object says."""

    metadata: ObjectMeta
    spec: SandboxSpec | None
    status: SandboxStatus
    problem: InvalidResource | None = None
    """Why `spec` is None."""
    light: bool = False
    """`spec` lacks what is needed to create a container: read the object again for that."""

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
        if (
            known is not None
            and known.metadata.uid == metadata.uid
            and known.metadata.generation == metadata.generation
        ):
            found = _Light(known.spec, known.problem, known.light)
        else:
            raw = obj.get("spec")
            found = raw if isinstance(raw, _Light) else _Light(*read_spec(raw), light=False)
        status = _read_status(obj.get("status"))
        return cls(metadata, found.spec, status, found.problem, found.light)


@dataclass(frozen=True, slots=True)
class _Light:
    """What stands for a big spec in an object that was lightened: it has been read, and what only
    a new container needs is gone."""

    spec: SandboxSpec | None
    problem: InvalidResource | None
    light: bool = True


def lighten(obj: dict[str, Any]) -> None:
    """Take out of an object, in place, what `Subject.read` has no use for.

    A big spec is read here, completely, and replaced by what the decision needs of it."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        obj["metadata"] = _needed(metadata)
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    if sum(sizes.memory(spec[field]) for field in _BULK if field in spec) > sizes.BULKY:
        obj["spec"] = _light(*read_spec(spec))


def _light(spec: SandboxSpec | None, problem: InvalidResource | None) -> _Light:
    if spec is None:
        return _Light(None, problem)
    kept = spec.model_copy(
        update={
            "command": None,
            "args": None,
            "env": (),
            "env_from": (),
            "labels": dict.fromkeys(spec.labels, ""),
            "volumes": tuple(v.model_copy(update={"mount_path": "/"}) for v in spec.volumes),
        }
    )
    return _Light(kept, None)


def _needed(metadata: object) -> object:
    """Metadata without what the decision does not read: managedFields, owners, others' labels and
    annotations, such as kubectl's copy of the whole object."""
    if not isinstance(metadata, Mapping):
        return metadata
    kept = {field: value for field, value in metadata.items() if field in _METADATA}
    for field, wanted in (("labels", _LABELS), ("annotations", _ANNOTATIONS)):
        values = metadata.get(field)
        if isinstance(values, Mapping):
            kept[field] = {
                key: values[key]
                for key in wanted & values.keys()
                if len(str(values[key])) <= _LONGEST_VALUE
            }
    finalizers = metadata.get("finalizers")
    if isinstance(finalizers, list) and sum(len(str(f)) for f in finalizers) > _FINALIZERS_KEPT:
        kept["finalizers"] = [f for f in finalizers if f == names.FINALIZER]
        kept["finalizersCut"] = True
    return kept


def read_spec(raw: object) -> tuple[SandboxSpec | None, InvalidResource | None]:
    """The spec, or why it cannot be read."""
    try:
        spec = SandboxSpec.parse(raw, "spec")
        spec.check_sizes()
        spec.limits()
    except InvalidResource as problem:
        # A new one: the traceback of this one holds all that was read.
        return None, InvalidResource(problem.path, problem.message)
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
