"""What is kept of an object is small, however big it is, and says the same to the decision."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from controller.core import names
from controller.core.subject import Subject, lighten

WIDE = "\U0001f4e6"
AT_MOST = 200_000
"""Bytes of memory that one Sandbox may take at rest, in spite of all."""


def obj(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    meta = {"name": "a", "namespace": "team", "uid": "u1", "resourceVersion": "7", "generation": 1}
    return {"metadata": meta | metadata, "spec": {"image": "box"} | (spec or {})}


def lightened(given: dict[str, Any]) -> dict[str, Any]:
    light = copy.deepcopy(given)
    lighten(light)
    return light


HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "env of four-byte characters": lambda: obj(
        {"env": [{"name": f"V{i}", "value": WIDE * 32_768} for i in range(8)]}
    ),
    "many tiny variables": lambda: obj(
        {"env": [{"name": f"V{i}", "value": "v"} for i in range(256)]}
    ),
    "arguments": lambda: obj({"args": ["v" * 1000] * 256}),
    "labels": lambda: obj({"labels": {f"{i:k>253}": WIDE * 253 for i in range(32)}}),
    "mount paths": lambda: obj(
        {
            "volumes": [
                {"name": f"v{i}", "mountPath": f"/{i}" + WIDE * 1000, "managed": {}}
                for i in range(32)
            ]
        }
    ),
    "paths of ports": lambda: obj(
        {
            "ports": [
                {"name": f"P{i}", "containerPort": i + 1, "path": "/" + WIDE * 255}
                for i in range(32)
            ]
        }
    ),
    "prefixes of envFrom": lambda: obj(
        {"envFrom": [{"prefix": "P" * 253, "secretRef": {"name": "s" * 253}}] * 16}
    ),
    "annotations": lambda: obj(annotations={f"{names.GROUP}/{i}": "v" * 1000 for i in range(250)}),
    "one long annotation that is ours": lambda: obj(
        annotations={names.RESUME_REQUESTED_AT: "v" * 250_000}
    ),
    "labels of the object": lambda: obj(
        labels={f"{names.GROUP}/{i}": "v" * 63 for i in range(5_000)}
    ),
    "finalizers": lambda: obj(finalizers=[f"v.example/{i:v>63}" for i in range(5_000)]),
    "owners": lambda: obj(ownerReferences=[{"name": "v" * 253, "uid": "v"}] * 5_000),
    "managed fields": lambda: obj(
        managedFields=[{"fieldsV1": {f"f:{i}": {} for i in range(20_000)}}]
    ),
    "a spec that cannot be read": lambda: obj({"env": [{"name": "V", "value": 3}] * 10_000}),
    "keys that nobody may have": lambda: obj({"labels": {f"/{i}": "v" for i in range(20_000)}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_kept_is_small(name: str) -> None:
    Subject.read(obj())  # what is made once
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        light = HOSTILE[name]()
        lighten(light)
        subject = Subject.read(light)
        del light
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < AT_MOST
    assert subject.metadata.uid == "u1"


def test_a_small_one_is_read_as_without() -> None:
    spec = {
        "args": ["sh", "-c", "true"],
        "env": [{"name": f"V{i}", "value": "some value"} for i in range(20)],
        "labels": {"a": "b"},
        "volumes": [{"name": "v", "mountPath": "/v", "managed": {}}],
    }
    given = obj(spec, finalizers=["v.example/x", names.FINALIZER])
    subject = Subject.read(lightened(given))
    assert subject == Subject.read(given)
    assert not subject.light


def test_a_big_one_says_the_same_but_for_what_creates_a_container() -> None:
    spec = {
        "env": [{"name": "V", "value": "v" * 30_000}],
        "labels": {"a": "b"},
        "ports": [{"name": "P", "containerPort": 80}],
        "operatingMode": "Paused",
        "volumes": [
            {"name": "v", "mountPath": "/v", "managed": {"reclaimPolicy": "Retain"}},
        ],
    }
    subject, whole = Subject.read(lightened(obj(spec))), Subject.read(obj(spec))
    assert subject.light
    assert not whole.light
    assert subject.spec is not None
    assert whole.spec is not None
    assert subject.spec.env == ()
    assert subject.spec.labels.keys() == whole.spec.labels.keys(), "settings may refuse them"
    assert [(v.name, v.retained) for v in subject.spec.volumes] == [("v", True)]
    assert subject.spec.ports == whole.spec.ports
    assert subject.spec.operating_mode == "Paused"


def test_a_big_one_is_checked_completely() -> None:
    spec = {"env": [{"name": "V", "value": "v" * 30_000}, {"name": "1", "value": ""}]}
    subject = Subject.read(lightened(obj(spec)))
    assert subject.spec is None
    assert subject.problem is not None
    assert subject.problem.path == "spec.env[1].name"


def test_what_is_known_stays_light() -> None:
    known = Subject.read(lightened(obj({"args": ["v" * 30_000]})))
    again = Subject.read(lightened(obj({"args": ["v" * 30_000]}, resourceVersion="8")), known)
    assert again.spec is known.spec
    assert again.light


def test_of_many_finalizers_ours_is_known() -> None:
    others = [f"v.example/{i:v>63}" for i in range(100)]
    for ours in ([], [names.FINALIZER]):
        meta = Subject.read(lightened(obj(finalizers=[*others, *ours]))).metadata
        assert list(meta.finalizers) == ours
        assert meta.finalizers_cut


def test_lightening_twice_changes_nothing() -> None:
    for make in HOSTILE.values():
        light = lightened(make())
        again = dict(light)
        lighten(again)
        assert again == light


@pytest.mark.parametrize("given", [{}, {"metadata": None, "spec": []}, {"spec": {"env": 3}}])
def test_what_is_no_object_is_left_alone(given: dict[str, Any]) -> None:
    lighten(given)
