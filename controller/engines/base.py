"""The container engine in the operator's words.

`Engine` is the interface; `ContainerSpec` is what is asked of it, `Container` and `Holdings`
are what is seen of it, `EngineEvent` is what it tells by itself, and the exceptions are

    EngineError
     |- EngineUnreachable   no answer, or none in time: the outcome is unknown, observe again
     +- EngineRefused       the engine said no, and why: reason, message
         +- PullTooSlow     a pull was given up because it hardly moved

Every verb is safe to repeat: removing what is gone and starting what runs succeed. To end what is
gone (signal_stop, kill, remove) succeeds too; to use it gives EngineRefused(CONTAINER_MISSING).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.core.state import Container, Holdings, Limits


class EngineError(Exception):
    """What went wrong at the engine. Never carries a secret value."""


class EngineUnreachable(EngineError):
    """The engine gave no answer in time; whether the call took effect is unknown."""


class EngineRefused(EngineError):
    """The engine answered no."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class PullTooSlow(EngineRefused):
    """A pull was given up: its registry was too slow, and others wait."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Which engine answers."""

    id: str
    """Stays the same over restarts of the engine; another ID is another engine."""
    version: str
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortSpec:
    name: str
    container_port: int
    host_port: int | None = None
    """None: the engine chooses one."""


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    name: str
    """The name in the Sandbox's spec; the engine's name is `names.volume_name(uid, name)`."""
    mount_path: str
    read_only: bool = False
    retain: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All that one container is made of. `repr` leaves the environment's values out."""

    uid: str
    namespace: str
    name: str
    """The Sandbox's name; also the container's host name."""
    image: str
    spec_hash: str
    stop_grace_seconds: int
    env: Mapping[str, str] = field(repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values of `env` that no error may repeat."""
    command: Sequence[str] | None = None
    """Kubernetes' meaning: replaces the image's entrypoint (and with it the image's arguments)."""
    args: Sequence[str] | None = None
    working_dir: str | None = None
    ports: tuple[PortSpec, ...] = ()
    publish_address: str = "127.0.0.1"
    volumes: tuple[VolumeSpec, ...] = ()
    limits: Limits = field(default_factory=Limits)
    runtime: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """The user's labels; those of the operator are added by the engine and win."""
    allowed_labels: tuple[str, ...] = ()
    """Patterns of the labels that a container may have from its image."""


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something happened to a container of this owner."""

    uid: str
    container_id: str
    action: str
    """create, start, die, oom, pause, unpause, destroy, ... : Docker's words."""


class Engine(Protocol):
    """A container engine. Every verb but `pull` and `events` ends within the engine's timeout.

    Raises EngineUnreachable or EngineRefused from every verb. An engine object sees and touches
    only what carries its owner's label (invariant 9).
    """

    owner: Owner

    async def identify(self) -> EngineInfo:
        """Ask the engine who it is."""

    async def list(self, known: Mapping[str, Holdings] | None = None) -> Mapping[str, Holdings]:
        """Everything of this owner, by Sandbox UID, in full detail.

        An entry of `known` (seen earlier) may be returned again where the listing shows a
        container of the same ID and run state, and the same volumes; this spares an inspection
        each. The network that all sandboxes of the owner share belongs to no UID and is not listed.
        """

    async def find(self, uid: str) -> Holdings:
        """A fresh listing of everything of one UID (empty Holdings where nothing is)."""

    async def inspect(self, container_id: str) -> Container | None:
        """One container as it is now; None where it is gone. Cheaper than `find`, and says
        nothing of volumes."""

    async def create(self, spec: ContainerSpec) -> str:
        """Create the container, not started, its volumes and, if need be, the shared network.

        Returns the container's ID. A container of that name that carries the same UID and owner
        is adopted; another's gives EngineRefused(NAME_CONFLICT). A missing image gives
        EngineRefused(IMAGE_NOT_FOUND): creating never pulls.
        """

    async def start(self, container_id: str) -> None:
        """Start a created or exited container; a frozen one gives EngineRefused(START_FAILED)."""

    async def signal_stop(self, container_id: str) -> None:
        """Send the container's stop signal and return; a frozen one is thawed so as to hear it."""

    async def kill(self, container_id: str) -> None:
        """Kill the container's processes at once; the container stays."""

    async def freeze(self, container_id: str) -> None:
        """Freeze its processes; where none run, EngineRefused(EXITED)."""

    async def thaw(self, container_id: str) -> None:
        """Let them go on; a running one is left alone, where none run: EngineRefused(EXITED)."""

    async def update_limits(self, container_id: str, limits: Limits) -> None:
        """Change the limits of a container in place, running or not."""

    async def remove(self, container_id: str) -> None:
        """Remove the container by force, running or not, with its anonymous volumes."""

    async def remove_volume(self, volume: str) -> None:
        """Remove one managed volume, by the engine's name for it."""

    async def environment(self, container_id: str) -> Mapping[str, str]:
        """The environment that the container was created with: it holds the session key."""

    async def advisories(self) -> tuple[str, ...]:
        """What an administrator should know of the engine: each a sentence, and what to do."""

    async def image_present(self, image: str) -> bool: ...

    async def pull(self, image: str) -> None:
        """Pull an image. May take minutes; cancelling the task ends the pull. One that is too slow
        ends with PullTooSlow."""

    def events(self) -> AsyncGenerator[EngineEvent | None, None]:
        """Container events of this owner from now on.

        Yields None once connected: from there on nothing is missed, so the caller lists then.
        What happened in the second before may be told too, and an event may be told twice.
        Ends with EngineUnreachable when the stream breaks.
        """

    async def close(self) -> None: ...
