"""Whoever may write a status can write anything the schema lets in: it is decided upon all the
same, and what is written then is valid."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.core import names
from controller.core.decide import decide
from controller.core.resources import MAX_INT32, SandboxStatus
from controller.core.rules import Rules
from controller.core.state import EngineView
from controller.core.subject import Subject
from controller.core.table import ENGINE, EXITED, FROZEN, NOW, RUNNING, sandbox, seen

READY = {"type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 1}
ENDS = (
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
)
READINESS = {"httpGet": {"port": 80}, "startupDeadlineSeconds": 86400}
SPEC: dict[str, Any] = {"ports": [{"name": "WEB", "containerPort": 80}], "readiness": READINESS}
OUTAGE = EngineView("e1", NOW - timedelta(hours=1))


def container(**fields: Any) -> dict[str, Any]:
    return {"container": {"id": RUNNING.id} | fields}


def spoiled(status: dict[str, Any], deleting: bool, **spec: Any) -> Subject:
    subject = sandbox(deleting, **SPEC, **spec)
    metadata = subject.metadata.model_dump(mode="json", by_alias=True, exclude_none=True)
    if status.get("suspended"):
        metadata["annotations"] = {names.RESUME_REQUESTED_AT: status["suspended"]["at"]}
    spec_ = subject.spec.manifest() if subject.spec else None
    return Subject.read({"metadata": metadata, "spec": spec_, "status": status})


@pytest.mark.parametrize("deleting", [False, True], ids=["living", "deleting"])
@pytest.mark.parametrize("mode", ["Running", "Paused"])
@pytest.mark.parametrize(
    "status",
    [
        *({"phase": "STARTING", "conditions": [READY | {"lastTransitionTime": at}]} for at in ENDS),
        *(
            {
                "conditions": [READY | {"type": "Reconciling", "lastTransitionTime": at}],
                **container(startedAt=RUNNING.started_at),
            }
            for at in ENDS
        ),
        *({"pausing": {"containerId": RUNNING.id, "at": at}} for at in ENDS),
        *({"suspended": {"reason": "Idle", "at": at}} for at in ENDS),
        *(container(startedAt=at, finishedAt=at) for at in ENDS),
        *({"lastActivityAt": at, "expiresAt": at, "createdAt": at} for at in ENDS),
        container(restartCount=MAX_INT32),
        container(engineId="another"),
        {
            "conditions": [
                READY | {"type": f"V{i}", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for i in range(16)
            ]
        },
    ],
    ids=lambda status: json.dumps(status, default=str)[:60],
)
def test_it_is_decided_upon(status: dict[str, Any], mode: str, deleting: bool) -> None:
    subject = spoiled(json.loads(json.dumps(status, default=str)), deleting, operatingMode=mode)
    for found in (None, RUNNING, FROZEN, EXITED):
        for engine in (ENGINE, OUTAGE):
            what = replace(seen(found), engine=engine)
            written = decide(subject, what, Rules(), NOW + timedelta(days=1)).status.manifest()
            SandboxStatus.parse(written)
