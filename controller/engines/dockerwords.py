"""Docker's JSON and Docker's errors in the operator's words, and back. Pure functions, no I/O.

Asked of Docker:   container_body, volume_labels, limits_body
Told by Docker:    container, run_state, listed_ports, holdings_volumes, event, image_reference
Refused by Docker: refusal (a sentence that names the field to change), told, plain, lost_engine
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import re2

from controller.core import globs, names, quantity, sizes
from controller.core.discretion import MAX_TEXT, WITHHELD, repeats
from controller.core.names import Owner
from controller.core.plaintext import one_line
from controller.core.reasons import Reason
from controller.core.state import Container, Limits, Run
from controller.engines.base import (
    ContainerSpec,
    EngineEvent,
    EngineRefused,
    PullTooSlow,
    VolumeSpec,
)

CPU_PERIOD_US = 100_000
"""Limits are set as quota and period, not NanoCpus, which Docker cannot lift again in place."""

NO_MEMORY_LIMIT = quantity.LIMIT
"""Docker cannot lift a memory limit (0 means "as it was", -1 is refused): this stands for none.
It is more than any limit may be: one that reads as none would be set again and again."""

ULIMITS = ({"Name": "core", "Soft": 0, "Hard": 0},)
"""No core dumps, which the host's core_pattern would take. Other limits may be beyond those of
dockerd itself, which then starts nothing: set them there (default-ulimits)."""

IMAGE_BYTES = 65536
"""Of each of an image's labels, environment and command: dockerd keeps them for every container."""
IMAGE_ENTRIES = 256
IMAGE_VOLUMES = 32
"""As many as a spec may have: each is a mount, and a volume of its own."""
_OWN_BYTES = 16384
"""More than the operator's own labels and those of a spec add to a container's."""
_SPEC_BYTES = 1 << 20
"""More than a spec's command and environment can have."""

RUNC_FIXED = ((1, 2, 8), (1, 3, 3), (1, 4, 0))
"""The first releases, of each minor version, with the fixes of CVE-2025-31133, CVE-2025-52565 and
CVE-2025-52881: a container's own files led runc to write to the host's /proc."""

EVENT_ACTIONS = ("create", "start", "die", "oom", "pause", "unpause", "update", "destroy")
"""The actions that change what `container` reports; exec and health checks make many others."""

MESSAGE_LENGTH = 512
_READ_LENGTH = MAX_TEXT
"""So much of a foreign text is read: it may be megabytes, made to be slow to search."""

MAX_PATH = 4096
_RUNC_VERSION = re2.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-~]rc\.?(\d{1,4}))?")
_RETAIN, _DELETE = "Retain", "Delete"
_ZERO_TIME = "0001-01-01T00:00:00Z"


# ---------------------------------------------------------------- asked of Docker


def container_body(
    owner: Owner, spec: ContainerSpec, image: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of POST /containers/create. `image` is the Config of the image.

    Docker merges the image's labels into the container's: those that the settings do not allow are
    given an empty value here, which wins.

    Secure by default: no new privileges, no capabilities, an init that reaps, capped
    logs, private IPC, and the owner's own network, whose containers cannot reach one another.
    """
    host: dict[str, Any] = {
        "NetworkMode": names.network_name(owner),
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "IpcMode": "private",
        "RestartPolicy": {"Name": "no"},
        "Ulimits": [dict(limit) for limit in ULIMITS],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "PortBindings": {
            f"{port.container_port}/tcp": [
                {"HostIp": spec.publish_address, "HostPort": str(port.host_port or "")}
            ]
            for port in spec.ports
        },
        "Mounts": [
            {
                "Type": "volume",
                "Source": names.volume_name(spec.uid, volume.name),
                "Target": volume.mount_path,
                "ReadOnly": volume.read_only,
                # Were it removed since it was made, Docker makes it anew, and with its labels.
                "VolumeOptions": {"Labels": volume_labels(owner, spec, volume)},
            }
            for volume in spec.volumes
        ],
    }
    limits = spec.limits
    if limits.memory_bytes is not None:
        host |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.cpu_millis is not None:
        host |= {"CpuPeriod": CPU_PERIOD_US, "CpuQuota": _quota(limits.cpu_millis)}
    if limits.pids is not None:
        host["PidsLimit"] = limits.pids
    if spec.runtime is not None:
        host["Runtime"] = spec.runtime
    body: dict[str, Any] = {
        "Image": spec.image,
        # Docker resolves it for all containers of the network: one that users choose could pass for
        # another's service.
        "Hostname": names.container_name(owner, spec.uid),
        # The image's own would run as often as it says, and nobody here asks for its result.
        "Healthcheck": {"Test": ["NONE"]},
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": {
            **_blanked(image or {}, spec),
            **spec.labels,
            **_labels(owner, spec),
            names.SPEC_HASH_LABEL: spec.spec_hash,
            names.STOP_GRACE_LABEL: str(spec.stop_grace_seconds),
        },
        "ExposedPorts": {f"{port.container_port}/tcp": {} for port in spec.ports},
        "HostConfig": host,
    }
    # Docker drops the image's CMD as soon as an entrypoint is given: Kubernetes' rule for command.
    if spec.command:
        body["Entrypoint"] = list(spec.command)
    if spec.args:
        body["Cmd"] = list(spec.args)
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    return body


def _blanked(image: Mapping[str, Any], spec: ContainerSpec) -> dict[str, str]:
    return {
        label: ""
        for label in image.get("Labels") or {}
        if label.startswith(names.GROUP)
        or not any(globs.matches(label, pattern) for pattern in spec.allowed_labels)
    }


def volume_labels(owner: Owner, spec: ContainerSpec, volume: VolumeSpec) -> dict[str, str]:
    return {
        **_labels(owner, spec),
        names.VOLUME_LABEL: volume.name,
        names.RECLAIM_LABEL: _RETAIN if volume.retain else _DELETE,
    }


def limits_body(limits: Limits) -> dict[str, Any]:
    """The body of POST /containers/{id}/update."""
    memory = NO_MEMORY_LIMIT if limits.memory_bytes is None else limits.memory_bytes
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": -1 if limits.pids is None else limits.pids,
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": -1 if limits.cpu_millis is None else _quota(limits.cpu_millis),
    }


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[A-Za-z0-9](?:[-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_IMAGE = re2.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::[0-9A-Za-z_][-.0-9A-Za-z_]{0,127})?(?:@[A-Za-z][-_+.A-Za-z0-9]*:[0-9a-fA-F]{32,128})?"
)
_NAME_LENGTH = 255


def check_image(image: str) -> None:
    """Raises EngineRefused where it is no name of an image. It becomes a part of a path of
    Docker's API, and with `..` in it would be another question."""
    found = _IMAGE.fullmatch(image) if image.isascii() and len(image) <= 1024 else None
    if found is None or len(found["name"]) > _NAME_LENGTH:
        raise refusal("invalid reference format", Reason.INVALID_SPEC)


def image_reference(image: str) -> tuple[str, str]:
    """(name, tag or digest) for POST /images/create, which without a tag pulls every one."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    head, colon, tag = image.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (image, "latest")


def _labels(owner: Owner, spec: ContainerSpec) -> dict[str, str]:
    return {
        names.OWNER_LABEL: owner.label,
        names.UID_LABEL: spec.uid,
        names.NAMESPACE_LABEL: spec.namespace,
        names.SANDBOX_LABEL: spec.name,
    }


def _quota(cpu_millis: int) -> int:
    return cpu_millis * CPU_PERIOD_US // 1000


# ---------------------------------------------------------------- told by Docker


def run_state(status: str) -> Run:
    """Docker's word for a state; `removing` and `dead` count as EXITED: a removal is repeated."""
    words = {"created": Run.CREATED, "running": Run.RUNNING, "paused": Run.FROZEN}
    return words.get(status, Run.EXITED)


def container(details: Mapping[str, Any]) -> Container:
    """What `docker inspect` tells of a container."""
    state, host = details["State"], details["HostConfig"]
    labels = details["Config"].get("Labels") or {}
    run = run_state(state["Status"])
    exited = run is Run.EXITED
    started = _time(state.get("StartedAt"))
    alive = run in (Run.RUNNING, Run.FROZEN)
    grace = labels.get(names.STOP_GRACE_LABEL, "")
    return Container(
        id=details["Id"],
        name=details["Name"].lstrip("/"),
        run=run,
        image_id=details.get("Image", ""),
        created_at=_time(details.get("Created")),
        started_at=started,
        finished_at=_time(state.get("FinishedAt")),
        # Docker sets an exit code also where nothing was started, and keeps OOMKilled over a start.
        exit_code=state.get("ExitCode") if exited and started else None,
        oom_killed=exited and bool(state.get("OOMKilled")),
        error=_cause(state.get("Error") or "")[1],
        ports=_ports((details.get("NetworkSettings") or {}).get("Ports") or {}) if alive else {},
        spec_hash=labels.get(names.SPEC_HASH_LABEL, ""),
        stop_grace_seconds=int(grace) if len(grace) < 10 and grace.isdecimal() else 10,
        limits=_limits(host),
    )


def listed_ports(row: Mapping[str, Any]) -> dict[int, int]:
    """Container port -> host port in a row of the list of containers: {} while it does not run."""
    published = [p for p in row.get("Ports") or () if p.get("PublicPort")]
    return {p["PrivatePort"]: p["PublicPort"] for p in reversed(published)}


def holdings_volumes(
    rows: Iterable[Mapping[str, Any]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of volumes: (to be deleted with the Sandbox, to be retained), each sorted."""
    split: dict[bool, list[str]] = {False: [], True: []}
    for row in rows:
        split[row["Labels"].get(names.RECLAIM_LABEL) == _RETAIN].append(row["Name"])
    return tuple(sorted(split[False])), tuple(sorted(split[True]))


def image_complaint(config: Mapping[str, Any], *, of_container: bool = False) -> str:
    """What an image's Config has too much of, as the rest of a sentence; empty where all is well.

    Of a container: with what its spec may have added."""
    added, more = (_OWN_BYTES, 64) if of_container else (0, 0)
    labels = config.get("Labels") or {}
    if len(labels) > IMAGE_ENTRIES + more:
        return f"the image has more than {IMAGE_ENTRIES} labels: use one with fewer."
    if _bytes(labels.items()) > IMAGE_BYTES + added:
        return f"the image's labels have more than {IMAGE_BYTES} bytes: use one with fewer."
    added = _SPEC_BYTES if of_container else 0
    variables = config.get("Env") or ()
    if not of_container and len(variables) > IMAGE_ENTRIES:
        return f"the image sets more than {IMAGE_ENTRIES} variables: use one with fewer."
    if _bytes([variables]) > IMAGE_BYTES + added:
        return f"the image's environment has more than {IMAGE_BYTES} bytes: use one with less."
    words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if _bytes([words]) > IMAGE_BYTES + added:
        return f"the image's command has more than {IMAGE_BYTES} bytes: use one with a shorter one."
    for field, bound, what in (
        ("Volumes", IMAGE_VOLUMES, "volumes"),
        ("ExposedPorts", IMAGE_ENTRIES, "exposed ports"),
        ("OnBuild", IMAGE_ENTRIES, "triggers"),
    ):
        if len(config.get(field) or ()) > bound + (more if field != "Volumes" else 0):
            return f"the image declares more than {bound} {what}: use one with fewer."
    for field in ("User", "WorkingDir", "StopSignal"):
        if len(config.get(field) or "") > MAX_PATH:
            return f"the image's {field} has more than {MAX_PATH} characters: use another image."
    return ""


def _bytes(groups: Iterable[Iterable[str]]) -> int:
    return sum(sizes.size(text) for group in groups for text in group)


def resolved_paths(details: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """What the engine resolves inside a container's root: each mount target with the field that it
    comes from, and the working directory."""
    mounts: dict[str, str] = {}
    uid = (details["Config"].get("Labels") or {}).get(names.UID_LABEL, "")
    prefix = names.volume_name(uid, "")
    for mount in details.get("Mounts") or ():
        name = str(mount.get("Name") or "")
        ours = uid and name.startswith(prefix)
        volume = name.removeprefix(prefix)
        field = f"spec.volumes[{volume}].mountPath" if ours else "spec.image: its VOLUME"
        mounts[str(mount["Destination"])] = field
    for target in details["HostConfig"].get("Tmpfs") or ():
        mounts.setdefault(str(target), "spec.volumes: its mountPath")
    return mounts, str(details["Config"].get("WorkingDir") or "")


def has_run(details: Mapping[str, Any]) -> bool:
    """Whether a container was ever started: its root may be another than its image's then."""
    return _time(details["State"].get("StartedAt")) is not None


def runc_advisory(version: Mapping[str, Any]) -> str:
    """What to say of the runc in an answer of /version; empty where it has the fixes. Distributions
    may have brought them to an older number."""
    fixed = ", ".join(".".join(map(str, release)) for release in RUNC_FIXED)
    parts = {str(c.get("Name")): str(c.get("Version")) for c in version.get("Components") or ()}
    text = parts.get("runc", "")
    found = _RUNC_VERSION.match(text[:64])
    if found is None:
        return (
            "The engine does not say which runc it has, so it may lack the fix of CVE-2025-31133:"
            f" use runc {fixed} or newer."
        )
    number = (int(found[1]), int(found[2]), int(found[3]))
    of_minor = next((f for f in RUNC_FIXED if f[:2] == number[:2]), None)
    early = found[4] is not None and number == RUNC_FIXED[-1] and int(found[4]) < 3
    if (of_minor is None and number > RUNC_FIXED[-1]) or (
        of_minor is not None and number >= of_minor and not early
    ):
        return ""
    return (
        "The engine's runc"
        f" {'.'.join(map(str, number))} may lack the fix of CVE-2025-31133; without"
        f" it, images can write the host's kernel settings: upgrade to runc {fixed} or newer."
    )


def event(raw: Mapping[str, Any]) -> EngineEvent | None:
    """One line of /events; None where it says nothing of a sandbox."""
    actor = raw.get("Actor") or {}
    uid = (actor.get("Attributes") or {}).get(names.UID_LABEL)
    action = raw.get("Action")
    if not uid or action not in EVENT_ACTIONS:
        return None
    return EngineEvent(uid=uid, container_id=actor.get("ID", ""), action=action)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text and text != _ZERO_TIME else None


def _ports(published: Mapping[str, Any]) -> dict[int, int]:
    found = {}
    for port, bindings in published.items():
        number, _, protocol = port.partition("/")
        if bindings and protocol == "tcp":
            # Of several (IPv4 and IPv6) the first, which is the address that was asked for.
            found[int(number)] = int(bindings[0]["HostPort"])
    return found


def _limits(host: Mapping[str, Any]) -> Limits:
    memory, pids, quota = (host.get(k) or 0 for k in ("Memory", "PidsLimit", "CpuQuota"))
    period = host.get("CpuPeriod") or CPU_PERIOD_US
    return Limits(
        cpu_millis=quota * 1000 // period if quota > 0 else None,
        memory_bytes=memory if 0 < memory < NO_MEMORY_LIMIT else None,
        pids=pids if pids > 0 else None,
    )


# ---------------------------------------------------------------- refused by Docker

_MEMORY = "spec.resources.limits.memory"
_EXEC = (
    r'exec: "(?P<path>[^"]+)":.*?(?P<why>executable file not found|no such file or directory'
    r"|permission denied|is a directory|exec format error)"
)

# Docker's texts, 20.10 to 29; the first that matches is it.
_CAUSES: tuple[tuple[Any, Reason, str], ...] = tuple(
    (re2.compile(f"(?is){pattern}"), reason, sentence)
    for pattern, reason, sentence in (
        (
            # The rest of this text may quote a value.
            r"environment variable",
            Reason.INVALID_SPEC,
            "spec.env: a variable has an empty name, or holds a NUL character.",
        ),
        (
            r"no such image: (?P<what>\S+)",
            Reason.IMAGE_NOT_FOUND,
            "The engine has no image {what}: check spec.image, load the image,"
            " or let it be pulled (spec.imagePullPolicy).",
        ),
        (r"no such container", Reason.CONTAINER_MISSING, "The container is gone."),
        (r"is not running$", Reason.EXITED, "The container is not running."),
        (
            r"minimum memory limit allowed is (?P<what>\w+)",
            Reason.INVALID_SPEC,
            f"{_MEMORY} is below the least that Docker allows, {{what}}: raise it.",
        ),
        (
            r"oom-killed|memory limit too low",
            Reason.START_FAILED,
            f"{_MEMORY} is too low for the container to start: raise it.",
        ),
        (
            r"unable to set memory limit|memory\.(limit_in_bytes|max).*(busy|invalid)",
            Reason.INVALID_SPEC,
            f"{_MEMORY} is below what the container uses now: raise it.",
        ),
        (
            r"cfs quota can not be less|range of cpus is",
            Reason.INVALID_SPEC,
            "spec.resources.limits.cpu is out of Docker's range: ask for at least 10m.",
        ),
        (
            r"cannot unmarshal number .*CpuQuota"
            r"|write \S*cpu\.(cfs_quota_us|max): invalid argument",
            Reason.INVALID_SPEC,
            "spec.resources.limits.cpu is more than the kernel can count: ask for less.",
        ),
        (
            r"unknown (or invalid )?runtime( specified| name:)? ?(?P<what>\S+)",
            Reason.RUNTIME_NOT_FOUND,
            "The engine has no runtime {what}: add it to the engine, or name another.",
        ),
        (
            r":(?P<what>\d+)\S* failed: port is already allocated"
            r"|bind host port (for )?[\d.]+:(?P<what3>\d+).*address already in use"
            r"|:(?P<what2>\d+)(/\w+)?: (bind: )?address already in use",
            Reason.PORT_IN_USE,
            "Host port {what} is in use: free it, or leave hostPort out of spec.ports.",
        ),
        (
            r"listen \w+ (?P<what>\S+):\d+: bind: cannot assign requested address"
            r"|(?P<what2>[\d.]+):\d+\S* cannot assign requested address",
            Reason.ENGINE_REFUSED,
            "{what} is no address of the engine's machine: change the setting publish address.",
        ),
        (
            _EXEC,
            Reason.START_FAILED,
            "The command {what} cannot be run ({why}): check spec.command and the image.",
        ),
        (
            r"cannot mkdir: (?P<path>.*?) is not a directory|working directory '(?P<path2>.*?)'"
            r"|chdir to cwd \(\"(?P<path3>.*?)\"\)",
            Reason.INVALID_SPEC,
            "spec.workingDir: {what} is not an absolute path of a directory that can be entered.",
        ),
        (
            r"invalid reference format|repository name (must not be more than|cannot contain)"
            r"|invalid index name",
            Reason.INVALID_SPEC,
            "spec.image is no image name: {all}",
        ),
        (
            # The address pools of Docker's defaults make some thirty networks.
            r"could not find an available,? .*address pool"
            r"|all predefined address pools have been fully subnetted",
            Reason.ENGINE_REFUSED,
            "The engine has no subnet left for the network of this operator's containers: remove"
            " networks that nothing uses (docker network prune), or give the engine more"
            " (default-address-pools).",
        ),
        (
            # A bridge of Linux has 1,023 ports.
            r"no available IPv4 addresses|bridge \S+ failed: exchange full",
            Reason.ENGINE_REFUSED,
            "The network of this operator's containers is full: delete Sandboxes, or run another"
            " operator instance for more.",
        ),
        (
            r"duplicate mount point: (?P<path>\S+)",
            Reason.INVALID_SPEC,
            "spec.volumes: something else is mounted at {what} already: choose another mountPath.",
        ),
        (
            r'mounting \\?"[^"]*" to rootfs (?:\\?"[^"]*" )?at \\?"(?P<path>[^"\\]*)'
            r"(?:.*(?P<why>not a directory|permission denied|read-only file system|file exists"
            r"|too many levels of symbolic links|outside of rootfs|no such file or directory))?",
            Reason.START_FAILED,
            "spec.volumes: nothing can be mounted at {what} ({why}): choose another mountPath.",
        ),
        (r"invalid (container)?port", Reason.INVALID_SPEC, "spec.ports: {all}"),
        (r"mount (config|path|point)", Reason.INVALID_SPEC, "spec.volumes: {all}"),
    )
)

_NOT_FOUND_IN_REGISTRY = re2.compile(
    r"(?i)manifest unknown|manifest for .* not found|no matching manifest"
    r"|repository does not exist|not found: does not exist"
)

_FOREIGN_BODY = re2.compile(
    r"(?s)(error parsing HTTP \d+ response body"
    r"|\b(?:denied|unauthorized|unknown|unavailable|unsupported|toomanyrequests)): .*"
)
"""What answered may be no registry, and Docker quotes it. Whoever names the image must not read so
what other services say to the engine's machine."""

_NOISE = re2.compile(
    r"failed to create (shim task|shim|task for container): |OCI runtime \w+ failed: "
    r"|runc \w+ failed: |unable to start container process: |container_linux\.go:\d+: "
    r"|starting container process caused:? |error during container init: |: unknown$"
)


_LONG_ID = re2.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_LOST = re2.compile(r"containerd\.sock|transport is closing|daemon is shutting down")

_PATH = "(path)"
"""What stands for a path of the engine's host: where its data is, is nobody's business."""

# Whatever may be one: all absolute paths, and what looks like a part of one that has a space in it.
_PATHS = re2.compile(
    r"""(?P<url>\b[A-Za-z][-+.A-Za-z0-9]*://[^\s"'`<>,;()]*)"""
    r"""|"\.{0,2}/[^"]+"|'\.{0,2}/[^']+'|`\.{0,2}/[^`]+`"""
    r"""|(?P<before>^|[^-\w.~%@+/])\.{0,2}/"""
    r"""(?:[^\s"'`]*[^\s"'`:,;)] [^\s"'`:]*/[^\s"'`]*|[^\s"'`]+)"""
    r"""|[^\s"'`]*(?:overlay2?|volumes|containers|snapshots|rootfs|merged|_data)/[^\s"'`]*"""
)
_WEB = ("http://", "https://", "tcp://", "udp://", "oci://")

# Of a path that the spec or the image names: it may be the engine's all the same.
_OF_THE_ENGINE = re2.compile(
    r"(?i)^/proc\b|^/sys\b|^(/var)?/run\b|/var/lib/(docker|containerd)|/overlay2?/|/vfs/dir/"
    r"|/volumes/sbx-|/containers/[0-9a-f]{12}|/rootfs\b|/merged\b|/_data\b|\.sock\b|/containerd/"
)


def refusal(explanation: str, otherwise: Reason, secrets: Collection[str] = ()) -> EngineRefused:
    """Docker's error text as a reason and a sentence; `otherwise` where the text is not known."""
    reason, message = _cause(explanation)
    if repeats(explanation, secrets):
        message = told(explanation, secrets)
    return EngineRefused(reason or otherwise, message or "Docker refused, without saying why.")


def told(explanation: str, secrets: Collection[str] = ()) -> str:
    """Docker's error text as one bounded line, left out where it repeats a secret."""
    # Before it is cut short: the rest of a value would not be recognised.
    return f"Docker refused; {WITHHELD}." if repeats(explanation, secrets) else plain(explanation)


def pull_refusal(image: str, explanation: str) -> EngineRefused:
    explanation = one_line(explanation, _READ_LENGTH)
    missing = _NOT_FOUND_IN_REGISTRY.search(explanation)
    reason = Reason.IMAGE_NOT_FOUND if missing else Reason.IMAGE_PULL_FAILED
    explanation = _FOREIGN_BODY.sub(r"\1 (the rest of the answer is left out)", explanation)
    message = f"Image {image} could not be pulled: {plain(explanation)}"
    return EngineRefused(reason, one_line(message, MESSAGE_LENGTH))


def pull_too_slow(image: str, fault: str) -> PullTooSlow:
    return PullTooSlow(
        Reason.IMAGE_PULL_FAILED, plain(f"Image {image} could not be pulled: {fault}")
    )


def lost_engine(status: int | None, explanation: str) -> bool:
    """The daemon answered, but is going down, coming up or without its own runtime."""
    return status in (502, 503, 504) or bool(_LOST.search(one_line(explanation, _READ_LENGTH)))


def plain(text: str) -> str:
    """One bounded line: nothing hidden, no layers of the runtime, short IDs, no path of the
    engine's host."""
    text = _NOISE.sub("", one_line(text, _READ_LENGTH))
    text = _LONG_ID.sub(r"\1", _PATHS.sub(_without_path, text))
    return one_line(text, MESSAGE_LENGTH)


def _without_path(found: Any) -> str:
    text, url = found[0], found["url"]
    if url is not None and url.lower().startswith(_WEB) and "://%2f" not in url.lower():
        return str(url)
    rest = text.rstrip(":.,;)]}>")
    if text[:1] in "\"'`":
        return f"{text[0]}{_PATH}{text[-1]}"
    return f"{found['before'] or ''}{_PATH}{text[len(rest) :]}"


def _own_path(path: str) -> str:
    return _PATH if _OF_THE_ENGINE.search(path) else path


def _cause(text: str) -> tuple[Reason | None, str]:
    text = one_line(text, _READ_LENGTH)
    for pattern, reason, sentence in _CAUSES:
        if found := pattern.search(text):
            groups = found.groupdict()
            what = next((groups[k] for k in ("what", "what2", "what3") if groups.get(k)), "")
            path = next((groups[k] for k in ("path", "path2", "path3") if groups.get(k)), "")
            what = _own_path(path) if path else plain(what).rstrip(":")
            why = groups.get("why") or "see the engine's log"
            message = sentence.format(what=what, why=why, all=plain(text))
            return reason, one_line(message, MESSAGE_LENGTH)
    return None, plain(text)
