"""The reasons of conditions and Events: one enum, part of the API."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a phase is what it is. Values are stable; new ones are added, none change meaning."""

    @classmethod
    def _missing_(cls, value: object) -> Reason:
        """Of another writer, or a newer version: it explains nothing here."""
        return cls.PENDING

    # On the way to running.
    PENDING = "Pending"
    CREATING = "Creating"
    PULLING = "Pulling"
    WAITING_FOR_READINESS = "WaitingForReadiness"
    RESTARTING = "Restarting"
    RECREATING = "Recreating"
    RESUMING = "Resuming"
    # At rest, as wished.
    READY = "Ready"
    FROZEN = "Frozen"
    STOPPED = "Stopped"
    NOT_STARTED = "NotStarted"
    MEMORY_LOST = "MemoryLost"
    # On the way to paused or gone.
    PAUSING = "Pausing"
    DELETING = "Deleting"
    CLEANUP_FAILED = "CleanupFailed"
    # The container is not what was wished.
    COMPLETED = "Completed"
    EXITED = "Exited"
    OOM_KILLED = "OOMKilled"
    START_FAILED = "StartFailed"
    STARTUP_DEADLINE_EXCEEDED = "StartupDeadlineExceeded"
    NOT_READY = "NotReady"
    PAUSED_EXTERNALLY = "PausedExternally"
    CONTAINER_MISSING = "ContainerMissing"
    # What the engine or the API refused.
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    INVALID_SPEC = "InvalidSpec"
    NOT_ALLOWED = "NotAllowed"
    PORT_IN_USE = "PortInUse"
    RUNTIME_NOT_FOUND = "RuntimeNotFound"
    NAME_CONFLICT = "NameConflict"
    ENGINE_REFUSED = "EngineRefused"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    SECRET_NAME_TAKEN = "SecretNameTaken"  # noqa: S105
    SESSION_KEY_TOO_SHORT = "SessionKeyTooShort"
    API_REFUSED = "ApiRefused"
    OBJECT_TOO_LARGE = "ObjectTooLarge"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    # The engine as a whole.
    ENGINE_REACHABLE = "EngineReachable"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    ENGINE_CHANGED = "EngineChanged"
    ENGINE_OUTDATED = "EngineOutdated"


class ConditionType(StrEnum):
    """The types of conditions in a Sandbox's status."""

    READY = "Ready"
    """It is as wished: also when it is PAUSED and wished so."""
    AVAILABLE = "Available"
    """It answers requests now."""
    RECONCILING = "Reconciling"
    """The operator is at work (kstatus)."""
    STALLED = "Stalled"
    """It is not as wished, and work has not helped (kstatus)."""
    ENGINE_REACHABLE = "EngineReachable"
