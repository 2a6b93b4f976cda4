"""The values an application sees: same names and fields as OpenHands's app_server sandbox_models.

SandboxStatus, ExposedUrl and its standard names, SandboxInfo, SandboxPage.

Source: https://github.com/OpenHands/OpenHands, openhands/app_server/sandbox/sandbox_models.py;
DELETING is ours (OpenHands PR #12242). Not frozen, since theirs are not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

AGENT_SERVER = "AGENT_SERVER"
VSCODE = "VSCODE"
WORKER_1 = "WORKER_1"
WORKER_2 = "WORKER_2"


class SandboxStatus(Enum):
    """Where a sandbox is in its life: the operator's phases."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    ERROR = "ERROR"
    DELETING = "DELETING"
    """Reads leave such a sandbox out, so no SandboxInfo has it."""
    MISSING = "MISSING"
    """Its container is gone, by no act of the operator."""


class ExposedUrl(BaseModel):
    """Where a named port of the sandbox can be reached."""

    name: str
    """AGENT_SERVER, VSCODE, WORKER_1, WORKER_2, or any other that the spec declares."""
    url: str
    port: int
    """Port on the engine's host."""


class SandboxInfo(BaseModel):
    """One sandbox as last reported by the operator."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: str
    created_by_user_id: str | None
    sandbox_spec_id: str
    """What it was made from: the image, or the template's name."""
    status: SandboxStatus
    session_api_key: str | None = Field(repr=False)
    """The key for the header X-Session-API-Key. None while STARTING or PAUSED, when MISSING, and
    where the caller may not read the Secret that holds it."""
    exposed_urls: list[ExposedUrl] | None = None
    """None where nothing is reachable now."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class SandboxPage(BaseModel):
    """A part of a search's results."""

    items: list[SandboxInfo]
    next_page_id: str | None = None
    """For the next call; None at the end. Opaque."""
