"""etcd and an unmodified kube-apiserver on free loopback ports, and kubeconfigs for any user.

Everything is in one directory: keys, etcd's data, logs, process records and kubeconfigs. A user
is a client certificate signed by the directory's own authority, so any name and any groups can be
had at any time. RBAC is on; `system:masters` may do everything.
"""

import base64
import json
import signal
import ssl
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev import pki
from dev.binaries import Binaries
from dev.ports import free_ports
from dev.processes import Daemon, Supervised, detach, load
from dev.progress import DevError

SECONDS_TO_START = 90
SECONDS_TO_STOP = 3  # ends in 1 s, or with open watches of HTTP/1.1 only after a minute
ATTEMPTS = 5
ADMIN_GROUP = "system:masters"


@dataclass(frozen=True)
class _Ports:
    etcd: int
    peer: int
    api: int


class ControlPlane:
    """One API server and its etcd, as children that end with this process, or `detached`."""

    def __init__(
        self,
        directory: Path,
        binaries: Binaries,
        *,
        detached: bool = False,
        durable: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        """`durable`: etcd syncs every write to the disk, as it does in production. `flags` are
        further ones for kube-apiserver, such as an audit policy's."""
        self.directory = directory.absolute()
        self._durable = durable
        self._flags = flags
        self._binaries = binaries
        self._detached = detached
        self._running: dict[str, Supervised | Daemon] = {}
        for name in ("etcd", "kube-apiserver"):
            if found := load(self._record(name)):
                self._running[name] = found

    @property
    def kubeconfig(self) -> Path:
        """The cluster-admin's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._ports().api}"

    def start(self) -> None:
        """Start what is not running, on the ports of the last time if they are still free.

        Returns when /readyz says ok and the system namespaces exist.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        pki.ensure(self.directory / "pki")
        if self.ready():
            return
        for attempt in range(ATTEMPTS):
            if attempt or not self._ports_file.exists():
                self.stop()
                self._choose_ports()
            self._start_etcd()
            self._start_apiserver()
            if self._wait_ready():
                return
        raise DevError(f"the API server did not start: {self._last_words()}")

    def stop(self) -> None:
        """End both, the API server first; their data stays."""
        self._end("kube-apiserver")
        self._end("etcd")

    def kill(self) -> None:
        """SIGKILL both, as a machine that loses power would."""
        for name in ("kube-apiserver", "etcd"):
            self.kill_one(name)

    def stop_apiserver(self) -> None:
        """End the API server alone: clients see refused connections until `restart_apiserver`."""
        self._end("kube-apiserver")

    def kill_one(self, name: str) -> None:
        """SIGKILL `kube-apiserver` or `etcd`."""
        if process := self._running.pop(name, None):
            process.kill()
        self._record(name).unlink(missing_ok=True)

    def restart_apiserver(self) -> None:
        """End the API server if it runs, and start it on the same port and data."""
        self._end("kube-apiserver")
        self._start_apiserver()
        if not self._wait_ready():
            raise DevError(f"the API server did not return: {self._last_words()}")

    def running(self) -> set[str]:
        """Which of `etcd` and `kube-apiserver` run."""
        return {name for name, process in self._running.items() if process.alive()}

    def alive(self) -> bool:
        """Whether both processes run."""
        return len(self.running()) == 2

    def ready(self) -> bool:
        """Whether both run, /readyz says ok and the system namespaces exist."""
        if not self.alive():
            return False
        try:
            ready = self._get("/readyz") == b"ok"
            return ready and bool(self._get("/api/v1/namespaces/kube-system"))
        except OSError:
            return False

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user that RBAC knows by `user` and `groups`."""
        name = user.replace("/", "_").replace(":", "_")
        return self._write_kubeconfig(self.directory / f"kubeconfig-{name}", user, groups)

    def _choose_ports(self) -> None:
        self._ports_file.write_text(json.dumps(free_ports(3)))
        self._write_kubeconfig(self.kubeconfig, "admin", [ADMIN_GROUP])

    def _ports(self) -> _Ports:
        return _Ports(*json.loads(self._ports_file.read_text()))

    @property
    def _ports_file(self) -> Path:
        return self.directory / "ports.json"

    def _record(self, name: str) -> Path:
        return self.directory / f"{name}.pid"

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _last_words(self) -> str:
        log = self._log("kube-apiserver")
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return f"{lines[-1] if lines else 'it said nothing'} (all of it: {log})"

    def _start_etcd(self) -> None:
        ports = self._ports()
        # The peer's port may be another than last time, which a single member does not mind. No
        # --force-new-cluster: after a kill it gives up what was acknowledged last.
        client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.peer}"
        self._run(
            "etcd",
            [
                self._binaries.etcd,
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                # Else nothing is worth surviving a power cut.
                *([] if self._durable else ["--unsafe-no-fsync"]),
                "--auto-compaction-retention=5m",
                "--log-level=warn",
            ],
        )

    def _start_apiserver(self) -> None:
        ports, keys = self._ports(), self.directory / "pki"
        self._run(
            "kube-apiserver",
            [
                self._binaries.kube_apiserver,
                f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                f"--secure-port={ports.api}",
                f"--tls-cert-file={keys / 'serving.crt'}",
                f"--tls-private-key-file={keys / 'serving.key'}",
                f"--client-ca-file={keys / 'ca.crt'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={keys / 'accounts.key'}",
                f"--service-account-signing-key-file={keys / 'accounts.key'}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--disable-admission-plugins=ServiceAccount",
                "--allow-privileged=true",
                "--max-requests-inflight=1000",
                "--max-mutating-requests-inflight=500",
                "--profiling=false",
                *self._flags,
            ],
        )

    def _run(self, name: str, argv: list[str | Path]) -> None:
        running = self._running.get(name)
        if running and running.alive():
            return
        log = self._log(name)
        if self._detached:
            self._running[name] = detach(argv, log=log, record=self._record(name))
        else:
            self._running[name] = Supervised(argv, log=log, stop_signal=signal.SIGKILL)

    def _end(self, name: str) -> None:
        if process := self._running.pop(name, None):
            process.terminate(SECONDS_TO_STOP)
        self._record(name).unlink(missing_ok=True)

    def _wait_ready(self) -> bool:
        """False when a process ended early: its port was taken, most likely."""
        deadline = time.monotonic() + SECONDS_TO_START
        while not self.ready():
            if not self.alive():
                return False
            if time.monotonic() > deadline:
                raise DevError(f"no API server after {SECONDS_TO_START} s; see {self.directory}")
            time.sleep(0.1)
        return True

    def _get(self, path: str) -> bytes:
        keys = self.directory / "pki"
        context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        context.load_cert_chain(*pki.client(keys, "admin", [ADMIN_GROUP]))
        handler = urllib.request.HTTPSHandler(context=context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
        with opener.open(self.url + path, timeout=5) as answer:
            return bytes(answer.read())

    def _write_kubeconfig(self, path: Path, user: str, groups: Sequence[str]) -> Path:
        keys = self.directory / "pki"
        certificate, key = pki.client(keys, user, groups)
        cluster = {"server": self.url, "certificate-authority-data": _encoded(keys / "ca.crt")}
        identity = {
            "client-certificate-data": _encoded(certificate),
            "client-key-data": _encoded(key),
        }
        name = "sandbox-operator-dev"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": user, "user": identity}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=2))  # JSON is YAML
        return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
