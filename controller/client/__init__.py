"""The library for applications: sandboxes by id, asynchronously, over the Kubernetes API.

    models.py   the values, by the names that OpenHands's app_server knows
    service.py  KubernetesSandboxService: search, get, start, pause, resume, delete, wait
    errors.py   what can go wrong; no error carries a key
    ids.py      an application's id <-> the object's name

Inside: api.py (requests and watches), connection.py (which cluster), objects.py (the API's JSON
as values), keys.py (session keys), paging.py (page ids), following.py (one object as it changes).

    async with KubernetesSandboxService("agents", default_spec={"image": IMAGE}) as service:
        sandbox = await service.start_sandbox(created_by_user_id="alice")
        sandbox = await service.wait_for_sandbox_running(sandbox.id)
"""

from controller.client.errors import (
    InvalidPageId,
    SandboxConflict,
    SandboxError,
    SandboxFailed,
    SandboxForbidden,
    SandboxNotFound,
    SandboxRefused,
    SandboxTimeout,
    SandboxUnavailable,
)
from controller.client.models import (
    AGENT_SERVER,
    VSCODE,
    WORKER_1,
    WORKER_2,
    ExposedUrl,
    SandboxInfo,
    SandboxPage,
    SandboxStatus,
)
from controller.client.service import KubernetesSandboxService

__all__ = [
    "AGENT_SERVER",
    "VSCODE",
    "WORKER_1",
    "WORKER_2",
    "ExposedUrl",
    "InvalidPageId",
    "KubernetesSandboxService",
    "SandboxConflict",
    "SandboxError",
    "SandboxFailed",
    "SandboxForbidden",
    "SandboxInfo",
    "SandboxNotFound",
    "SandboxPage",
    "SandboxRefused",
    "SandboxStatus",
    "SandboxTimeout",
    "SandboxUnavailable",
]
