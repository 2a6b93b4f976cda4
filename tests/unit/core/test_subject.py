"""Reading whatever the API server holds: never an error, whoever wrote it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controller.core import names
from controller.core.resources import Phase, SandboxStatus
from controller.core.subject import Subject


def read(known: Subject | None = None, **parts: Any) -> Subject:
    metadata = {"name": "a", "uid": "u1", "generation": 1} | parts.pop("metadata", {})
    return Subject.read({"metadata": metadata, "spec": {"image": "box"}} | parts, known)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (None, "spec"),
        ({}, "spec.image"),
        ({"templateRef": {"name": "t"}}, "spec.image"),
        ({"image": 3}, "spec.image"),
        ({"image": "box", "ports": [{"name": "x"}]}, "spec.ports[0].containerPort"),
        ({"image": "box", "operatingMode": "Off"}, "spec.operatingMode"),
        ({"image": "box", "resources": {"limits": {"memory": "lots"}}}, "spec.resources.limits"),
    ],
)
def test_a_spec_that_cannot_be_read_is_a_problem_with_a_path(spec: Any, path: str) -> None:
    subject = read(spec=spec)
    assert subject.spec is None
    assert subject.problem is not None
    assert subject.problem.path.startswith(path)


def test_a_problem_never_holds_the_value() -> None:
    env = [{"name": "TOKEN", "value": "hush\x00"}]
    problem = read(spec={"image": "box", "env": env}).problem
    assert problem is not None
    assert "hush" not in str(problem)
    assert "spec.env[0].value" in str(problem)


@pytest.mark.parametrize("status", [None, {}, [], "text", {"phase": "Pending"}])
def test_a_status_that_cannot_be_read_is_a_new_one(status: Any) -> None:
    assert read(status=status).status == SandboxStatus()


def test_of_a_status_that_someone_else_spoiled_the_readable_part_counts() -> None:
    container = {"id": "c1", "engineId": "e1"}
    status = {"phase": "PAUSED", "container": container, "conditions": "none", "pausing": 3}
    found = read(status=status).status
    assert found.phase is Phase.PAUSED
    assert found.container is not None
    assert found.container.id == "c1"
    assert (found.conditions, found.pausing) == ((), None)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T14:00:00+02:00", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T12:00:00", None),
        ("now", None),
        ("NaN", None),
        ("-1e400", None),
        ("9" * 400, None),
        ("9999-12-31T23:59:59-23:59", datetime.fromisoformat("9999-12-31T23:59:59-23:59")),
        ("", None),
        (None, None),
    ],
)
def test_the_resume_request(text: str | None, moment: datetime | None) -> None:
    annotations = {} if text is None else {names.RESUME_REQUESTED_AT: text}
    assert read(metadata={"annotations": annotations}).resume_requested_at == moment


def test_the_spec_is_read_once_a_generation() -> None:
    first = read()
    again = read(first, metadata={"labels": {names.NAME_LABEL: "b"}})
    assert again.spec is first.spec
    assert again.metadata.labels == {names.NAME_LABEL: "b"}
    changed = read(first, metadata={"generation": 2}, spec={"image": "other"})
    assert changed.spec is not None
    assert changed.spec.image == "other"


def test_what_others_wrote_into_the_metadata_is_not_kept() -> None:
    others = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000, "a": "b"}
    ours = {names.RESUME_REQUESTED_AT: "2026-01-01T12:00:00Z"}
    subject = read(metadata={"annotations": others | ours, "labels": others})
    assert (subject.metadata.annotations, subject.metadata.labels) == (ours, {})


def test_equal_sets_of_fields_are_one_in_memory() -> None:
    conditions = [
        {
            "type": type_,
            "status": "True",
            "reason": "Ready",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
        }
        for type_ in ("Ready", "Available")
    ]
    first, second = read(status={"conditions": conditions}).status.conditions
    assert first.model_fields_set is second.model_fields_set
    assert first.model_copy(update={"message": "x"}).model_fields_set == {
        *first.model_fields_set,
        "message",
    }
    assert "message" not in second.model_fields_set


def test_the_spec_of_another_object_is_never_reused() -> None:
    other = read(read(), metadata={"uid": "u2"}, spec={"image": "other"})
    assert other.spec is not None
    assert other.spec.image == "other"
