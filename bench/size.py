"""`python -m bench.size [COUNT]`: what the operator needs for Sandboxes that are as big as can be.

    small     plain ones, to compare with
    largest   the most that the CRD accepts
    looser    the most that a store holds: as written under a CRD without bounds

Each kind is stored COUNT times (500) on an API server of its own, before the operator starts over
an engine that answers at once and keeps no environment. Told: its resident memory at its highest,
and when every Sandbox has a phase of its own and a resync has passed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench.audit import USER
from bench.instant import IMAGE
from controller.core import names
from controller.core.crd import sandbox_crd
from controller.settings import ENV_PREFIX
from dev import pki
from dev.apiserver import ADMIN_GROUP, ControlPlane
from dev.binaries import ensure_binaries
from dev.cluster import install_crds
from dev.processes import Supervised

Json = dict[str, Any]

COUNT = 500
RESYNC_SECONDS = 10
AT_ONCE = 4
SECONDS = 600
PATH = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}"
_CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{names.PLURAL}.{names.GROUP}"
_WIDE = "\U0001f4e6"
"""Four bytes of UTF-8, and four of every character beside it in Python."""


@dataclass(frozen=True)
class Kind:
    """What is stored."""

    name: str
    spec: Json
    annotations: dict[str, str]
    bounded: bool = True
    """The CRD's bounds are in force."""


def kinds() -> list[Kind]:
    notes = {"notes": "n" * 250_000}
    most = [{"name": f"E{i}", "value": _WIDE * 32_000} for i in range(2)]
    wide = [{"name": f"E{i}", "value": _WIDE * 32_768} for i in range(8)]
    return [
        Kind("small", {}, {}),
        Kind("largest", {"env": most}, notes),
        Kind("looser", {"env": wide}, notes, bounded=False),
    ]


@dataclass(frozen=True)
class Memory:
    """Of a process, in MB."""

    peak: float
    rest: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
        return cls(int(found["VmHWM"]) / 1000, int(found["VmRSS"]) / 1000)


def unbounded(schema: Json) -> Json:
    """The schema without bounds and rules: what an older CRD may have let in."""
    bounds = ("maxLength", "maxItems", "maxProperties", "pattern", "x-kubernetes-validations")
    return {
        key: unbounded(value) if isinstance(value, dict) else value
        for key, value in schema.items()
        if key not in bounds or isinstance(value, dict)
    }


class Store:
    """The API server, as an administrator uses it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        keys = self.plane.directory / "pki"
        tls = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        tls.load_cert_chain(*pki.client(keys, "bench", [ADMIN_GROUP]))
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(self.plane.url, connector=connector) as session:
            yield session

    async def loosen(self) -> None:
        """Take the bounds out of the CRD."""
        async with self.session() as session:
            async with session.get(_CRD) as response:
                crd = await response.json()
            version = sandbox_crd()["spec"]["versions"][0]
            schema = version["schema"]["openAPIV3Schema"]
            version["schema"]["openAPIV3Schema"] = unbounded(schema)
            crd["spec"]["versions"] = [version]
            async with session.put(_CRD, json=crd) as response:
                response.raise_for_status()

    async def create(self, path: str, body: Json) -> None:
        async with self.session() as session, session.post(path, json=body) as response:
            response.raise_for_status()

    async def fill(self, kind: Kind, count: int) -> None:
        """Store so many; what a CRD that has just changed still refuses is tried again."""
        names_ = iter(range(count))
        async with self.session() as session:

            async def some() -> None:
                for i in names_:
                    await _store(session, kind, f"{kind.name}-{i}")

            await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def _store(session: aiohttp.ClientSession, kind: Kind, name: str) -> None:
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "annotations": kind.annotations},
        "spec": {"image": IMAGE, "sessionKey": {"mode": "None"}, **kind.spec},
    }
    raw = json.dumps(body, ensure_ascii=False).encode()
    for attempt in range(100):
        headers = {"Content-Type": "application/json"}
        async with session.post(PATH, data=raw, headers=headers) as response:
            if response.status < 300:
                return
            if attempt == 99 or response.status not in (404, 422, 429):
                raise RuntimeError(f"{response.status} {(await response.text())[:500]}")
        await asyncio.sleep(0.2)


async def measured(plane: ControlPlane, count: int, log: Path, **settings: str) -> Memory:
    """The operator's memory when it has taken up `count` Sandboxes and come to rest."""
    env = {n: v for n, v in os.environ.items() if not n.startswith(ENV_PREFIX)}
    settings = {"resync_seconds": str(RESYNC_SECONDS)} | settings
    env |= {f"{ENV_PREFIX}{name.upper()}": value for name, value in settings.items()}
    env["KUBECONFIG"] = str(plane.kubeconfig_for(USER, [ADMIN_GROUP]))
    operator = Supervised([sys.executable, "-m", "bench.instant"], log=log, env=env)
    try:
        async with asyncio.timeout(SECONDS):
            # Its log, since the API server has enough to do with what is read and written anyway.
            while len(_told(log)) < count:
                await asyncio.sleep(1)
                if not operator.alive():
                    raise RuntimeError(f"the operator ended, see {log}")
        await asyncio.sleep(2 * RESYNC_SECONDS)
        return Memory.of(operator.daemon.pid)
    finally:
        operator.terminate()


def _told(log: Path) -> set[str]:
    """The Sandboxes whose phase the operator has logged, but STARTING."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return set(re.findall(r" default/([a-z0-9-]+): (?:RUNNING|ERROR) ", text))


async def one(kind: Kind, count: int) -> Memory:
    work = Path(tempfile.mkdtemp(prefix="bench-size-"))
    plane = ControlPlane(work / "plane", ensure_binaries())
    try:
        plane.start()
        install_crds(plane.kubeconfig)
        if not kind.bounded:
            await Store(plane).loosen()
        await Store(plane).fill(kind, count)
        return await measured(plane, count, work / "operator.log")
    finally:
        plane.stop()
        shutil.rmtree(work, ignore_errors=True)


async def main(count: int) -> None:
    for kind in kinds():
        memory = await one(kind, count)
        print(f"{count} {kind.name}: {memory.peak:.0f} MB at start, {memory.rest:.0f} MB at rest")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT))
