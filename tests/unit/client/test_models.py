"""The values have the names and fields that OpenHands's app_server knows."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from controller.client import (
    AGENT_SERVER,
    VSCODE,
    WORKER_1,
    WORKER_2,
    ExposedUrl,
    SandboxInfo,
    SandboxPage,
    SandboxStatus,
)
from controller.core.resources import Phase


def test_names_and_fields() -> None:
    assert set(ExposedUrl.model_fields) == {"name", "url", "port"}
    assert set(SandboxPage.model_fields) == {"items", "next_page_id"}
    assert set(SandboxInfo.model_fields) == {
        "id",
        "created_by_user_id",
        "sandbox_spec_id",
        "status",
        "session_api_key",
        "exposed_urls",
        "created_at",
    }
    assert (AGENT_SERVER, VSCODE) == ("AGENT_SERVER", "VSCODE")
    assert (WORKER_1, WORKER_2) == ("WORKER_1", "WORKER_2")


def test_a_status_for_each_phase() -> None:
    assert {status.value for status in SandboxStatus} == {phase.value for phase in Phase}


def test_no_key_in_repr_and_errors() -> None:
    key = "correct-horse-battery-staple-0123456789"
    info = SandboxInfo(
        id="x",
        created_by_user_id=None,
        sandbox_spec_id="i",
        status=SandboxStatus.RUNNING,
        session_api_key=key,
    )
    assert key not in repr(SandboxPage(items=[info]))
    assert info.model_dump()["session_api_key"] == key
    with pytest.raises(ValidationError) as caught:
        SandboxInfo.model_validate({"session_api_key": [key]})
    assert key not in str(caught.value)


def test_an_application_gets_neither_docker_nor_the_operator() -> None:
    code = (
        "import sys, controller.client as _; "
        "print(*{m for m in sys.modules if m.split('.')[0] in ('docker', 'kopf', 'typer')}, "
        "*{m for m in sys.modules if m.startswith(('controller.engines', 'controller.kube'))})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
