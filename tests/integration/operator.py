"""The operator as users run it, and the cluster it runs against.

Plane      an API server that keeps an audit log, with the CRDs and the operator's ClusterRole
Audit      what the operator asked of that API server, exactly
Operator   `python -m controller run` as a child process, so that it can be killed, with the rights
           of the ClusterRole and no others
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from controller.core import names
from controller.settings import ENV_PREFIX
from dev import pki
from dev.apiserver import ADMIN_GROUP, ControlPlane
from dev.binaries import ensure_binaries
from dev.cluster import CHECKOUT, cluster_uid, install_crds
from dev.processes import Supervised

Json = dict[str, Any]

USER = "sandbox-operator"
ROLE = CHECKOUT / "helm" / "files" / "clusterrole.yaml"
SECONDS = 60
"""How long a test waits for what is due at once: the machine may be busy."""
_WRITES = ("create", "update", "patch", "delete", "deletecollection")
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Refused(Exception):
    """The API server's no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Audit:
    """The API server's audit log of the operator's requests."""

    def __init__(self, log: Path, plane: Plane) -> None:
        self._log = log
        self._plane = plane
        self._read = 0
        self._rest = b""
        self._records: list[Json] = []

    def records(self) -> list[Json]:
        """All so far."""
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(self._read)
                new = log.read()
            self._read += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")
            self._records += map(_record, lines)
        return self._records

    async def until(self, condition: Callable[[list[Json]], bool], seconds: float = SECONDS) -> int:
        """Wait until the records satisfy the condition; returns how many they are then.

        A file tells nobody that it has grown, so this is the one place here that polls.
        """
        async with asyncio.timeout(seconds):
            while not condition(self.records()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return len(self._records)

    async def settled(self) -> int:
        """Wait until all that was answered so far is in the log; returns how many that is."""
        mark = f"audit-{uuid.uuid4().hex}"
        user = self._plane.users[0]
        await self._plane.call("GET", f"{names_path('default')}/{mark}", ok=(404,), user=user)
        return await self.until(lambda all_: any(_of(r).get("name") == mark for r in all_[-200:]))

    async def resyncs(self, count: int) -> None:
        """Wait for so many full comparisons from now on: each lists the Sandboxes."""
        since = await self.settled()
        # One more than asked: the first may have begun before.
        await self.until(lambda all_: sum(map(_is_resync, all_[since:])) > count)

    def writes(self, name: str = "", since: int = 0) -> Counter[str]:
        """Writes that took effect, as "patch sandboxes/status": on one Sandbox and its Secret,
        or on all. Those of Events are counted as "create events"."""
        found: Counter[str] = Counter()
        for record in self.records()[since:]:
            on = _of(record)
            if record["verb"] not in _WRITES or record["responseStatus"]["code"] >= 300:
                continue
            of_it = on.get("name") in (name, names.secret_name(name))
            of_it |= on["resource"] == "events" and on.get("name", "").startswith(f"{name}.")
            if not name or of_it:
                sub = on.get("subresource")
                found[f"{record['verb']} {on['resource']}{'/' + sub if sub else ''}"] += 1
        return found

    def never_allowed(self) -> set[str]:
        """What was always refused. An API server that has just started refuses all for a moment."""
        refused, allowed = set[str](), set[str]()
        for record in self.records():
            on = _of(record)
            asked = f"{record['verb']} {on['resource']}/{on.get('subresource', '')}"
            (refused if record["responseStatus"]["code"] == 403 else allowed).add(asked)
        return refused - allowed


def _record(line: bytes) -> Json:
    """One line. Where an API server was killed while writing, its successor's first record follows
    in the same line."""
    return dict(json.loads(line[max(0, line.rfind(b'{"kind":"Event","apiVersion":"audit')) :]))


def _of(record: Json) -> Json:
    return dict(record.get("objectRef") or {"resource": ""})


def _is_resync(record: Json) -> bool:
    paged = "limit=" in record["requestURI"]
    return record["verb"] == "list" and _of(record)["resource"] == names.PLURAL and paged


def but_events(writes: Counter[str]) -> Counter[str]:
    return Counter({what: n for what, n in writes.items() if what != "create events"})


class Plane:
    """One API server for all operators of a session, and an administrator's requests to it."""

    def __init__(self, directory: Path, users: Sequence[str] = (USER,)) -> None:
        """`users` are those who get the operator's rights, and whose requests are logged."""
        self.users = users
        directory.mkdir(parents=True, exist_ok=True)
        policy, log = directory / "audit-policy.yaml", directory / "audit.log"
        rules = [{"level": "Metadata", "users": list(users)}, {"level": "None"}]
        stages = ["RequestReceived", "ResponseStarted"]
        policy.write_text(
            json.dumps(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": stages,
                    "rules": rules,
                }
            )
        )
        flags = [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]
        self.control_plane = ControlPlane(directory / "plane", ensure_binaries(), flags=flags)
        self.audit = Audit(log, self)
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def start(self) -> None:
        await asyncio.to_thread(self.control_plane.start)
        await asyncio.to_thread(install_crds, self.control_plane.kubeconfig)
        role = yaml.safe_load(ROLE.read_text())
        await self.call("POST", f"{_RBAC}/clusterroles", role)
        group = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": USER},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role["metadata"]["name"]},
            "subjects": [{"apiGroup": group, "kind": "User", "name": u} for u in self.users],
        }
        await self.call("POST", f"{_RBAC}/clusterrolebindings", binding)

    async def stop(self) -> None:
        for session in self._sessions.values():
            await session.close()
        await asyncio.to_thread(self.control_plane.stop)

    @cached_property
    def uid(self) -> str:
        """Of the cluster; the same after a restart, and known while the API server is away."""
        return cluster_uid(self.control_plane.kubeconfig)

    def session(self, user: str = "admin") -> aiohttp.ClientSession:
        """Requests go to `plane.url + path`."""
        if user not in self._sessions:
            keys = self.control_plane.directory / "pki"
            context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
            context.load_cert_chain(
                *pki.client(keys, user, [ADMIN_GROUP] if user == "admin" else [])
            )
            self._sessions[user] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=0),
                timeout=aiohttp.ClientTimeout(total=None, connect=5),
                read_bufsize=1 << 20,  # one line of a watch is a whole object
            )
        return self._sessions[user]

    @property
    def url(self) -> str:
        return self.control_plane.url

    async def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        ok: tuple[int, ...] = (),
        user: str = "admin",
    ) -> Json:
        """One request, a PATCH as a merge patch. Raises Refused, but for statuses in `ok`."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with self.session(user).request(
            method, self.url + path, json=body, headers={"Content-Type": kind}
        ) as response:
            answer: Json = await response.json()
            if response.status >= 300 and response.status not in ok:
                raise Refused(response.status, str(answer.get("message")))
            return answer


def names_path(namespace: str) -> str:
    """The path of the Sandboxes of a namespace."""
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"


class Operator:
    """One operator process at a time; `settings` are its environment's, in lower case."""

    def __init__(self, plane: Plane, log: Path, **settings: str) -> None:
        self.plane = plane
        self.log = log
        self.settings = settings
        self._process: Supervised | None = None

    @property
    def owner(self) -> names.Owner:
        return names.Owner(self.plane.uid, self.settings["instance_name"])

    def start(self, **changes: str) -> None:
        """Start it unless it runs; `changes` to its settings stay."""
        self.settings |= changes
        if self.alive():
            return
        self._process = Supervised(self.command(), log=self.log, env=self.environment())

    def command(self) -> list[str]:
        return [sys.executable, "-m", "controller", "run"]

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
        env |= {f"{ENV_PREFIX}{name.upper()}": value for name, value in self.settings.items()}
        return env | {"KUBECONFIG": str(self.plane.control_plane.kubeconfig_for(USER))}

    def alive(self) -> bool:
        return self._process is not None and self._process.alive()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.daemon.pid

    async def stop(self) -> None:
        """As Kubernetes would: SIGTERM, and time to end."""
        if self._process is not None:
            await asyncio.to_thread(self._process.terminate, 20)

    def kill9(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def restart(self, **changes: str) -> None:
        await self.stop()
        self.start(**changes)

    def words(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
