"""What was seen: values that the engines and the API report and `decide` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controller.core.reasons import Reason


class Run(StrEnum):
    """What a container does. Docker's `restarting` never occurs: our containers never have a
    restart policy; its `removing` and `dead` count as EXITED (a removal is repeated)."""

    CREATED = "Created"
    RUNNING = "Running"
    FROZEN = "Frozen"
    EXITED = "Exited"


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits; None is no limit. Sizes in millicores, bytes and processes."""

    cpu_millis: int | None = None
    memory_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine tells it."""

    id: str
    name: str
    run: Run
    image_id: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    """Last start; None where it never started."""
    finished_at: datetime | None = None
    exit_code: int | None = None
    """Of the last run that ended; None while it runs or where it never started."""
    oom_killed: bool = False
    error: str = ""
    """The engine's word on why it could not start."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Container port -> host port, while it runs."""
    spec_hash: str = ""
    stop_grace_seconds: int = 10
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Holdings:
    """Everything of one Sandbox UID that an engine holds."""

    container: Container | None = None
    volumes: tuple[str, ...] = ()
    """The engine's names of managed volumes to be deleted with the Sandbox."""
    retained: tuple[str, ...] = ()
    """Those whose reclaimPolicy is Retain: they outlive the Sandbox and never hold its deletion."""
    namespace: str = ""
    name: str = ""

    @property
    def empty(self) -> bool:
        """Nothing is left that deletion must remove."""
        return self.container is None and not self.volumes


class SecretState(StrEnum):
    """What is known of the Secret that the operator generates for a Sandbox."""

    UNKNOWN = "Unknown"
    ABSENT = "Absent"
    PRESENT = "Present"


class Verb(StrEnum):
    """What an operation does at the engine."""

    OBSERVE = "Observe"
    RUN = "Run"
    """Pull if need be, create and start."""
    START = "Start"
    SIGNAL_STOP = "SignalStop"
    KILL = "Kill"
    FREEZE = "Freeze"
    THAW = "Thaw"
    UPDATE_LIMITS = "UpdateLimits"
    READ_KEY = "ReadKey"
    """Read the session key back from the container's environment."""
    CLEAN = "Clean"
    """Remove the container by force, then the managed volumes that are to be deleted."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last attempt at something for a Sandbox failed."""

    verb: Verb | None
    """None: it was no engine's, but to make or to delete the Secret."""
    reason: Reason
    message: str
    retry_at: datetime
    attempts: int = 1
    silent: bool = False
    """There was no answer: nothing to report yet."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the readiness probe of the present run of the container has found."""

    ready: bool
    """The latest answer was good."""
    failing: bool
    """failureThreshold answers in a row were not."""


@dataclass(frozen=True, slots=True)
class EngineView:
    """Whether the engine can be believed."""

    id: str | None = None
    """The engine that answered last; None before the first answer."""
    unreachable_since: datetime | None = None
    """Start of the present outage, None while it answers."""
    accepted_ids: frozenset[str] = frozenset()
    """Earlier engines whose containers the operator's settings declare gone."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was observed about one Sandbox, beside the object itself."""

    engine: EngineView
    holdings: Holdings | None = None
    """None: not known, because the engine is away or was not asked yet."""
    fresh: bool = False
    """`holdings` were listed after the last operation ended and after deletion was seen."""
    secret: SecretState = SecretState.UNKNOWN
    busy: Verb | None = None
    """The operation in flight."""
    pulling: bool = False
    """The operation in flight waits for an image."""
    signalled: str | None = None
    """`started_at` identity of the run that was sent its stop signal: `run_id`."""
    signalled_at: datetime | None = None
    failure: Failure | None = None
    """Of the last attempt at the engine."""
    refusal: Failure | None = None
    """Of the last attempt at the Secret: apart, or each would end the other's backoff."""
    probe: Probe | None = None


def run_id(container: Container) -> str:
    """Identifies one run of one container: a restart makes another."""
    return f"{container.id}@{container.started_at.isoformat() if container.started_at else ''}"
