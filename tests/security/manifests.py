"""Hostile manifests, as data: the host's files, rights, ports and probes. See attempts.py.

`v` in names of volumes, ports and paths is the attacker's own; victims are in bystanders.py.
"""

from __future__ import annotations

from tests.security.attacker import manifest
from tests.security.attempts import (
    DROPPED,
    HARMLESS,
    PRUNED,
    REFUSED,
    TOLD,
    Attempt,
    mount,
    port,
    probe,
    spec,
    volume,
)
from tests.security.bystanders import SECRET
from tests.security.metadata import HIDDEN

FILES = [
    spec("a host path", DROPPED, "source", **volume(hostPath={"path": "/"})),
    spec("a host path beside a volume", PRUNED, **volume(managed={}, hostPath={"path": "/"})),
    spec("Docker's socket", DROPPED, "source", **volume(hostPath={"path": "/var/run/docker.sock"})),
    spec("an empty directory of the host", DROPPED, "source", **volume(emptyDir={})),
    spec(
        "a volume that binds a path",
        PRUNED,
        **volume(managed={"driver": "local", "driverOpts": {"type": "none", "device": "/"}}),
    ),
    spec("a mount with a sub path", PRUNED, **volume(managed={}, subPath="../../..")),
    spec("a mount that propagates", PRUNED, **volume(managed={}, mountPropagation="Bidirectional")),
    Attempt(
        "another's volume",
        PRUNED,
        "",
        lambda name, b: manifest(name, volume(managed={}, existing={"name": b.stranger})),
    ),
    Attempt(
        "a volume named like another's",
        HARMLESS,
        "",
        lambda name, b: manifest(name, volume(name=f"sbx-{b.victim.uid}-work", managed={})),
    ),
    Attempt(
        "another's UID in metadata",
        HARMLESS,
        "",
        lambda name, b: manifest(
            name,
            volume(name="work", managed={"reclaimPolicy": "Delete"}),
            uid=b.victim.uid,
        ),
    ),
    *(
        spec(f"a volume named {title}", REFUSED, "volumes[0].name", **volume(name=name, managed={}))
        for title, name in (
            ("with a slash", "../v"),
            ("with two dots", ".."),
            ("in upper case", "V"),
            ("with a new line", "v\n"),
            ("with a letter that looks like v", "ν"),
            ("with 64 letters", "v" * 64),
            ("with nothing", ""),
        )
    ),
    *(
        spec(f"a mount at {path!r:.30}", REFUSED, "volumes[0].mountPath", **mount(path))
        for path in (
            *("/", "//", "/..", "/v/../..", "/v//v", "/v/", "/v/.", "/./v", "v", "../v", ""),
            *(
                "/v:/host:rw",
                "/v\n/host",
                "/v\0",
                "/v\\..\\host",
                "/…/../host",
                "/...",
                "/" + "v" * 1024,
            ),
        )
    ),
    *(
        spec(f"a mount at {path}", REFUSED, "volumes", **mount(path))
        for path in (
            *("/proc", "/proc/sys/kernel", "/proc/self/root/v", "/proc/1/root", "/dev", "/dev/shm"),
            *(
                "/dev/null",
                "/sys",
                "/sys/fs/cgroup",
                "/etc/hosts",
                "/etc/resolv.conf",
                "/run/secrets",
            ),
            *("/sbin/docker-init", "/.dockerenv"),
        )
    ),
    *(
        spec(f"a mount at {path}", HARMLESS, **mount(path))
        for path in (
            *("/etc", "/var/run/docker.sock"),
            *("/v .v", "/ν", "/%2e%2e", "/~", "/procs", "/sysv", "/devices"),
        )
    ),
    spec(
        "a volume twice at one place",
        REFUSED,
        "mountPath of its own",
        volumes=[
            {"name": "v", "mountPath": "/v", "managed": {}},
            {"name": "w", "mountPath": "/v", "managed": {}},
        ],
    ),
    *(
        spec(f"to start in {path!r}", REFUSED, "workingDir", workingDir=path)
        for path in (
            *("/..", "/v/../..", "v", "//", "/v\n", "/v\0", "/proc", "/proc/self/fd/8"),
            *("/proc/1/root", "/proc/self/cwd/v", "/sys/kernel", "/dev/fd", "/" + "v" * 1024),
        )
    ),
]

UNSEEN = [
    *(
        spec(
            f"a mount with {character!a}",
            REFUSED,
            "volumes[0].mountPath",
            **mount(f"/v{character}"),
        )
        for character in HIDDEN
    ),
    *(
        spec(f"to start with {character!a}", REFUSED, "workingDir", workingDir=f"/v{character}")
        for character in HIDDEN
    ),
]

RIGHTS = [
    *(
        spec(f"spec.{next(iter(fields))}", PRUNED, **fields)
        for fields in (
            {"privileged": True},
            {"hostNetwork": True},
            {"hostPID": True},
            {"hostIPC": True},
            {"hostUsers": True},
            {"network": {"mode": "host"}},
            {"networkMode": "host"},
            {"networks": ["bridge"]},
            {"pidMode": "host"},
            {"ipcMode": "shareable"},
            {"extraHosts": ["metadata:169.254.169.254"]},
            {"dns": ["127.0.0.1"]},
            {"sysctls": {"kernel.core_pattern": "|/v"}},
            {"ulimits": [{"name": "core", "soft": -1}]},
            {"cgroupParent": "/"},
            {"oomScoreAdj": -1000},
            {"devices": [{"hostPath": "/dev/sda", "path": "/dev/sda"}]},
            {"deviceRequests": [{"driver": "nvidia", "count": -1}]},
            {"gpus": "all"},
            {"groupAdd": ["docker"]},
            {"securityContext": {"privileged": True, "runAsUser": 0}},
            {"serviceAccountName": "default"},
            {"nodeName": "control-plane"},
            {"runtimeClassName": "host"},
            {"hostConfig": {"Binds": ["/:/host"], "Privileged": True}},
            {"HostConfig": {"Binds": ["/:/host"], "Privileged": True}},
            {"binds": ["/:/host"]},
            {"volumesFrom": ["victim"]},
            {"initContainers": [{"image": "v", "securityContext": {"privileged": True}}]},
            {"containers": [{"image": "v"}]},
            {"lifecycle": {"postStart": {"exec": {"command": ["v"]}}}},
            {"imagePullSecrets": [{"name": SECRET}]},
            {"user": "0:0"},
            {"init": False},
            {"logDriver": "syslog"},
            {"stopSignal": "SIGCONT"},
            {"healthcheck": {"test": ["CMD", "v"]}},
        )
    ),
    *(
        spec(f"spec.security.{next(iter(fields))}", PRUNED, security=fields)
        for fields in (
            {"privileged": True},
            {"runAsUser": 0},
            {"capabilities": {"add": ["ALL"]}},
            {"capAdd": ["SYS_ADMIN"]},
            {"seccomp": {"type": "Unconfined"}},
            {"seccompProfile": {"type": "Unconfined"}},
            {"appArmorProfile": {"type": "Unconfined"}},
            {"securityOpt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable"]},
            {"noNewPrivileges": False},
            {"allowPrivilegeEscalation": True},
            {"procMount": "Unmasked"},
            {"readOnlyRootFilesystem": False},
        )
    ),
    spec("a runtime", TOLD, "NotAllowed spec.security.runtime", security={"runtime": "runc"}),
    spec("a runtime that is a path", REFUSED, "security.runtime", security={"runtime": "/v"}),
    spec("a runtime that climbs", REFUSED, "security.runtime", security={"runtime": "../v"}),
    spec("a runtime that is a flag", REFUSED, "security.runtime", security={"runtime": "--v"}),
    spec("a template", REFUSED, "templateRef", templateRef={"name": "v"}),
    spec(
        "a template elsewhere", DROPPED, "templateRef", templateRef={"name": "v", "namespace": "v"}
    ),
]

PORTS = [
    spec("a port of the host", TOLD, "NotAllowed spec.ports[V].hostPort", **port(hostPort=22)),
    Attempt(
        "a port of the host that is another's",
        TOLD,
        "NotAllowed spec.ports[V].hostPort",
        lambda name, b: manifest(name, port(hostPort=b.victim.status["exposedUrls"][0]["port"])),
    ),
    spec("an address of the host", PRUNED, **port(hostIP="0.0.0.0")),  # noqa: S104
    spec("a protocol", PRUNED, **port(protocol="UDP")),
    *(
        spec(f"the port {number!r}", REFUSED, "containerPort", **port(containerPort=number))
        for number in (0, -1, 65536, 2**63, 2**64, 80.5, "80", "80/udp", "1-65535", True, None)
    ),
    *(
        spec(f"the host port {number!r}", REFUSED, "hostPort", **port(hostPort=number))
        for number in (0, -1, 65536, "22", [22])
    ),
    spec(
        "one port twice",
        REFUSED,
        "containerPort of its own",
        ports=[
            {"name": "V", "containerPort": 80},
            {"name": "W", "containerPort": 80},
        ],
    ),
    spec(
        "a port's name twice",
        REFUSED,
        "Duplicate",
        ports=[
            {"name": "V", "containerPort": 80},
            {"name": "V", "containerPort": 81},
        ],
    ),
    spec(
        "33 ports",
        REFUSED,
        "ports",
        ports=[{"name": f"V{i}", "containerPort": i + 1} for i in range(33)],
    ),
    spec("a port's name with a new line", REFUSED, "ports[0].name", **port(name="V\n")),
    spec("a URL with another host", REFUSED, "ports[0].path", **port(path="@169.254.169.254/")),
    spec("a URL that climbs", REFUSED, "ports[0].path", **port(path="/v/../../")),
    *(
        spec(f"a URL with {character!a}", REFUSED, "ports[0].path", **port(path=f"/v{character}w"))
        for character in HIDDEN
    ),
    spec("a URL of a script", REFUSED, "scheme", **port(scheme="javascript")),
]

PROBES = [
    spec("a probe of another host", PRUNED, **probe(host="169.254.169.254")),
    spec("a probe with headers", PRUNED, **probe(httpHeaders=[{"name": "Host", "value": "v"}])),
    spec("a probe of a port that is not its own", REFUSED, "readiness", **probe(port=22)),
    spec(
        "a probe of a port by an odd name", REFUSED, "readiness", **probe(port="V@169.254.169.254")
    ),
    spec("a probe by a command", DROPPED, "httpGet", readiness={"exec": {"command": ["v"]}}),
    *(
        spec(f"a probe of {path!r:.30}", REFUSED, "readiness.httpGet.path", **probe(path=path))
        for path in (
            *("//169.254.169.254/", "@169.254.169.254/", "/v/../v", "/v\r\nHost: v", "/v v"),
            *("http://169.254.169.254/", "/#", "/\\v", "/" + "v" * 1024),
        )
    ),
    *(
        spec(
            f"a probe with {character!a}",
            REFUSED,
            "readiness.httpGet.path",
            **probe(path=f"/v{character}w"),
        )
        for character in HIDDEN
    ),
    *(
        spec(
            f"a probe of a port with {character!a}", REFUSED, "port", **probe(port=f"V{character}")
        )
        for character in HIDDEN[::3]
    ),
    spec(
        "a probe of a path that looks like a host", HARMLESS, **probe(path="/ready?v=@v:80/%2e%2e")
    ),
]
