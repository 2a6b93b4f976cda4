"""What must hold of every container, whatever its Sandbox asked for: `complaints` names what does
not. The values are those of `docker inspect`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from controller.core import names
from controller.core.names import Owner
from tests.integration.operator import Json

NOTHING: tuple[Any, ...] = (None, "", [], {}, 0, False)
UNSET = (
    # What would share the host's, or another container's, or give a right.
    *("Binds", "VolumesFrom", "Links", "Tmpfs", "Privileged", "CapAdd", "GroupAdd"),
    *("PidMode", "UTSMode", "UsernsMode", "Cgroup", "CgroupParent", "Isolation"),
    *("Devices", "DeviceRequests", "DeviceCgroupRules", "Sysctls", "StorageOpt"),
    *("PublishAllPorts", "OomKillDisable", "OomScoreAdj", "AutoRemove", "ContainerIDFile"),
    *("ExtraHosts", "Dns", "DnsOptions", "DnsSearch", "VolumeDriver", "ReadonlyRootfs"),
)
SET = {
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "IpcMode": "private",
    "Init": True,
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "Ulimits": [{"Name": "core", "Hard": 0, "Soft": 0}],
}
VOLUME = {"Type": "volume", "Driver": "local", "Propagation": ""}


def complaints(
    details: Json,
    *,
    sandbox: Json,
    owner: Owner,
    runtime: str,
    volumes_root: str,
    images: tuple[str, ...],
    secrets: Iterable[str],
) -> Iterator[str]:
    """`sandbox` is the object as stored; `runtime` and `volumes_root` are the engine's own;
    `images` are those allowed, and `secrets` the values of others."""
    host, config, meta = details["HostConfig"], details["Config"], sandbox["metadata"]
    yield from (f"{f} is {host[f]}" for f in UNSET if host.get(f) not in NOTHING)
    yield from (f"{f} is {host.get(f)}" for f, value in SET.items() if host.get(f) != value)
    network = names.network_name(owner)
    if host["NetworkMode"] != network or set(details["NetworkSettings"]["Networks"]) != {network}:
        yield f"the network is {host['NetworkMode']}"
    if host["Runtime"] != runtime:
        yield f"the runtime is {host['Runtime']}"
    if details["AppArmorProfile"] not in ("", "docker-default"):
        yield f"AppArmor's profile is {details['AppArmorProfile']}"
    if not host["MaskedPaths"] or not host["ReadonlyPaths"]:
        yield "the kernel's files are not masked"
    if not (0 < host["Memory"] <= host["MemorySwap"] == host["Memory"]) or host["PidsLimit"] < 1:
        yield f"no limits: {host['Memory']}, {host['MemorySwap']}, {host['PidsLimit']}"
    if details["Name"] != f"/{names.container_name(owner, meta['uid'])}":
        yield f"the name is {details['Name']}"
    # Docker resolves host names for the whole network: one of its choice could be another's.
    if config["User"] or config["Hostname"] != names.container_name(owner, meta["uid"]):
        yield f"user {config['User']}, host name {config['Hostname']}"
    if (config.get("Healthcheck") or {}).get("Test") != ["NONE"]:
        yield f"the image's health check is {config.get('Healthcheck')}"
    if config["Image"] not in images:
        yield f"the image is {config['Image']}"
    for port, bindings in host["PortBindings"].items():
        if bindings != [{"HostIp": "127.0.0.1", "HostPort": ""}]:
            yield f"{port} is published as {bindings}"
    ours = {
        names.OWNER_LABEL: owner.label,
        names.UID_LABEL: meta["uid"],
        names.NAMESPACE_LABEL: meta["namespace"],
        names.SANDBOX_LABEL: meta["name"],
        names.STOP_GRACE_LABEL: str(sandbox["spec"]["terminationGracePeriodSeconds"]),
    }
    for label, value in ours.items():
        if config["Labels"].get(label) != value:
            yield f"the label {label} is {config['Labels'].get(label)}"
    if len(config["Labels"].get(names.SPEC_HASH_LABEL, "")) != len("v1-") + 16:
        yield "the hash of the spec is another's"
    yield from _mounts(details["Mounts"], sandbox, volumes_root)
    yield from (f"{secret} is told" for secret in secrets if secret in str(details))


def _mounts(mounts: list[Json], sandbox: Json, root: str) -> Iterator[str]:
    """Each is a volume of this Sandbox, where the engine keeps volumes."""
    own = {
        names.volume_name(sandbox["metadata"]["uid"], v["name"]): v["mountPath"]
        for v in sandbox["spec"].get("volumes", ())
    }
    for mount in mounts:
        name = mount.get("Name", "")
        if {field: mount.get(field) for field in VOLUME} != VOLUME:
            yield f"a mount of another kind: {mount}"
        if own.get(name) != mount["Destination"] or mount["Source"] != f"{root}/{name}/_data":
            yield f"a mount that is not its own: {mount}"
    if len(mounts) != len(own):
        yield f"{len(mounts)} mounts for {len(own)} volumes"


def volume_complaints(volume: Json, sandbox: Json, owner: Owner) -> Iterator[str]:
    """Of `docker volume inspect`: a local volume may hide a bind mount in its options."""
    if volume["Options"]:
        yield f"the volume {volume['Name']} has options {volume['Options']}"
    labels = volume["Labels"] or {}
    if labels.get(names.UID_LABEL) != sandbox["metadata"]["uid"]:
        yield f"the volume {volume['Name']} has the labels {labels}"
    if labels.get(names.OWNER_LABEL) != owner.label:
        yield f"the volume {volume['Name']} is another operator's"
