"""What can go wrong, as exceptions. None carries a session key or the value of a variable.

SandboxError
 |- SandboxNotFound     no such sandbox, or it is being deleted
 |- SandboxFailed       it cannot run: reason and message say why
 |- SandboxTimeout      not running in time; also a TimeoutError
 |- SandboxConflict     the id is taken
 |- InvalidPageId       not a page id of this service
 |- SandboxForbidden    the API server does not let this caller do it
 |- SandboxUnavailable  the API server does not answer, or not now: try again
 +- SandboxRefused      the API server refused the request: a field of the spec, most likely
"""

from __future__ import annotations

from controller.client.models import SandboxStatus


class SandboxError(Exception):
    """Base of every error of this library."""


class SandboxNotFound(SandboxError):
    """There is no such sandbox, or it is being deleted."""

    def __init__(self, sandbox_id: str, why: str = "does not exist") -> None:
        super().__init__(f"sandbox {sandbox_id!r} {why}")
        self.sandbox_id = sandbox_id


class SandboxFailed(SandboxError):
    """It is in ERROR or MISSING, so that waiting for it to run is in vain."""

    def __init__(self, sandbox_id: str, status: SandboxStatus, reason: str, message: str) -> None:
        words = f": {message}" if message else ""
        super().__init__(f"sandbox {sandbox_id!r} is in {status.value}, {reason}{words}")
        self.sandbox_id = sandbox_id
        self.status = status
        self.reason = reason
        """One word for programs, such as ImageNotFound (controller/core/reasons.py)."""
        self.message = message
        """For people: why, and what to do."""


class SandboxTimeout(SandboxError, TimeoutError):
    """It did not run within the time the caller gave."""

    def __init__(self, sandbox_id: str, seconds: float, status: SandboxStatus | None) -> None:
        seen = f"; it is {status.value}" if status is not None else ""
        super().__init__(f"sandbox {sandbox_id!r} was not running within {seconds:g} s{seen}")
        self.sandbox_id = sandbox_id
        self.status = status
        """The last one seen; None if the API server never told one."""


class SandboxConflict(SandboxError):
    """The id is taken: by another user's sandbox, another spec, or one that is being deleted."""

    def __init__(self, sandbox_id: str, why: str) -> None:
        super().__init__(f"sandbox {sandbox_id!r} {why}")
        self.sandbox_id = sandbox_id


class InvalidPageId(SandboxError):
    """The page id did not come from this service's search_sandboxes."""

    def __init__(self) -> None:
        super().__init__("the page id is not one of this service: search from the start")


class SandboxForbidden(SandboxError):
    """RBAC or authentication refuses it (401, 403). The message names verb and resource."""


class SandboxUnavailable(SandboxError):
    """No answer, or one that says: not now (429, 5xx). The request may or may not have worked."""


class SandboxRefused(SandboxError):
    """Any other refusal of the API server."""

    def __init__(self, status: int, reason: str, message: str, resume_token: str = "") -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.reason = reason
        """The API server's word, such as Invalid or AlreadyExists; empty if it gave none."""
        self.resume_token = resume_token
        """Of an expired list: where to go on, at a newer state."""
