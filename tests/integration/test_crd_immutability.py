"""Every field of spec is added, removed and changed on a real API server.

The fields come from the schema: a new one without a line in OTHER fails here.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import config

from controller.core.crd import sandbox_schema
from controller.core.resources import SandboxSpec
from dev.apiserver import ControlPlane
from tests.integration.sandboxes import Json, Refused, Sandboxes

FULL: Json = {
    "image": "busybox",
    "imagePullPolicy": "Never",
    "command": ["a"],
    "args": ["a"],
    "workingDir": "/a",
    "env": [
        {"name": "A", "value": "a"},
        {
            "name": "B",
            "valueFrom": {"secretKeyRef": {"name": "a", "key": "a", "optional": True}},
        },
    ],
    "envFrom": [
        {"prefix": "A", "secretRef": {"name": "a", "optional": True}},
        {"prefix": "A", "configMapRef": {"name": "a", "optional": True}},
    ],
    "ports": [
        {"name": "a", "containerPort": 1, "scheme": "https", "path": "/a", "hostPort": 1},
        {"name": "b", "containerPort": 2},
    ],
    "resources": {"limits": {"cpu": "1", "memory": "1Gi", "pids": 1}},
    "volumes": [
        {
            "name": "a",
            "mountPath": "/a",
            "readOnly": True,
            "managed": {"reclaimPolicy": "Retain"},
        }
    ],
    "security": {"runtime": "runsc"},
    "readiness": {
        "httpGet": {"path": "/a", "port": "b"},
        "startupDeadlineSeconds": 1,
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": 1,
    },
    "operatingMode": "Paused",
    "pauseMethod": "Stop",
    "restartPolicy": "Never",
    "onMissing": "Recreate",
    "sessionKey": {
        "mode": "SecretRef",
        "secretRef": {"name": "a", "key": "a"},
        "envNames": ["KEY"],
    },
    "createdByUserId": "a",
    "terminationGracePeriodSeconds": 1,
    "labels": {"a": "a"},
}
"""Every field that can be set, to something other than its default."""

OTHER: dict[str, Any] = {
    "image": "other",
    "imagePullPolicy": "Always",
    "command": ["other"],
    "args": ["other"],
    "workingDir": "/other",
    "env[0].name": "OTHER",
    "env[0].value": "other",
    "env[1].valueFrom.secretKeyRef.name": "other",
    "env[1].valueFrom.secretKeyRef.key": "other",
    "env[1].valueFrom.secretKeyRef.optional": False,
    "envFrom[0].prefix": "OTHER",
    "envFrom[0].secretRef.name": "other",
    "envFrom[0].secretRef.optional": False,
    "envFrom[1].configMapRef.name": "other",
    "envFrom[1].configMapRef.optional": False,
    "ports[0].name": "other",
    "ports[0].containerPort": 3,
    "ports[0].scheme": "http",
    "ports[0].path": "/other",
    "ports[0].hostPort": 2,
    "resources.limits.cpu": "2",
    "resources.limits.memory": "512Mi",
    "resources.limits.pids": 2,
    "volumes[0].name": "other",
    "volumes[0].mountPath": "/other",
    "volumes[0].readOnly": False,
    "volumes[0].managed.reclaimPolicy": "Delete",
    "security.runtime": "other",
    "readiness.httpGet.path": "/other",
    "readiness.httpGet.port": 1,
    "readiness.startupDeadlineSeconds": 2,
    "readiness.periodSeconds": 2,
    "readiness.timeoutSeconds": 2,
    "readiness.failureThreshold": 2,
    "operatingMode": "Running",
    "pauseMethod": "Freeze",
    "restartPolicy": "Always",
    "onMissing": "Report",
    "sessionKey.mode": "None",
    "sessionKey.secretRef.name": "other",
    "sessionKey.secretRef.key": "other",
    "sessionKey.envNames": ["OTHER"],
    "createdByUserId": "other",
    "terminationGracePeriodSeconds": 2,
    "labels": {"a": "a", "b": "b"},
}
"""Another value for every leaf of FULL."""

LIMITS = ["resources.limits.cpu", "resources.limits.memory", "resources.limits.pids"]
MAY_CHANGE = {"operatingMode", *LIMITS}
MAY_BE_ADDED = {"operatingMode", "resources", "resources.limits", *LIMITS}
MAY_BE_REMOVED = {"operatingMode"}

# Without these a FULL Sandbox cannot be created at all.
NEEDED = {
    "image",
    "env[0].name",
    "env[0].value",
    "env[1].valueFrom",
    "env[1].valueFrom.secretKeyRef",
    "env[1].valueFrom.secretKeyRef.name",
    "env[1].valueFrom.secretKeyRef.key",
    "envFrom[0].secretRef",
    "envFrom[0].secretRef.name",
    "envFrom[1].configMapRef",
    "envFrom[1].configMapRef.name",
    "ports",  # readiness names one
    "ports[0].name",
    "ports[0].containerPort",
    "volumes[0].name",
    "volumes[0].mountPath",
    "volumes[0].managed",
    "readiness.httpGet",
    "readiness.httpGet.port",
    "sessionKey.mode",  # Generate, the default, takes no secretRef
    "sessionKey.secretRef",
    "sessionKey.secretRef.name",
}


def schema_leaves(schema: Json, path: str = "") -> Iterator[str]:
    if "properties" in schema:
        for name, node in schema["properties"].items():
            yield from schema_leaves(node, f"{path}.{name}" if path else name)
    elif "properties" in schema.get("items", {}):
        yield from schema_leaves(schema["items"], f"{path}[]")
    else:
        yield path


def prefixes(path: str) -> Iterator[str]:
    """`a.b[0].c` gives a, a.b, a.b[0].c: every field on the way."""
    parts = path.split(".")
    for n in range(1, len(parts) + 1):
        yield re.sub(r"\[\d]$", "", ".".join(parts[:n]))


FIELDS = sorted({prefix for path in OTHER for prefix in prefixes(path)})


def steps(path: str) -> list[str | int]:
    return [int(s) if s.isdigit() else s for s in re.findall(r"\w+", path)]


def without(path: str) -> Json:
    spec = copy.deepcopy(FULL)
    *way, last = steps(path)
    parent: Any = spec
    for key in way:
        parent = parent[key]
    del parent[last]
    return spec


def changed(path: str) -> Json:
    spec = copy.deepcopy(FULL)
    *way, last = steps(path)
    parent: Any = spec
    for key in way:
        parent = parent[key]
    assert parent[last] != OTHER[path]
    parent[last] = OTHER[path]
    return spec


def expect(sandboxes: Sandboxes, stored: Json, spec: Json, path: str, *, allowed: bool) -> None:
    if allowed:
        sandboxes.try_update(stored, spec)
        return
    with pytest.raises(Refused) as refusal:
        sandboxes.try_update(stored, spec)
    top = steps(path)[0]
    assert any(re.match(rf"spec\.{top}\b", field) for field in refusal.value.causes)


@pytest.fixture(scope="module")
def sandboxes(cluster: ControlPlane) -> Iterator[Sandboxes]:
    with config.new_client_from_config(str(cluster.kubeconfig)) as api_client:
        yield Sandboxes(api_client)


@pytest.fixture(scope="module")
def full(sandboxes: Sandboxes) -> Iterator[Json]:
    with sandboxes.holding(FULL) as stored:
        yield stored


def test_every_field_of_the_schema_has_a_case() -> None:
    cases = {re.sub(r"\[\d]", "[]", path) for path in OTHER}
    in_schema = set(schema_leaves(sandbox_schema()["properties"]["spec"]))
    assert in_schema - cases == {"templateRef.name"}  # cannot be set yet
    assert cases <= in_schema


def test_full_sets_every_field_to_something_that_is_no_default() -> None:
    spec, default = SandboxSpec.parse(FULL), SandboxSpec()
    same = {
        name for name in SandboxSpec.model_fields if getattr(spec, name) == getattr(default, name)
    }
    assert same == {"template_ref"}


@pytest.mark.parametrize("path", OTHER)
def test_change(sandboxes: Sandboxes, full: Json, path: str) -> None:
    expect(sandboxes, full, changed(path), path, allowed=path in MAY_CHANGE)


@pytest.mark.parametrize("path", FIELDS)
def test_remove(sandboxes: Sandboxes, full: Json, path: str) -> None:
    expect(sandboxes, full, without(path), path, allowed=path in MAY_BE_REMOVED)


@pytest.mark.parametrize("path", [path for path in FIELDS if path not in NEEDED])
def test_add(sandboxes: Sandboxes, path: str) -> None:
    with sandboxes.holding(without(path)) as stored:
        expect(sandboxes, stored, FULL, path, allowed=path in MAY_BE_ADDED)


@pytest.mark.parametrize("path", sorted(NEEDED))
def test_what_is_needed_cannot_be_left_out(sandboxes: Sandboxes, path: str) -> None:
    with pytest.raises(Refused):
        sandboxes.create(without(path), dry=True)


@pytest.mark.parametrize("field", ["env", "ports"])
def test_an_entry_is_neither_added_nor_removed(
    sandboxes: Sandboxes, full: Json, field: str
) -> None:
    extra = {"env": {"name": "C", "value": ""}, "ports": {"name": "c", "containerPort": 3}}[field]
    expect(sandboxes, full, FULL | {field: [*FULL[field], extra]}, field, allowed=False)
    expect(sandboxes, full, FULL | {field: FULL[field][1:]}, field, allowed=False)


@pytest.mark.parametrize("field", ["env", "ports"])
def test_the_order_of_a_list_map_may_change_and_makes_no_drift(
    sandboxes: Sandboxes, full: Json, field: str
) -> None:
    turned = FULL | {field: FULL[field][::-1]}
    updated = sandboxes.try_update(full, turned)
    stored, now = SandboxSpec.parse(full["spec"]), SandboxSpec.parse(updated["spec"])
    assert now.spec_hash() == stored.spec_hash()


def test_a_refusal_says_what_to_do_and_shows_no_value(sandboxes: Sandboxes, full: Json) -> None:
    with pytest.raises(Refused) as refusal:
        sandboxes.try_update(full, changed("env[0].value"))
    (words,) = refusal.value.causes.values()
    assert "env is immutable: delete the Sandbox and create a new one" in words
    assert "other" not in words
    with pytest.raises(Refused) as refusal:
        sandboxes.try_update(full, without("resources.limits.memory"))
    assert "not removed" in refusal.value.causes["spec.resources.limits.memory"]


def test_a_template_is_not_set_later_either(sandboxes: Sandboxes, full: Json) -> None:
    template = FULL | {"templateRef": {"name": "t"}}
    expect(sandboxes, full, template, "templateRef", allowed=False)


def test_what_takes_effect_in_place_is_what_may_change() -> None:
    """The API server lets nothing change that would need another container."""
    recorded = SandboxSpec.parse(FULL).spec_hash()
    for path in sorted(MAY_CHANGE):
        assert SandboxSpec.parse(changed(path)).spec_hash() == recorded, path
