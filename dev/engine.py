"""The machine's Docker engine, installed and started where there is none; private ones for tests.

The engine belongs to the machine and is shared by checkouts. Whether there is one is asked of its
API, never of the `docker` command, which may be a client without an engine.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from dev import cache
from dev.packages import ensure_commands
from dev.processes import Daemon, Supervised, detach, load
from dev.progress import DevError, run, step

DEFAULT_HOST = "unix:///var/run/docker.sock"
RECORD = Path("/run/sandbox-operator/dockerd.json")
PID_FILE = Path("/run/sandbox-operator/dockerd.pid")
LOCK = Path("/run/sandbox-operator/dockerd.lock")
LOG = Path("/var/log/sandbox-operator-dockerd.log")
SECONDS_TO_START = 60
SECONDS_TO_STOP = 60
POLL_SECONDS = 0.1
PREFIX = "sbx-engine-"


def ensure_engine() -> str:
    """The DOCKER_HOST of an engine that answers.

    That of the environment; else the default socket's; else, for root, one that is installed from
    Debian's docker.io and started in the background. Raises DevError if none can be had.
    """
    if given := os.environ.get("DOCKER_HOST"):
        if not answers(given):
            raise DevError(
                f"no Docker engine answers at DOCKER_HOST={given}. Start it or unset it."
            )
        return given
    if answers(DEFAULT_HOST):
        return DEFAULT_HOST
    if os.geteuid() != 0:
        raise DevError(
            "no Docker engine answers (or you may not use its socket). Start it, join the group"
            " `docker`, name one with DOCKER_HOST, or run this as root to have one installed."
        )
    with cache.locked(LOCK):
        if not answers(DEFAULT_HOST):
            ensure_commands({"dockerd": "docker.io", "iptables": "iptables"})
            with step("starting dockerd"):
                _start()
    return DEFAULT_HOST


def answers(host: str) -> bool:
    """Whether an engine answers its API at `host`."""
    return bool(info(host))


def info(host: str) -> dict[str, Any]:
    """What the engine's /info says; empty if it does not answer."""
    try:
        with contextlib.closing(client(host, timeout=10)) as engine:
            return dict(engine.info())
    except (DockerException, OSError):
        return {}


def client(host: str, timeout: int = 60) -> docker.APIClient:
    """A client of the engine at `host`; its API version is negotiated."""
    return docker.APIClient(base_url=host, version="auto", timeout=timeout)


def stop_engine() -> bool:
    """Stop the dockerd that `ensure_engine` started; False if it started none that still runs."""
    running = load(RECORD)
    if running is None:
        return False
    running.terminate(SECONDS_TO_STOP)
    RECORD.unlink(missing_ok=True)
    return True


def _start() -> None:
    if Path("/run/systemd/system").is_dir():
        run(["systemctl", "start", "docker"], advice="See `journalctl -u docker`.")
        _wait(DEFAULT_HOST, lambda: True, "`journalctl -u docker`")
    else:
        # dockerd refuses to start where the pid file of a killed one names a pid in use again. The
        # lock is held and no engine answers, so one of ours is stale.
        PID_FILE.unlink(missing_ok=True)
        argv = [_command("dockerd"), "--live-restore=false", f"--pidfile={PID_FILE}"]
        daemon = detach(argv, log=LOG, record=RECORD)
        _wait(DEFAULT_HOST, daemon.alive, str(LOG))


def _command(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or name


def _wait(host: str, alive: Callable[[], bool], log: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not answers(host):
        if not alive() or time.monotonic() > deadline:
            raise DevError(f"dockerd did not start; its log says why: {log}")
        time.sleep(POLL_SECONDS)


class OwnEngine:
    """A second dockerd, to be stopped and killed by tests; ends with this process. Needs root.

    It shares nothing with the machine's: its own data, socket, containerd and bridge. It leaves
    iptables alone, so a port published on loopback is served by docker-proxy, and containers
    reach the host but nothing beyond it. It lives in a process and a mount namespace of its own:
    when those end, nothing of it remains, containers and mounts included.
    """

    def __init__(self, *runtimes: str) -> None:
        """`runtimes` are further `name=path` pairs for dockerd's --add-runtime. Raises DevError."""
        if os.geteuid() != 0:
            raise DevError("a dockerd of one's own needs root: run this as root")
        ensure_commands({"dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2"})
        with cache.locked(LOCK):
            _remove_abandoned()
            # Short: a Unix socket's path has at most 107 characters.
            self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
            self._bridge = _make_bridge()
        self.host = f"unix://{self.directory}/docker.sock"
        self.log = self.directory / "dockerd.log"
        self._runtimes = runtimes
        self._dockerd: Daemon | None = None
        self._entered: subprocess.Popen[bytes] | None = None
        # In place of the machine's. Before Docker 23 the engine's ID is that of a key in /etc.
        config = {"deprecated-key-path": f"{self.directory}/key.json"} if _is_old() else {}
        (self.directory / "daemon.json").write_text(json.dumps(config))
        unshare = "unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"
        self._namespaces = Supervised(  # docker-init, because it reaps what a killed dockerd leaves
            [*unshare, _command("docker-init"), "--", "sleep", "infinity"],
            log=self.log,
            stop_signal=signal.SIGKILL,
        )

    def __enter__(self) -> "OwnEngine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, with what it knew before; returns when it answers."""
        if self._dockerd and self._dockerd.alive():
            return
        init = _only_child(self._namespaces.daemon.pid)
        with self.log.open("ab") as output:
            self._entered = subprocess.Popen(
                ["nsenter", f"--target={init}", "--pid", "--mount", *self._argv()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._dockerd = Daemon.of(_only_child(self._entered.pid))
        _wait(self.host, self._entered_lives, str(self.log))

    def stop(self) -> None:
        """End it in good order, and its containers with it."""
        if self._dockerd:
            self._dockerd.terminate(SECONDS_TO_STOP)

    def kill9(self) -> None:
        """SIGKILL dockerd alone. Its containers run on, until a new one finds and ends them."""
        if self._dockerd:
            self._dockerd.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and never answers. `thaw` undoes it."""
        if self._dockerd:
            self._dockerd.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._dockerd and self._entered:
            self._dockerd.signal(signal.SIGCONT)
            self._entered.send_signal(signal.SIGCONT)  # nsenter stops with what it started

    def close(self) -> None:
        """End it and remove all that it had."""
        self.thaw()
        self.stop()
        self._namespaces.kill()
        if self._entered:
            self._entered.wait(SECONDS_TO_STOP)
        _remove_networks(self.directory)
        _ip("link", "delete", self._bridge, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _entered_lives(self) -> bool:
        return self._entered is not None and self._entered.poll() is None

    def _argv(self) -> list[str]:
        return [
            _command("dockerd"),
            f"--host={self.host}",
            f"--config-file={self.directory}/daemon.json",
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/exec",
            f"--pidfile={self.directory}/dockerd.pid",
            f"--bridge={self._bridge}",
            "--iptables=false",
            "--ip-masq=false",
            "--live-restore=false",
            # For a machine with a containerd of its own, which dockerd would share.
            f"--containerd-namespace={self._bridge}",
            f"--containerd-plugins-namespace={self._bridge}-plugins",
            *(f"--add-runtime={runtime}" for runtime in self._runtimes),
        ]


def _is_old() -> bool:
    version = run([_command("dockerd"), "--version"])  # "Docker version 20.10.24+dfsg1, build ..."
    return int(version.split()[2].partition(".")[0]) < 23


def _make_bridge() -> str:
    """A bridge with a subnet of its own; returns its name, which begins with our pid."""
    taken = subprocess.run(["ip", "-o", "address"], check=True, capture_output=True, text=True)
    for number in range(1, 255):
        address = f"10.213.{number}.1/24"
        if address not in taken.stdout:
            name = f"sbx{os.getpid()}-{number}"
            _ip("link", "add", name, "type", "bridge")
            _ip("address", "add", address, "dev", name)
            _ip("link", "set", name, "up")
            return name
    raise DevError("no free subnet for a bridge: remove what tests left (`ip link delete sbx...`)")


def _remove_networks(directory: Path) -> None:
    """Delete the bridges of the networks that an engine had which kept its data there: nothing else
    would, once it is gone, and its networks are the host's."""
    store = directory / "data" / "network" / "files" / "local-kv.db"
    if not store.exists():
        return
    known = {id_[:12].decode() for id_ in re.findall(rb"[0-9a-f]{64}", store.read_bytes())}
    for path in Path("/sys/class/net").glob("br-*"):
        if path.name.removeprefix("br-") in known:
            _ip("link", "delete", path.name, check=False)


def _remove_abandoned() -> None:
    """Bridges and folders of test processes that were killed; their dockerds died with them."""
    for path in Path("/sys/class/net").glob("sbx*-*"):
        if not _lives(path.name.removeprefix("sbx")):
            _ip("link", "delete", path.name, check=False)
    for path in Path("/tmp").glob(f"{PREFIX}*"):
        if not _lives(path.name.removeprefix(PREFIX)):
            _remove_networks(path)
            shutil.rmtree(path, ignore_errors=True)


def _lives(pid_and_more: str) -> bool:
    pid = pid_and_more.partition("-")[0]
    return not pid.isdigit() or Daemon.of(int(pid)) is not None


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def _only_child(pid: int) -> int:
    """The pid of the process that `pid` forks; `unshare` and `nsenter` do so at once."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + SECONDS_TO_START
    while not (found := children.read_text().split()):
        if time.monotonic() > deadline:
            raise DevError(f"process {pid} started nothing")
        time.sleep(POLL_SECONDS / 10)
    return int(found[0])
