"""The demo: one Sandbox is created, used, paused, resumed and deleted, with times.

The API server, the engine and the agent server are real. The cluster is a temporary one unless one
was named, and whatever the demo made is removed however it ends.
"""

import base64
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config, watch
from rich.table import Table

from controller.core.names import GROUP, PLURAL, RESUME_REQUESTED_AT, SECRET_KEY, VERSION
from controller.settings import ENV_PREFIX
from dev import cluster
from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries
from dev.leftovers import removed_at_end
from dev.processes import Supervised
from dev.progress import DevError, console, step

MANIFEST = cluster.CHECKOUT / "examples" / "sandbox.yaml"
PATH = "/api/conversations/search"
SECONDS_TO_BE = 120
SECONDS_TO_SERVE = 3  # an operator that runs takes milliseconds
INSTANCE = "demo"

Object = dict[str, Any]


def run(
    docker_host: str, image: str, kubeconfig: Path | None, context: str, namespace: str
) -> None:
    """Show a Sandbox's life; `kubeconfig` None means a cluster for the demo alone."""
    with ExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="sandbox-operator-demo-"))
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        if kubeconfig is None:
            config_path = undo.enter_context(_temporary_cluster(work))
        else:
            config_path = _with_context(kubeconfig, context, work)
        if created := cluster.add_missing_crds(config_path):
            undo.callback(cluster.remove_crds, config_path, created)
        play = _Demo(_Cluster(config_path, namespace), image)
        play.create()
        with ExitStack() as unserved:
            unserved.callback(play.remove)
            needs_operator = kubeconfig is None or not play.is_served()
            unserved.pop_all()
        with ExitStack() as served:
            if needs_operator:
                uid = cluster.cluster_uid(config_path)
                served.enter_context(removed_at_end(docker_host, uid, INSTANCE))
                served.enter_context(_operator(work, config_path, docker_host, namespace))
            served.callback(play.remove)
            play.use()
            play.pause_and_resume()
            play.delete()
        play.summarize()


@dataclass(frozen=True)
class Seen:
    """One event of the watch; `at` is monotonic."""

    at: float
    gone: bool
    sandbox: Object

    @property
    def phase(self) -> str:
        return str(self.sandbox.get("status", {}).get("phase", ""))


class _Cluster:
    """The Sandboxes and Secrets of one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._client = config.new_client_from_config(str(kubeconfig))
        self._objects = client.CustomObjectsApi(self._client)
        self._secrets = client.CoreV1Api(self._client)
        self._where = (GROUP, VERSION, namespace, PLURAL)
        self.namespace = namespace

    def create(self, sandbox: Object) -> Object:
        return dict(self._objects.create_namespaced_custom_object(*self._where, sandbox))

    def patch(self, name: str, change: Object) -> None:
        self._objects.patch_namespaced_custom_object(*self._where, name, change)

    def delete(self, name: str) -> bool:
        """False if it is gone already."""
        try:
            self._objects.delete_namespaced_custom_object(*self._where, name)
        except client.ApiException as error:
            if error.status != 404:
                raise
            return False
        return True

    def secret(self, name: str) -> str:
        data = self._secrets.read_namespaced_secret(name, self.namespace).data
        return base64.b64decode(data[SECRET_KEY]).decode()

    def events(self, name: str) -> Iterator[tuple[str, Object]]:
        """The watch's events of one Sandbox; it goes on after a lost connection by itself."""
        api = client.CustomObjectsApi(config.new_client_from_config(str(self._kubeconfig)))
        only = {"field_selector": f"metadata.name={name}"}
        for event in watch.Watch().stream(api.list_namespaced_custom_object, *self._where, **only):
            yield event["type"], event["object"]


class _Watch:
    """What a watch has told of one Sandbox, and waiting for what it will."""

    def __init__(self, cluster: _Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._told = threading.Condition()
        self._history: list[Seen] = []
        threading.Thread(target=self._follow, daemon=True).start()

    def wait(
        self,
        what: str,
        wanted: Callable[[Seen], bool],
        *,
        after: float,
        seconds: float = SECONDS_TO_BE,
    ) -> Seen:
        """The first event after `after` (monotonic) that is `wanted`."""
        deadline = time.monotonic() + seconds

        def find() -> Seen | None:
            return next((s for s in self._history if s.at >= after and wanted(s)), None)

        with self._told:
            while (found := find()) is None:
                if not self._told.wait(deadline - time.monotonic()) and find() is None:
                    raise DevError(f"no {what} in {seconds:.0f} s. {self._last()}")
            return found

    def _last(self) -> str:
        if not self._history:
            return "The watch told nothing: does the operator run?"
        status = self._history[-1].sandbox.get("status", {})
        why = [c for c in status.get("conditions", []) if c["type"] == "Ready"]
        reason = f": {why[0].get('reason')}: {why[0].get('message')}" if why else ""
        return f"The last phase was {status.get('phase', 'none')}{reason}"

    def _follow(self) -> None:
        # A cluster that ends before the Sandbox does is told by `wait`.
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            self._listen()

    def _listen(self) -> None:
        told = ""
        for kind, sandbox in self._cluster.events(self._name):
            seen = Seen(time.monotonic(), kind == "DELETED", sandbox)
            phase = "gone" if seen.gone else seen.phase
            if phase and phase != told:
                console.print(f"  {datetime.now():%H:%M:%S.%f}"[:-3] + f"  {phase}")
                told = phase
            with self._told:
                self._history.append(seen)
                self._told.notify_all()
            if seen.gone:
                return


class _Demo:
    """The play, act by act; each adds a row to the table at the end."""

    def __init__(self, cluster: _Cluster, image: str) -> None:
        self._cluster = cluster
        self._sandbox = yaml.safe_load(MANIFEST.read_text())
        self._sandbox["spec"]["image"] = image
        self._name = str(self._sandbox["metadata"]["name"])
        self._rows: list[tuple[str, str]] = []

    def create(self) -> None:
        console.print(f"\nkubectl apply -f {MANIFEST.relative_to(cluster.CHECKOUT)}", style="bold")
        self._created = time.monotonic()
        try:
            self._cluster.create(self._sandbox)
        except client.ApiException as error:
            if error.status == 409:
                raise DevError(
                    f"the cluster has a Sandbox {self._cluster.namespace}/{self._name} already:"
                    " it stays as it is. Name another namespace."
                ) from error
            raise DevError(f"the API server refused the Sandbox: {error.body}") from error
        self._seen = _Watch(self._cluster, self._name)

    def is_served(self) -> bool:
        """Whether an operator that runs in the cluster takes the Sandbox up."""
        try:
            self._seen.wait("phase", lambda s: bool(s.phase), after=0, seconds=SECONDS_TO_SERVE)
        except DevError:
            return False
        console.print("  an operator runs in this cluster already: it is used")
        return True

    def use(self) -> None:
        ready = self._phase("RUNNING", since=self._created)
        took = f"{ready.at - self._created:.1f} s"
        self._rows.append(("created to RUNNING, start of the operator included", took))
        status = ready.sandbox["status"]
        self._url = next(u["url"] for u in status["exposedUrls"] if u["name"] == "AGENT_SERVER")
        self._key = self._cluster.secret(status["sessionApiKeySecretRef"]["name"])
        console.print(f"\nits agent server is at {self._url}", style="bold")
        self._expect("without the key", {}, 401)
        self._expect("with the key from its Secret", {"X-Session-API-Key": self._key}, 200)

    def pause_and_resume(self) -> None:
        console.print("\noperatingMode: Paused", style="bold")
        began = time.monotonic()
        self._cluster.patch(self._name, {"spec": {"operatingMode": "Paused"}})
        paused = self._phase("PAUSED", since=began)
        self._rows.append(("pause to PAUSED", _milliseconds(paused.at - began)))
        console.print("\noperatingMode: Running", style="bold")
        began = time.monotonic()
        asked = {"annotations": {RESUME_REQUESTED_AT: datetime.now(UTC).isoformat()}}
        resume = {"metadata": asked, "spec": {"operatingMode": "Running"}}
        self._cluster.patch(self._name, resume)
        running = self._phase("RUNNING", since=began)
        self._rows.append(("resume to RUNNING", _milliseconds(running.at - began)))
        self._expect("with the key, again", {"X-Session-API-Key": self._key}, 200)

    def delete(self) -> None:
        console.print(f"\nkubectl delete sandbox {self._name}", style="bold")
        called = time.monotonic()
        self._cluster.delete(self._name)
        returned = time.monotonic()
        deleting = self._phase("DELETING", since=called)
        gone = self._seen.wait("end of the Sandbox", lambda s: s.gone, after=called)
        self._rows += [
            ("delete call", _milliseconds(returned - called)),
            # The watch may be faster than the call's own answer.
            ("delete returned to DELETING", _milliseconds(max(0.0, deleting.at - returned))),
            ("cleaning up, nobody waits", _milliseconds(gone.at - returned)),
        ]

    def remove(self) -> None:
        """However the play ended, no Sandbox stays."""
        began = time.monotonic()
        if not self._cluster.delete(self._name):
            return
        try:
            with step("removing the Sandbox"):
                self._seen.wait("end of the Sandbox", lambda s: s.gone, after=began)
        except DevError as error:  # the error that ended the play matters more
            console.print(f"the Sandbox {self._name} was not removed: {error}")

    def summarize(self) -> None:
        table = Table("what", "time", title="Summary")
        for row in self._rows:
            table.add_row(*row)
        console.print(table)

    def _phase(self, phase: str, *, since: float) -> Seen:
        return self._seen.wait(f"phase {phase}", lambda s: s.phase == phase, after=since)

    def _expect(self, how: str, headers: dict[str, str], status: int) -> None:
        got = _get(self._url.rstrip("/") + PATH, headers)
        console.print(f"  GET {PATH} {how}: {got}")
        if got != status:
            raise DevError(f"expected {status}")


def _get(url: str, headers: dict[str, str]) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        raise DevError(f"{url} does not answer: {error}") from error


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


@contextmanager
def _temporary_cluster(work: Path) -> Iterator[Path]:
    control_plane = ControlPlane(work / "cluster", ensure_binaries())
    try:
        with step("starting a cluster for the demo"):
            control_plane.start()
        yield control_plane.kubeconfig
    finally:
        control_plane.stop()


@contextmanager
def _operator(work: Path, kubeconfig: Path, docker_host: str, namespace: str) -> Iterator[None]:
    log = work / "operator.log"
    command = Path(sys.executable).parent / "sandbox-operator"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
        "KUBECONFIG": str(kubeconfig),
        "DOCKER_HOST": docker_host,
        f"{ENV_PREFIX}NAMESPACES": namespace,
        f"{ENV_PREFIX}INSTANCE_NAME": INSTANCE,
    }
    operator = Supervised([command, "run"], log=log, env=env)
    try:
        yield
    except DevError:
        console.print(f"the end of the operator's log:\n{log.read_text()[-2000:]}", style="dim")
        raise
    finally:
        operator.terminate()


def _with_context(kubeconfig: Path, context: str, work: Path) -> Path:
    """A copy of a kubeconfig in which `context` is the current one, and relative paths hold."""
    if not kubeconfig.is_file():
        raise DevError(f"there is no kubeconfig {kubeconfig}")
    loaded = yaml.safe_load(kubeconfig.read_text())
    names = [entry["name"] for entry in loaded.get("contexts", [])]
    loaded["current-context"] = context or loaded.get("current-context", "")
    if loaded["current-context"] not in names:
        raise DevError(f"{kubeconfig} has no context {context!r}; CONTEXT=... is one of {names}")
    folder = kubeconfig.absolute().parent
    for entry in [*loaded.get("clusters", []), *loaded.get("users", [])]:
        settings = entry.get("cluster") or entry.get("user") or {}
        for name in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if name in settings:
                settings[name] = str(folder / settings[name])
    copy = work / "kubeconfig"
    copy.touch(mode=0o600)
    copy.write_text(yaml.safe_dump(loaded))
    return copy
