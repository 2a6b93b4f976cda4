"""No message shows where the engine's host keeps what: texts as 20.10 and 29 write them."""

from __future__ import annotations

import pytest

from controller.core.reasons import Reason
from controller.engines import dockerwords as words

ROOTS = ("/var/lib/docker", "/tmp/own-engine-1/data", "/mnt/my disk/docker")
ID = "0f" * 32
OCI = "failed to create shim task: OCI runtime create failed: runc create failed: "
OLD = "OCI runtime create failed: container_linux.go:380: starting container process caused: "
START = "unable to start container process: "
RECORDED = [
    OCI
    + START
    + 'error during container init: error mounting "ROOT/volumes/sbx-1-v/_data" to rootfs'
    ' at "/dev": change mount propagation through procfd: open o_path procfd /proc/self/fd/8:'
    " no such file or directory: unknown",
    OCI
    + START
    + 'error during container init: error mounting "ROOT/volumes/sbx-1-v/_data" to rootfs'
    ' at "/x/y": create mountpoint for /x/y mount: cannot create subdirectories in'
    ' "ROOT/overlay2/0f0f/merged/x/y": not a directory: unknown',
    OLD + 'rootfs_linux.go:76: mounting "ROOT/volumes/sbx-1-v/_data" to rootfs'
    ' "ROOT/overlay2/0f0f/merged" at "/x" caused: mkdir ROOT/overlay2/0f0f/merged/x: file exists',
    OLD + 'rootfs_linux.go:76: mounting \\"ROOT/volumes/v/_data\\" to rootfs'
    ' \\"ROOT/overlay2/0f0f/merged\\" at \\"/x\\" caused: "permission denied"',
    OCI + START + "error setting cgroup config for procHooks process: failed to write 1: write"
    " /sys/fs/cgroup/memory/docker/" + ID + "/memory.limit_in_bytes: device or resource busy",
    OCI + START + "unable to apply cgroup configuration: mkdir /sys/fs/cgroup/docker/x: no space",
    OCI + START + "open /dev/ptmx: no such device: unknown",
    "error creating overlay mount to ROOT/overlay2/0f/merged: mount options is too long:"
    " lowerdir=ROOT/overlay2/l/ABC:ROOT/overlay2/l/DEF,upperdir=ROOT/overlay2/0f/diff",
    "mkdir ROOT/overlay2/0f0f/merged/bin/x: not a directory",
    "failed to mkdir 'ROOT/containers/" + ID + "/mounts': no space left on device",
    "create sbx-1-v: open ROOT/volumes/metadata.db: read-only file system",
    "stat ROOT/volumes/sbx-1-v/_data:no such file",
    "failed to start shim: start failed: dial unix /run/containerd/s/0f0f: connect: refused",
    'connection error: desc = "transport: dialing unix:///run/user/1/containerd.sock": timeout',
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.41/info": dial unix /var/run/docker.sock: refused',
    "symlink ../0f/diff ROOT/overlay2/l/AB: exists; also(ROOT/image/overlay2/layerdb);end",
    "open ROOT/tmp/GetImageBlob12: no space left on device",
    "error while creating mount source path '/host/x': mkdir /host: read-only file system",
    OCI + 'exec: "ROOT/overlay2/0f0f/merged/x": permission denied: unknown',
    OCI + 'chdir to cwd ("/proc/self/fd/8") set in config.json failed: not a directory: unknown',
    "Cannot mkdir: ROOT/overlay2/0f0f/merged/w is not a directory",
    "no such image: ROOT/x",
    "Unknown runtime specified ROOT/x",
    "listen tcp ROOT/x:80: bind: cannot assign requested address",
    "invalid mount config: ROOT/x",
    "invalid reference format ROOT/x",
    "something: `ROOT/overlay2/x`",
]
FORBIDDEN = (
    *(
        "/var/",
        "/tmp/",
        "/mnt/",
        "/run/",
        "/sys/",
        "/proc/",
        "/host",
        "overlay2/",
        "_data",
        "merged",
    ),
    *("disk/", "%2Fvar", "own-engine"),
)


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("text", RECORDED)
def test_no_path_of_the_host_is_in_a_message(text: str, root: str) -> None:
    said = text.replace("ROOT", root)
    for message in (
        words.refusal(said, Reason.START_FAILED).message,
        words.told(said),
        words.plain(said),
        words.pull_refusal("a/b:1", said).message,
        words.refusal("x" * 4000 + " " + said, Reason.START_FAILED).message,
    ):
        assert [piece for piece in FORBIDDEN if piece in message] == [], message


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (OCI + 'exec: "/usr/local/bin/docker-entrypoint.sh": permission denied', "docker-entryp"),
        (OCI + 'exec: "/app/run": no such file or directory', "/app/run"),
        ("Duplicate mount point: /a/b", "spec.volumes: something else is mounted at /a/b "),
        ("Cannot mkdir: /bin/x is not a directory", "/bin/x"),
        (RECORDED[1], "at /x/y (not a directory)"),
        (RECORDED[2], "spec.volumes: nothing can be mounted at /x (file exists)"),
        ("pull ghcr.io/openhands/agent:1 and/or I/O error 1/2", "ghcr.io/openhands/agent:1 and/or"),
        ('Get "https://registry.example/v2/": EOF', 'Get "https://registry.example/v2/": EOF'),
        ("open /x/y: no space left on device", "open (path): no space left on device"),
        ("a (/x/y), b", "a ((path)), b"),
    ],
)
def test_messages_stay_useful(text: str, kept: str) -> None:
    assert kept in words.refusal(text, Reason.START_FAILED).message
