"""One side of the round: an operator, the namespace it watches, its links and its token.

Side      all of it; two sides share the cluster and the engine and nothing else
Yard      the Sandboxes of its namespace, and what must hold at every version of them
Operator  the one that can be made to kill itself, and speaks through the links
Token     what it proves itself with, until it is revoked
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.core import names
from dev.apiserver import ControlPlane
from dev.cluster import CHECKOUT
from dev.engine import OwnEngine
from dev.images import BUSYBOX
from tests.chaos import failing_operator
from tests.chaos.deeds import Deeds, seconds
from tests.chaos.links import Link, Stream
from tests.integration import operator as plain
from tests.integration.boxes import Box, World, condition
from tests.integration.operator import Json, Plane

ACCOUNTS = "chaos-accounts"
NAMES = ("a", "b")
RESYNC_SECONDS = 2
_PIECE = 1 << 18
_TOKEN_SECONDS = 3600


def account(side: str) -> str:
    """The user name of a side's operator, as RBAC and the audit log have it."""
    return f"system:serviceaccount:{ACCOUNTS}:operator-{side}"


class Yard(World):
    """Sandboxes as the watch tells of them: whoever made them, whatever became of the answer."""

    def __init__(
        self, plane: Plane, namespace: str, deeds: Deeds, violated: Callable[[str, Box], None]
    ) -> None:
        super().__init__(plane, namespace)
        self._deeds = deeds
        self._violated = violated
        self._known: dict[str, Box] = {}
        self.asked: set[str] = set()
        """UIDs whose deletion was asked for and granted."""
        self.ran: set[str] = set()
        """UIDs that have been RUNNING."""
        self.dropped: set[str] = set()
        """UIDs that the API server dropped in spite of our finalizer: it had read them before, and
        so it never set their deletionTimestamp. That of one that is released is set: its last
        version but for the finalizer's removal is what DELETED tells."""

    def of(self, uid: str) -> Box | None:
        return self._known.get(uid)

    @property
    def watching(self) -> bool:
        return self._watch is not None and not self._watch.done()

    def living(self) -> list[Box]:
        return [b for b in self.boxes if not b.gone and b.uid not in self.asked]

    def ending(self) -> list[Box]:
        return [b for b in self.boxes if not b.gone and b.uid in self.asked]

    async def declare(self, name: str, **spec: Any) -> None:
        """Make a Sandbox of busybox; the watch makes its Box. Raises Refused."""
        spec = {"image": BUSYBOX, "imagePullPolicy": "Never"} | spec
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": spec,
        }
        await self.plane.call("POST", self.path(), body)

    async def change(self, box: Box, **spec: Any) -> int:
        """Patch the spec of this very object; returns its new generation. Raises Refused."""
        if spec.get("operatingMode") == "Paused":
            self._deeds.paused[box.uid].append(time.time())
        body = {"metadata": {"uid": box.uid}, "spec": spec}
        changed = await self.plane.call("PATCH", self.path(box.name), body)
        return int(changed["metadata"]["generation"])

    async def _tell(self, kind: str, obj: Json) -> None:
        meta = obj["metadata"]
        meta.pop("managedFields", None)
        uid, phase = meta["uid"], (obj.get("status") or {}).get("phase")
        box = self._known.get(uid)
        if box is None:
            box = self._known[uid] = Box(self, meta["name"], uid)
            self.boxes.append(box)
            if obj["spec"]["operatingMode"] == "Paused" or meta["generation"] > 1:
                # Declared so; or perhaps, where the first version came while the watch was away.
                self._deeds.paused[uid].append(seconds(meta["creationTimestamp"]))
        before = (box.latest.get("status") or {}).get("phase") if box.versions else None
        if phase == "RUNNING":
            self.ran.add(uid)
        if "deletionTimestamp" in meta or kind == "DELETED":
            self.asked.add(uid)
        held = names.FINALIZER in meta.get("finalizers", [])
        if kind == "DELETED" and held and "deletionTimestamp" not in meta:
            self.dropped.add(uid)
        await super()._tell(kind, obj)
        if before == "DELETING" and phase != "DELETING":
            self._violated(f"left the phase DELETING for {phase}", box)
        if phase == "DELETING" and "deletionTimestamp" not in meta:
            self._violated("is DELETING, and nobody asked for it", box)
        reason = condition(obj, "Ready").get("reason")
        if phase in ("ERROR", "MISSING") and not reason:
            self._violated(f"is {phase} without a reason", box)
        if phase == "PAUSED" and reason == "Frozen":
            self._deeds.hear_frozen(obj["status"].get("container") or {}, time.time())
        if phase == "MISSING" and not self._deeds.removed_it(obj):
            self._violated("is MISSING, and nobody removed its container", box)


class Token:
    """A ServiceAccount token bound to a Secret: it ends when that is deleted."""

    def __init__(self, plane: Plane, side: str, file: Path) -> None:
        self._plane = plane
        self._account = f"operator-{side}"
        self._path = f"/api/v1/namespaces/{ACCOUNTS}"
        self._number = 0
        self._issued: list[str] = []
        """Secrets that living tokens are bound to, the newest last."""
        self.file = file
        self.all: list[str] = []

    async def begin(self) -> None:
        body = {"metadata": {"name": ACCOUNTS}}
        await self._plane.call("POST", "/api/v1/namespaces", body, ok=(409,))
        body = {"metadata": {"name": self._account}}
        await self._plane.call("POST", f"{self._path}/serviceaccounts", body)
        self.write(await self.issue())

    async def issue(self) -> str:
        """A new token; the one before stays good until `revoke`."""
        self._number += 1
        secret = await self._plane.call(
            "POST", f"{self._path}/secrets", {"metadata": {"name": self._bound(self._number)}}
        )
        bound = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": secret["metadata"]["name"],
            "uid": secret["metadata"]["uid"],
        }
        spec = {"expirationSeconds": _TOKEN_SECONDS, "boundObjectRef": bound}
        answer = await self._plane.call(
            "POST",
            f"{self._path}/serviceaccounts/{self._account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        self._issued.append(bound["name"])
        self.all.append(answer["status"]["token"])
        return self.all[-1]

    def write(self, token: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(token)
        new.rename(self.file)

    async def revoke(self) -> bool:
        """End all but the newest. The API server believes them for up to 10 s more. Returns whether
        there was one to end."""
        ended = False
        while len(self._issued) > 1:
            path = f"{self._path}/secrets/{self._issued[0]}"
            answer = await self._plane.call("DELETE", path, ok=(404,))
            ended |= answer.get("code") != 404
            self._issued.pop(0)
        return ended

    def _bound(self, number: int) -> str:
        return f"{self._account}-{number}"


class Operator(plain.Operator):
    """`failing_operator` behind a kubeconfig with a token file and the link's address."""

    def __init__(self, plane: Plane, log: Path, kubeconfig: Path, **settings: str) -> None:
        super().__init__(plane, log, **settings)
        self.failpoint = log.with_suffix(".failpoint")
        self._kubeconfig = kubeconfig
        self.starts = 0

    def command(self) -> list[str]:
        return [sys.executable, "-m", failing_operator.__name__, "run"]

    def environment(self) -> dict[str, str]:
        self.starts += 1
        return super().environment() | {
            "KUBECONFIG": str(self._kubeconfig),
            "PYTHONPATH": str(CHECKOUT),
            failing_operator.VARIABLE: str(self.failpoint),
        }


class Side:
    """`async with` brings all of it up but the operator's process."""

    def __init__(
        self,
        name: str,
        plane: Plane,
        engine: OwnEngine,
        directory: Path,
        rng: random.Random,
        deeds: Deeds,
        violated: Callable[[str, Box], None],
    ) -> None:
        self.name = name
        self.user = account(name)
        self.plane = plane
        self.yard = Yard(plane, f"chaos-{name}", deeds, violated)
        self.docker_link = Link(_unix(Path(engine.host.removeprefix("unix://"))), rng)
        self.api_link = Link(_tcp(plane.control_plane), rng)
        self._socket = engine.directory / f"link-{name}.sock"
        self.token = Token(plane, name, directory / f"token-{name}")
        self._kubeconfig = directory / f"kubeconfig-{name}"
        self.operator = Operator(
            plane,
            directory / f"operator-{name}.log",
            self._kubeconfig,
            instance_name=f"chaos-{name}",
            namespaces=self.yard.namespace,
            docker_host=f"unix://{self._socket}",
            resync_seconds=str(RESYNC_SECONDS),
            engine_timeout_seconds="4",
            log_level="debug",
        )

    async def __aenter__(self) -> Side:
        await self.token.begin()
        await self.docker_link.listen_unix(self._socket)
        port = await self.api_link.listen_tcp()
        self._kubeconfig.write_text(json.dumps(self._config(port)))
        await self.yard.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.operator.stop()
        await self.yard.__aexit__(*exc)
        await self.docker_link.close()
        await self.api_link.close()

    @property
    def owned(self) -> str:
        """The label of all that its operator has on the engine."""
        return f"{names.OWNER_LABEL}={self.operator.owner.label}"

    def _config(self, port: int) -> Json:
        authority = self.plane.control_plane.directory / "pki" / "ca.crt"
        cluster = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "chaos", "cluster": cluster}],
            "users": [{"name": "chaos", "user": {"tokenFile": str(self.token.file)}}],
            "contexts": [{"name": "chaos", "context": {"cluster": "chaos", "user": "chaos"}}],
            "current-context": "chaos",
        }


def _unix(path: Path) -> Callable[[], asyncio.Future[Stream]]:
    return lambda: asyncio.ensure_future(asyncio.open_unix_connection(path, limit=_PIECE))


def _tcp(control_plane: ControlPlane) -> Callable[[], asyncio.Future[Stream]]:
    def dial() -> asyncio.Future[Stream]:
        port = int(control_plane.url.rpartition(":")[2])
        return asyncio.ensure_future(asyncio.open_connection("127.0.0.1", port, limit=_PIECE))

    return dial
