"""The Sandbox resource as Python values: what users declare, and what the operator reports.

    Sandbox
     |- metadata: ObjectMeta
     |- spec: SandboxSpec
     |    |- env, env_from, ports, resources, volumes, security, readiness, session_key, ...
     |    |- limits()      resources.limits in the engine's units
     |    +- spec_hash()   what the container was made from
     +- status: SandboxStatus
          +- phase, container, conditions, exposed_urls, ...

`X.parse(obj)` reads the API's JSON and raises InvalidResource; `x.manifest()` writes it.
Attributes are snake_case, the JSON is camelCase. Unknown fields are ignored, so that an older
operator reads newer objects. The docstrings below are what `kubectl explain` shows, the bounds
and defaults are what the API server enforces: controller/core/crd.py derives the schema.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import re2
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from controller.core import plaintext, quantity, sizes
from controller.core.names import API_VERSION, KIND, SECRET_KEY
from controller.core.state import Limits

HASH_VERSION = "v1"
"""Prefix of `SandboxSpec.spec_hash`. A hash of another version says nothing about drift."""


MAX_INT32 = 2**31 - 1
_LONGEST_PATH = 256
"""Characters of a field's path in a message: keys of maps are part of it."""


class InvalidResource(ValueError):
    """An object that is not a valid resource. Never carries the offending value."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        """The field in the API's words, such as spec.resources.limits.memory."""
        self.message = message
        """What is wrong with it, in plain words."""


_FIELDS_SETS: dict[tuple[type, frozenset[str]], set[str]] = {}
_FIELDS_SETS_KEPT = 4096

_Interned = AfterValidator(sys.intern)
"""One text in memory for all objects that say the same."""


class Model(BaseModel):
    """Base of every part of a resource."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="after")
    def _share_fields_set(self) -> Self:
        """Pydantic gives each instance a set of the fields that were given, 700 bytes of it for
        six of them. A frozen model's never changes, so equal ones are one."""
        own = self.__pydantic_fields_set__
        key = (type(self), frozenset(own))
        if len(_FIELDS_SETS) < _FIELDS_SETS_KEPT:
            own = _FIELDS_SETS.setdefault(key, own)
        else:
            own = _FIELDS_SETS.get(key, own)
        object.__setattr__(self, "__pydantic_fields_set__", own)
        return self

    @classmethod
    def parse(cls, obj: object, at: str = "") -> Self:
        """Read the API's JSON; `at` is where in the resource it was found.

        Raises InvalidResource for the first field that does not fit.
        """
        try:
            return cls.model_validate(obj)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = at + "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in first["loc"])
        # Raised outside the except block: the original names values that may be secret.
        raise InvalidResource(path.lstrip(".")[:_LONGEST_PATH], _plain(first["type"], first["msg"]))

    def manifest(self) -> dict[str, Any]:
        """The API's JSON form; what is None is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


_WORDS = {
    "missing": "is required",
    "tuple_type": "should be a list",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "string_type": "should be a text",
}
_SUBJECTS = ("Value error, ", "Input ", "String ", "Tuple ", "Dictionary ")


def _plain(kind: str, message: str) -> str:
    """Pydantic's message without its vocabulary, to be read after the field's path."""
    for subject in _SUBJECTS:
        message = message.removeprefix(subject)
    return _WORDS.get(kind, message)


# --- Kinds of values -------------------------------------------------------------------------

_X = r"[^./:\\\x00-\x1f\x7f-\x9f]"  # of a file's name
_U = r"[^./#\\\x00-\x20\x7f-\x9f]"  # of a URL's path

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
# Every segment holds something beside dots, and no two dots in a row: so no "..", no "//".
MOUNT_PATH = rf"^(/(\.?{_X})+\.?)+$"
DIRECTORY = rf"^(/(\.?{_X})+\.?)*/?$"
URL_PATH = rf"^(/(\.?{_U})+\.?)*/?$"
LABEL_KEY = r"^[A-Za-z0-9][-._/A-Za-z0-9]*$"
_LABEL_KEY = re2.compile(LABEL_KEY)


def _all_visible(text: str) -> str:
    # By the pattern and not by `visible`, so that it is what the API server asks for.
    if not (text.isascii() and text.isprintable()) and not (
        _SEEN.fullmatch(text) and _NOT_HIDDEN.fullmatch(text)
    ):
        raise ValueError("should have no control, format or other invisible characters")
    return text


_SEEN, _NOT_HIDDEN = re2.compile(plaintext.SEEN), re2.compile(plaintext.NOT_HIDDEN)
_VISIBLE = (
    Field(
        json_schema_extra={
            "allOf": [{"pattern": plaintext.SEEN}, {"pattern": plaintext.NOT_HIDDEN}]
        }
    ),
    AfterValidator(_all_visible),
)
"""For every text that is shown to people: terminals, kubectl's columns, messages, URLs."""

Label = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
EntryName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
EnvName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][-._A-Za-z0-9]*$")]
# Upper case and underscores too: AGENT_SERVER and WORKER_1 are the standard names.
PORT_NAME = r"^[A-Za-z][-_A-Za-z0-9]*$"
_PORT_NAME = re2.compile(PORT_NAME)
PortName = Annotated[str, Field(min_length=1, max_length=63, pattern=PORT_NAME)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
CommandWord = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Argument = Annotated[str, Field(max_length=sizes.MAX_STRING_BYTES, pattern=r"^[^\x00]*$")]
LabelValue = Annotated[str, Field(max_length=253), *_VISIBLE]
# A status is read whatever stands in it, and is written without what is hidden: see decide.
_SHOWN = Field(json_schema_extra={"pattern": plaintext.NOT_HIDDEN})
Word = Annotated[str, Field(max_length=253), _SHOWN]


def _read_quantity(value: object) -> str | int:
    if not isinstance(value, str | int):
        raise ValueError("should be a text or a whole number")
    quantity.parse(value)
    return value


Quantity = Annotated[
    str | int,
    PlainValidator(_read_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": quantity.PATTERN,
            "maxLength": quantity.MAX_LENGTH,
        }
    ),
]


def _read_port(value: object) -> str | int:
    name = value if isinstance(value, str) and len(value) <= 63 and value.isascii() else ""
    if _PORT_NAME.fullmatch(name):
        return name
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 65535:
        return value
    raise ValueError("should be the name of a port, or a number from 1 to 65535")


PortRef = Annotated[
    str | int,
    PlainValidator(_read_port),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": PORT_NAME,
            "maxLength": 63,
        }
    ),
]


def _rfc3339(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def _near(moment: datetime) -> datetime:
    # Python's dates end with the year 9999: beyond these no deadline could be reckoned from it.
    if not 1000 <= moment.year < 9000:
        raise ValueError("should be between the years 1000 and 9000")
    return moment


Timestamp = Annotated[
    AwareDatetime, AfterValidator(_near), PlainSerializer(_rfc3339, when_used="json")
]
"""RFC 3339 with Z; whole seconds from the API server, microseconds where we write them."""


KERNEL_PATHS = ("/dev", "/proc", "/sys")
"""What shows the kernel and its devices: while a container starts, files of the host are open
there, and what the runtime opens there is the host's (CVE-2025-31133)."""
ENGINE_FILES = (
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/sbin/docker-init",
    "/.dockerenv",
    "/run/secrets",
)
"""What an engine mounts or makes by itself in every container, or in some."""


def _outside(paths: tuple[str, ...]) -> AfterValidator:
    def check(path: str) -> str:
        for place in paths:
            if f"{path}/".startswith(f"{place}/"):
                raise ValueError(f"should not be in {place}")
        return path

    return AfterValidator(check)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if not all(len(key) <= 253 and key.isascii() and _LABEL_KEY.fullmatch(key) for key in labels):
        raise ValueError("should have keys of 253 letters, digits, '-', '.', '_' and '/' at most")
    return labels


def _cut(limit: int) -> BeforeValidator:
    """What an engine says may be long: it is shortened, since refusing it would lose the status."""
    return BeforeValidator(
        lambda text: (
            text[: limit - 1] + "…" if isinstance(text, str) and len(text) > limit else text
        )
    )


# --- spec ------------------------------------------------------------------------------------


class SecretKeyRef(Model):
    """One entry of a Secret in the Sandbox's namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: EntryName
    """The entry in the Secret's data."""
    optional: bool = False
    """If true, the variable is left out where the Secret or the entry does not exist. If false,
    the Sandbox waits for it."""


class EnvVarSource(Model):
    """Where the value of an environment variable comes from."""

    secret_key_ref: SecretKeyRef
    """Take the value from an entry of a Secret in the same namespace."""


class EnvVar(Model):
    """An environment variable of the container. Set exactly one of value and valueFrom."""

    name: EnvName
    """Name of the variable: letters, digits, '_', '-' and '.'; the first a letter or '_'."""
    value: str | None = Field(default=None, max_length=32768, pattern=r"^[^\x00]*$", repr=False)
    """The value, taken literally: $(NAME) is not expanded. Whoever may read the Sandbox reads it;
    use valueFrom for what is secret."""
    value_from: EnvVarSource | None = None
    """Where to take the value from."""


class LocalRef(Model):
    """A Secret or ConfigMap in the Sandbox's namespace."""

    name: ObjectName
    """Name of the object."""
    optional: bool = False
    """If true, it may be missing. If false, the Sandbox waits for it."""


class EnvFromSource(Model):
    """A source of many environment variables. Set exactly one of secretRef and configMapRef."""

    prefix: Annotated[str, Field(max_length=253, pattern=r"^([A-Za-z_][-._A-Za-z0-9]*)?$")] = ""
    """Put before the name of every variable."""
    secret_ref: LocalRef | None = None
    """Every entry of this Secret becomes a variable."""
    config_map_ref: LocalRef | None = None
    """Every entry of this ConfigMap becomes a variable."""


class Port(Model):
    """A port that the container listens on. It is published and reported in status.exposedUrls."""

    name: PortName
    """Name of the port and of its URL. OpenHands knows AGENT_SERVER, VSCODE, WORKER_1 and
    WORKER_2; any other may be declared."""
    container_port: PortNumber
    """Port inside the container, 1 to 65535."""
    scheme: Literal["http", "https"] = "http"
    """Scheme of the reported URL, and of the readiness probe on this port."""
    path: Annotated[str, Field(max_length=256, pattern=URL_PATH), *_VISIBLE] = ""
    """Path of the reported URL, absolute, without '..'. Empty for none."""
    host_port: PortNumber | None = None
    """Port on the engine's host. Leave it unset: the engine then chooses a free one. The
    operator's settings must allow a fixed one."""


class ResourceLimits(Model):
    """The most a container may use. A limit may be added, and its size may change while the
    container runs; removing one needs a new Sandbox."""

    cpu: Quantity | None = None
    """CPU time in cores, such as 500m (half a core) or 2. Without it, no limit but the operator's
    default."""
    memory: Quantity | None = None
    """Memory in bytes, such as 512Mi or 2Gi; beyond it the container is OOM-killed. Without it,
    the operator's default applies."""
    pids: Annotated[int, Field(ge=1, le=4194304)] | None = None
    """Processes and threads, 1 to 4194304. Without it, the operator's default applies."""


class Resources(Model):
    """Compute resources of the container."""

    limits: ResourceLimits = ResourceLimits()
    """The most the container may use."""


class ManagedVolume(Model):
    """A volume that the operator creates for this Sandbox. At first it holds what the image has at
    its mountPath."""

    reclaim_policy: Literal["Delete", "Retain"] = "Delete"
    """What becomes of the volume when the Sandbox is deleted: Delete removes it and its data,
    Retain keeps it on the engine for an administrator."""


class Volume(Model):
    """A volume and where it is mounted. Exactly one source is set; managed is the only one now."""

    name: Label
    """Name of the volume within the Sandbox: lower-case letters, digits and '-'."""
    mount_path: Annotated[
        str,
        Field(min_length=1, max_length=1024, pattern=MOUNT_PATH),
        *_VISIBLE,
        _outside((*KERNEL_PATHS, *ENGINE_FILES)),
    ]
    """Where it appears in the container: absolute, without '..', ':' or a '/' at the end, and not
    in /dev, /proc, /sys or at a file that the engine mounts itself, such as /etc/hosts. A path that
    leads there through a symbolic link is refused when the container starts."""
    read_only: bool = False
    """Mount it read-only."""
    managed: ManagedVolume | None = None
    """Source: a volume that the operator creates and keeps for the life of the Sandbox, also over
    a recreation of the container."""

    @model_validator(mode="after")
    def _has_a_known_source(self) -> Self:
        # A newer operator's source: without this, an older one would start without the volume.
        if self.managed is None:
            raise ValueError("has no source that this operator knows: set managed")
        return self

    @property
    def retained(self) -> bool:
        """It outlives the Sandbox."""
        return self.managed is not None and self.managed.reclaim_policy == "Retain"


class Security(Model):
    """Isolation of the container. Without any of it: no new privileges, capabilities dropped."""

    runtime: (
        Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-._A-Za-z0-9]*$")]
        | None
    ) = None
    """The engine's OCI runtime, such as runsc (gVisor). The engine must have it and the operator's
    settings must allow it. Without it, the engine's default."""


class HttpGet(Model):
    """An HTTP GET to the container; a status from 200 to 399 is a success. Redirects are not
    followed."""

    path: Annotated[str, Field(max_length=1024, pattern=URL_PATH), *_VISIBLE] = "/"
    """Path to get, absolute, without '..'."""
    port: PortRef
    """A port out of spec.ports: its name, or its containerPort."""


class Readiness(Model):
    """When the Sandbox counts as ready. Without it, it is ready as soon as it runs."""

    http_get: HttpGet
    """Ready means that this HTTP GET succeeds."""
    startup_deadline_seconds: Annotated[int, Field(ge=1, le=86400)] = 120
    """Seconds from each start or resume until the first success, 1 to 86400. After that the phase
    is ERROR; it heals if the probe succeeds later."""
    period_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    """Seconds between two probes, 1 to 3600."""
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 2
    """Seconds until a probe without an answer has failed, 1 to 60."""
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """Failures in a row, 1 to 100, that make a ready Sandbox not ready (phase ERROR)."""


class SessionKeySecretRef(Model):
    """The entry of a Secret that holds the session key."""

    name: ObjectName
    """Name of the Secret, in the Sandbox's namespace."""
    key: EntryName = SECRET_KEY
    """The entry in the Secret's data."""


class SessionKey(Model):
    """The key that a client presents to the server in the sandbox."""

    mode: Literal["Generate", "SecretRef", "None"] = "Generate"
    """Generate: the operator makes a key and keeps it in a Secret (status.sessionApiKeySecretRef).
    SecretRef: the key is in a Secret of yours. None: there is no key."""
    secret_ref: SessionKeySecretRef | None = None
    """Where the key is, with mode SecretRef only. It must have 32 characters or more."""
    env_names: Annotated[tuple[EnvName, ...], Field(min_length=1, max_length=8)] = (
        "OH_SESSION_API_KEYS_0",
    )
    """Environment variables that the container gets the key under."""


class TemplateRef(Model):
    """A SandboxTemplate in the Sandbox's namespace."""

    name: Label
    """Name of the SandboxTemplate."""


class SandboxSpec(Model):
    """What is wished. operatingMode may change, limits may be added and resized; everything else
    is fixed when the Sandbox is created."""

    image: (
        Annotated[
            str,
            Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9\[][-._:/@\[\]A-Za-z0-9]*$"),
        ]
        | None
    ) = None
    """Image of the container, such as ghcr.io/openhands/agent-server:latest-python. Required."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the engine pulls the image before it creates the container: Always, IfNotPresent or
    Never."""
    command: Annotated[tuple[CommandWord, ...], Field(max_length=64)] | None = None
    """Replaces the image's entrypoint, and with it the image's arguments. Not run in a shell;
    $(NAME) is not expanded."""
    args: Annotated[tuple[Argument, ...], Field(max_length=256)] | None = None
    """Replaces the image's arguments. Not for secrets: process lists show it."""
    working_dir: (
        Annotated[
            str,
            Field(min_length=1, max_length=1024, pattern=DIRECTORY),
            *_VISIBLE,
            _outside(KERNEL_PATHS),
        ]
        | None
    ) = None
    """Directory that the container starts in, absolute, not in /dev, /proc or /sys. Without it, the
    image's."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=256)] = ()
    """Environment variables. They win over those of envFrom."""
    env_from: Annotated[tuple[EnvFromSource, ...], Field(max_length=16)] = ()
    """Secrets and ConfigMaps whose entries become environment variables; the last one wins."""
    ports: Annotated[tuple[Port, ...], Field(max_length=32)] = ()
    """Ports that are published on the engine's host."""
    resources: Resources = Resources()
    """Compute resources of the container."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32)] = ()
    """Volumes, each with its place in the container."""
    security: Security = Security()
    """Isolation of the container."""
    readiness: Readiness | None = None
    """When the Sandbox counts as ready. Without it, it is ready as soon as it runs."""
    operating_mode: Literal["Running", "Paused"] = "Running"
    """Whether the container is to run: Running or Paused. May change at any time."""
    pause_method: Literal["Freeze", "Stop"] = "Freeze"
    """How it is paused. Freeze keeps its processes in memory, and they go on when it is resumed.
    Stop ends them and keeps the filesystem."""
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    """What to do when the container exits by itself: start it again Always, OnFailure (an exit
    code other than 0) or Never. Repeated restarts are spaced out."""
    on_missing: Literal["Report", "Recreate"] = "Report"
    """What to do when someone else removed the container: Report it (phase MISSING) or Recreate
    it, with the same volumes and session key."""
    session_key: SessionKey = SessionKey()
    """The key that a client presents to the server in the sandbox."""
    created_by_user_id: Annotated[str, Field(min_length=1, max_length=253), *_VISIBLE] | None = None
    """The user this Sandbox is for, as the application that created it says; not verified. Select
    by it: --field-selector spec.createdByUserId=ID."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=3600)] = 10
    """Seconds, 0 to 3600, from the stop signal to the kill when the Sandbox is stopped or
    deleted."""
    labels: Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_labels)] = Field(
        default_factory=dict
    )
    """Labels of the container on the engine: only keys that the operator's settings allow, and its
    own labels win. Keys are letters, digits, '-', '.', '_' and '/', 253 at most."""
    template_ref: TemplateRef | None = None
    """Reserved: templates come in a later version. Set image instead."""

    def limits(self) -> Limits:
        """resources.limits in the engine's units. Raises InvalidResource."""
        asked = self.resources.limits
        at = "spec.resources.limits"
        try:
            cpu = None if asked.cpu is None else quantity.millis(asked.cpu)
        except ValueError as error:
            raise InvalidResource(f"{at}.cpu", str(error)) from None
        try:
            memory = None if asked.memory is None else quantity.units(asked.memory)
        except ValueError as error:
            raise InvalidResource(f"{at}.memory", str(error)) from None
        return Limits(cpu_millis=cpu, memory_bytes=memory, pids=asked.pids)

    def check_sizes(self) -> None:
        """Whether an execve could take command, args and env. Raises InvalidResource."""
        total = 0
        for field, arguments in (("command", self.command), ("args", self.args)):
            for i, argument in enumerate(arguments or ()):
                total += _counted(f"spec.{field}[{i}]", argument)
        for variable in self.env:
            at = f"spec.env[{variable.name}]"
            named = _counted(at, f"{variable.name}={variable.value or ''}")
            total += named - sizes.size(variable.name) - 1
        if total > sizes.MAX_ENVIRONMENT_BYTES:
            raise InvalidResource(
                "spec.env",
                f"command, args and the values of env have {total} bytes together, and"
                f" {sizes.MAX_ENVIRONMENT_BYTES} are allowed: put files into the image or a volume",
            )

    def spec_hash(self) -> str:
        """What the container was made from, as "v1-" and 16 hex digits of SHA-256.

        Covers the fields that are set to something other than their default, so that a new
        field changes no hash, without those that take effect on a living container: see
        `_IN_PLACE`. Labels are covered, since the engine's never change. The order of list maps
        and sets is not, as it is not for the API server. Of a Secret only its name is in the
        spec, so no resolved value is ever part of it.
        """
        set_fields = self.model_dump(
            mode="json", by_alias=True, exclude_defaults=True, exclude=_IN_PLACE
        )
        for field in ("env", "ports", "volumes"):
            if field in set_fields:
                set_fields[field].sort(key=lambda entry: entry["name"])
        if env_names := set_fields.get("sessionKey", {}).get("envNames"):
            env_names.sort()
        if not any(set_fields.get("resources", {}).values()):
            set_fields.pop("resources", None)
        text = json.dumps(set_fields, sort_keys=True, separators=(",", ":"))
        return f"{HASH_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _counted(at: str, text: str) -> int:
    """Its bytes. Raises InvalidResource where they are too many for one string."""
    found = sizes.size(text)
    if found > sizes.MAX_STRING_BYTES:
        raise InvalidResource(
            at,
            f"has {found} bytes, and {sizes.MAX_STRING_BYTES} are allowed: put files into the"
            " image or a volume",
        )
    return found


_IN_PLACE: Any = {
    # The operator itself acts on these; the container is the same with any value of them.
    "image_pull_policy": True,
    "readiness": True,
    "operating_mode": True,
    "pause_method": True,
    "restart_policy": True,
    "on_missing": True,
    "created_by_user_id": True,
    "template_ref": True,
    # The engine changes these on a running container; a limit that it cannot is covered.
    "resources": {"limits": {"cpu", "memory", "pids"}},
}


# --- status ----------------------------------------------------------------------------------


class Phase(StrEnum):
    """Where a Sandbox is in its life."""

    STARTING = "STARTING"
    """Wished running, not yet ready, still within its startup deadline."""
    RUNNING = "RUNNING"
    """Running, and ready."""
    PAUSED = "PAUSED"
    """Wished paused, and frozen, or stopped by this operator."""
    ERROR = "ERROR"
    """Cannot start, exited, OOM-killed, or not ready past its deadline."""
    DELETING = "DELETING"
    """Deletion was asked for; stays until the object is gone."""
    MISSING = "MISSING"
    """Its container existed and is gone, by no act of this operator, and onMissing is Report."""


class ExposedUrl(Model):
    """Where a declared port can be reached from outside."""

    name: PortName
    """Name of the port in spec.ports."""
    url: Annotated[str, Field(max_length=2048), _SHOWN]
    """URL for clients."""
    port: PortNumber
    """Port on the engine's host."""


class SecretEntry(Model):
    """One entry of a Secret in the Sandbox's namespace."""

    name: ObjectName
    """Name of the Secret."""
    key: EntryName
    """The entry in the Secret's data."""


class ContainerStatus(Model):
    """The container as last seen."""

    id: Word
    """The engine's ID of the container. Stored means: it existed."""
    engine_id: Word = ""
    """ID of the engine that has it."""
    name: Word = ""
    """The engine's name of the container."""
    image_id: Word = ""
    """The engine's ID of the image it was created from."""
    started_at: Timestamp | None = None
    """When it was started last."""
    finished_at: Timestamp | None = None
    """When its last run ended."""
    exit_code: Annotated[int, Field(ge=-(2**31), le=MAX_INT32)] | None = None
    """Exit code of its last run that ended."""
    reason: Word = ""
    """Why its last run ended, such as OOMKilled."""
    restart_count: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """How often the operator started it again after it had exited by itself."""


class Suspended(Model):
    """The operator paused the Sandbox by a policy; a later resume request overrides it."""

    reason: Word
    """Idle or Quota."""
    at: Timestamp
    """When."""


class Pausing(Model):
    """The operator is stopping this container in order to pause it."""

    container_id: Word
    """The engine's ID of the container."""
    at: Timestamp
    """When."""


class Condition(Model):
    """One aspect of the state, as in other Kubernetes resources."""

    type: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[A-Za-z][-._/A-Za-z0-9]*$"),
        _Interned,
    ]
    """Ready, Available, Reconciling, Stalled or EngineReachable."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
        _Interned,
    ]
    """Why, as one word for programs."""
    message: Annotated[
        str, Field(max_length=plaintext.MESSAGE_LENGTH), _SHOWN, _cut(plaintext.MESSAGE_LENGTH)
    ] = ""
    """Why, and what to do, for people."""
    last_transition_time: Timestamp
    """When status changed last."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """metadata.generation that this was found for."""


class SandboxStatus(Model):
    """What the operator last saw and did."""

    phase: Phase = Phase.STARTING
    """STARTING, RUNNING, PAUSED, ERROR, DELETING or MISSING. The condition Ready says why."""
    sandbox_spec_id: Annotated[str, Field(max_length=512), _SHOWN] = ""
    """What it was made from, in OpenHands' sense: the template's name, or the image."""
    created_by_user_id: Word = ""
    """Copy of spec.createdByUserId."""
    created_at: Timestamp | None = None
    """When the Sandbox was created."""
    exposed_urls: Annotated[tuple[ExposedUrl, ...], Field(max_length=32)] = ()
    """Where the declared ports can be reached, while the Sandbox runs."""
    session_api_key_secret_ref: SecretEntry | None = None
    """Where the session key is, for those who may read Secrets."""
    container: ContainerStatus | None = None
    """The container as last seen; it stays when the container is gone."""
    suspended: Suspended | None = None
    """Set while the operator paused the Sandbox by a policy, without changing spec."""
    pausing: Pausing | None = None
    """Set before the operator stops a container to pause it: an exit then is no error."""
    last_activity_at: Timestamp | None = None
    """When the sandbox was last seen in use."""
    expires_at: Timestamp | None = None
    """When the Sandbox will be deleted, where it has a lifetime."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Ready: it is as wished (also when paused so). Available: it answers requests now.
    Reconciling: the operator is at work. Stalled: it cannot go on without a change.
    EngineReachable: the engine answers."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """metadata.generation that this status was found for."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((c for c in self.conditions if c.type == type_), None)


# --- the object ------------------------------------------------------------------------------


class ObjectMeta(Model):
    """The part of an object's metadata that the operator uses. Not in the CRD's schema: the API
    server knows metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    finalizers: tuple[str, ...] = ()
    finalizers_cut: bool = False
    """There are more finalizers than are kept here: others' are left out. Not of the API."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Sandbox(Model):
    """A sandbox: one container for an AI agent, declared here and run by the operator."""

    metadata: ObjectMeta
    spec: SandboxSpec
    status: SandboxStatus = SandboxStatus()

    def manifest(self) -> dict[str, Any]:
        """The whole object as the API's JSON; what metadata does not set is left out."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": self.metadata.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "spec": self.spec.manifest(),
            "status": self.status.manifest(),
        }
