"""The CustomResourceDefinition of Sandbox, derived from the models in controller/core/resources.

`sandbox_crd()` gives it as plain data. Types, bounds, defaults and descriptions come from the
models; here is what a model cannot say:

    RULES       CEL rules of a model: what must hold between its fields
    IMMUTABLE   CEL rules of spec that let nothing change but MUTABLE fields
    LISTS       which lists are maps or sets
    COLUMNS     what `kubectl get` shows

Everything is bounded, which keeps the rules within the API server's CEL cost budget
(https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.core.names import GROUP, KIND, PLURAL, VERSION
from controller.core.resources import (
    ENGINE_FILES,
    KERNEL_PATHS,
    LABEL_KEY,
    Phase,
    ResourceLimits,
    Sandbox,
    SandboxSpec,
    Volume,
)
from controller.core.sizes import MAX_ENVIRONMENT_BYTES

Schema = dict[str, Any]

MUTABLE = ("operating_mode", "resources")
"""Fields of spec that may change; of resources, see LIMITS_STAY."""

VOLUME_SOURCES = ("managed",)
"""Fields of a volume of which exactly one is set."""

assert set(VOLUME_SOURCES) < set(Volume.model_fields)  # noqa: S101 - a typo would void a rule


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of x-kubernetes-validations."""

    cel: str
    message: str
    field: str = ""
    """The field that the error names, as a path below the rule's own (".image")."""
    reason: str = "FieldValueInvalid"
    """Not FieldValueDuplicate: with it the API server drops the message."""

    def schema(self) -> Schema:
        entry = {"rule": self.cel, "message": self.message, "reason": self.reason}
        return entry | ({"fieldPath": self.field} if self.field else {})


def _alias(model: Any, field: str) -> str:
    return str(model.model_fields[field].alias)


def _immutable(field: str) -> Rule:
    return Rule(
        f"has(self.{field}) == has(oldSelf.{field})"
        f" && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} is immutable: delete the Sandbox and create a new one",
        f".{field}",
        "FieldValueForbidden",
    )


def _limit_stays(limit: str) -> Rule:
    old = "oldSelf.resources.limits"
    return Rule(
        f"!has(oldSelf.resources) || !has({old}) || !has({old}.{limit}) || (has(self.resources)"
        f" && has(self.resources.limits) && has(self.resources.limits.{limit}))",
        f"the {limit} limit may be changed but not removed: set the size you want,"
        " or delete the Sandbox and create a new one",
        f".resources.limits.{limit}",
        "FieldValueForbidden",
    )


def _is_positive(limit: str) -> Rule:
    return Rule(
        f"!has(self.{limit}) || (isQuantity(string(self.{limit}))"
        f" && quantity(string(self.{limit})).isGreaterThan(quantity('0'))"
        f" && quantity(string(self.{limit})).compareTo(quantity('9223372036854775807')) < 0)",
        f"{limit} must be a quantity above 0 and below 2^63 - 1, such as "
        + {"cpu": "500m or 2", "memory": "512Mi or 2Gi"}[limit],
        f".{limit}",
    )


def _within(paths: tuple[str, ...]) -> str:
    """A pattern for these paths and what is below them; a dot stands for itself in brackets."""
    return f"^({'|'.join(path.replace('.', '[.]') for path in paths)})(/|$)"


IMMUTABLE = [
    _immutable(_alias(SandboxSpec, field))
    for field in SandboxSpec.model_fields
    if field not in MUTABLE
]

# Engines change the size of a limit in place and can add one, but have no way to lift one.
LIMITS_STAY = [_limit_stays(_alias(ResourceLimits, field)) for field in ResourceLimits.model_fields]

RULES: dict[str, list[Rule]] = {
    "Sandbox": [
        Rule(
            "self.metadata.name.size() <= 63"
            " && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must be a DNS label, since it becomes a host name and a label value:"
            " at most 63 lower-case letters, digits and '-', the first and the last no '-'",
        ),
    ],
    "SandboxSpec": [
        Rule(
            "!has(self.templateRef)",
            "templates come in a later version: remove templateRef and set image",
            ".templateRef",
            "FieldValueForbidden",
        ),
        Rule(
            "has(self.image) || has(self.templateRef)",
            "image is required: set it to the image of the container",
            ".image",
            "FieldValueRequired",
        ),
        Rule(
            "!has(self.ports) || self.ports.all(p,"
            " self.ports.exists_one(q, q.containerPort == p.containerPort))",
            "every port must have a containerPort of its own",
            ".ports",
        ),
        Rule(
            "!has(self.ports) || self.ports.all(p, !has(p.hostPort) ||"
            " self.ports.exists_one(q, has(q.hostPort) && q.hostPort == p.hostPort))",
            "every hostPort must be another one; leave it unset and the engine chooses one",
            ".ports",
        ),
        Rule(
            "!has(self.volumes) || self.volumes.all(v,"
            " self.volumes.exists_one(w, w.mountPath == v.mountPath))",
            "every volume must have a mountPath of its own",
            ".volumes",
        ),
        Rule(
            "!has(self.readiness) || (has(self.ports) && self.ports.exists(p,"
            " dyn(p.name) == dyn(self.readiness.httpGet.port)"
            " || dyn(p.containerPort) == dyn(self.readiness.httpGet.port)))",
            "readiness.httpGet.port must be the name or the containerPort of one of spec.ports",
            ".readiness.httpGet.port",
        ),
        Rule(
            f"!has(self.workingDir) || !self.workingDir.matches('{_within(KERNEL_PATHS)}')",
            "workingDir must not be in /dev, /proc or /sys",
            ".workingDir",
        ),
        Rule(
            f"!has(self.labels) || self.labels.all(k, k.size() <= 253 && k.matches('{LABEL_KEY}'))",
            "keys of labels must be letters, digits, '-', '.', '_' and '/', 253 at most, the first"
            " a letter or a digit",
            ".labels",
        ),
        Rule(
            " + ".join(
                f"(has(self.{field}) ? self.{field}.map(x, {size}).sum() : 0)"
                for field, size in (
                    # Of these the bytes would exceed the cost budget: the operator counts them.
                    ("command", "x.size()"),
                    ("args", "x.size()"),
                    ("env", "has(x.value) ? bytes(x.value).size() : 0"),
                )
            )
            + f" <= {MAX_ENVIRONMENT_BYTES}",
            f"command, args and the values of env must have {MAX_ENVIRONMENT_BYTES} characters"
            " together at most, and no more bytes of UTF-8: put files into the image or a volume",
            ".env",
        ),
        Rule(
            "!has(self.env) || !has(self.sessionKey) || self.sessionKey.mode == 'None'"
            " || self.env.all(e, !(e.name in self.sessionKey.envNames))",
            "a variable that sessionKey.envNames gives the key to must not be in env too",
            ".env",
        ),
        *LIMITS_STAY,
        *IMMUTABLE,
    ],
    "EnvVar": [
        Rule("has(self.value) != has(self.valueFrom)", "set exactly one of value and valueFrom"),
    ],
    "EnvFromSource": [
        Rule(
            "has(self.secretRef) != has(self.configMapRef)",
            "set exactly one of secretRef and configMapRef",
        ),
    ],
    "Volume": [
        Rule(
            f"!self.mountPath.matches('{_within((*KERNEL_PATHS, *ENGINE_FILES))}')",
            "mountPath must not be in /dev, /proc, /sys or at a file that the engine mounts itself",
            ".mountPath",
        ),
        Rule(
            f"[{', '.join(f'has(self.{_alias(Volume, s)})' for s in VOLUME_SOURCES)}]"
            ".filter(x, x).size() == 1",
            f"set exactly one source of the volume: {', '.join(VOLUME_SOURCES)}"
            " (managed: {} is a volume of the Sandbox's own)",
        ),
    ],
    "SessionKey": [
        Rule(
            "(self.mode == 'SecretRef') == has(self.secretRef)",
            "secretRef is required with mode SecretRef, and is for no other mode",
            ".secretRef",
        ),
    ],
    "ResourceLimits": [_is_positive("cpu"), _is_positive("memory")],
}

LISTS: dict[tuple[str, str], Schema] = {
    **{
        (owner, field): {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        for owner, field, key in (
            ("SandboxSpec", "env", "name"),
            ("SandboxSpec", "ports", "name"),
            ("SandboxSpec", "volumes", "name"),
            ("SandboxStatus", "exposedUrls", "name"),
            ("SandboxStatus", "conditions", "type"),
        )
    },
    ("SessionKey", "envNames"): {"x-kubernetes-list-type": "set"},
}
"""Every other list is atomic: its order means something."""

READY = '.status.conditions[?(@.type=="Ready")]'
COLUMNS: list[tuple[str, str, str, int]] = [
    # name, type, JSONPath, priority (1: shown by -o wide alone)
    ("Phase", "string", ".status.phase", 0),
    ("Ready", "string", f"{READY}.status", 0),
    ("Image", "string", ".spec.image", 0),
    ("URL", "string", ".status.exposedUrls[0].url", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("User", "string", ".spec.createdByUserId", 1),
    ("Reason", "string", f"{READY}.reason", 1),
    ("Message", "string", f"{READY}.message", 1),
]

SELECTABLE = [".spec.createdByUserId", ".spec.templateRef.name", ".status.phase"]


def sandbox_crd() -> Schema:
    """The CustomResourceDefinition of Sandbox."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sbx"],
                # Not "sandboxes": a category of that name would shadow the plural.
                "categories": ["openhands"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": path} for path in SELECTABLE],
                    "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
                    "schema": {"openAPIV3Schema": sandbox_schema()},
                }
            ],
        },
    }


def sandbox_schema() -> Schema:
    """The structural schema of a Sandbox.

    A Sandbox that no operator has seen yet already reads as STARTING, as a new Pod is Pending:
    hence the default of status. No other field of status has one: there, absent means not seen.
    """
    models = Sandbox.model_json_schema(by_alias=True)
    walk = _Walk(models["$defs"])
    spec = walk.model("SandboxSpec", defaults=True)
    status = walk.model("SandboxStatus", defaults=False)
    status["properties"]["phase"]["default"] = Phase.STARTING.value
    status["default"] = {"phase": Phase.STARTING.value}
    return {
        "type": "object",
        "description": _text(models["description"]),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the resource's schema."},
            "kind": {"type": "string", "description": "Kind of the resource."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [rule.schema() for rule in RULES["Sandbox"]],
    }


def _column(name: str, kind: str, path: str, priority: int) -> Schema:
    column = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"priority": priority} if priority else {})


class _Walk:
    """From pydantic's JSON schema to a structural one: no $ref, no null, no title."""

    def __init__(self, definitions: Schema) -> None:
        self._definitions = definitions

    def model(self, name: str, *, defaults: bool) -> Schema:
        source = self._definitions[name]
        properties = {}
        for field, node in source["properties"].items():
            properties[field] = self._node(node, defaults=defaults)
            if properties[field].get("type") == "array":
                properties[field] |= LISTS.get((name, field), {"x-kubernetes-list-type": "atomic"})
        schema: Schema = {"type": "object", "description": _text(source["description"])}
        if required := source.get("required"):
            schema["required"] = required
        schema["properties"] = properties
        if rules := RULES.get(name):
            schema["x-kubernetes-validations"] = [rule.schema() for rule in rules]
        return schema

    def _node(self, node: Schema, *, defaults: bool) -> Schema:
        node = self._without_null(node)
        schema: Schema = {}
        if reference := node.pop("$ref", None):
            name = reference.rpartition("/")[2]
            if "properties" in self._definitions[name]:
                schema = self.model(name, defaults=defaults)
            else:
                schema = self._node(self._definitions[name], defaults=defaults)
        for key, value in node.items():
            match key:
                case "title" | "default":
                    pass
                case "description":
                    schema[key] = _text(value)
                case "items" | "additionalProperties":
                    schema[key] = self._node(value, defaults=defaults)
                case _:
                    schema[key] = value
        if schema.get("type") == "integer":
            schema["format"] = "int32" if schema.get("maximum", 2**31) < 2**31 else "int64"
        default = _without_empty(node.get("default"))
        if defaults and default is not None:
            schema["default"] = default
        return schema

    @staticmethod
    def _without_null(node: Schema) -> Schema:
        """`X | None` is an X that may be absent."""
        if node.get("x-kubernetes-int-or-string") or "anyOf" not in node:
            return dict(node)
        (only,) = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        return {**only, **{key: value for key, value in node.items() if key != "anyOf"}}


def _without_empty(value: Any) -> Any:
    """A default without what says nothing: None, and objects and lists of nothing."""
    if isinstance(value, dict):
        kept = {key: _without_empty(entry) for key, entry in value.items()}
        return {key: entry for key, entry in kept.items() if entry is not None} or None
    if isinstance(value, list):
        return value or None
    return value


def _text(docstring: str) -> str:
    return " ".join(docstring.split())
