"""Objects as big as a store takes do not make the operator big.

It is the operator as users run it, over an engine that answers at once; see bench/size.py. The
bounds are scaled from what is promised: 500 such objects start under 300 MB.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bench.size import Kind, Memory, Store, kinds, measured
from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries
from dev.cluster import install_crds

COUNT = 60
PLAIN_MB = 110
"""The process with few small Sandboxes takes 85."""
OF_EACH_MB = 1.0
"""It was 10.3 MB of each before."""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path / "plane", ensure_binaries())
    try:
        await asyncio.to_thread(plane.start)
        await asyncio.to_thread(install_crds, plane.kubeconfig)
        yield plane
    finally:
        await asyncio.to_thread(plane.stop)


@pytest.fixture(autouse=True)
def bystanders() -> None:
    """None: this operator has an engine of its own."""


@pytest.mark.parametrize("kind", kinds()[1:], ids=lambda kind: kind.name)
async def test_a_start_among_the_largest_objects(
    kind: Kind, plane: ControlPlane, tmp_path: Path
) -> None:
    store = Store(plane)
    if not kind.bounded:
        await store.loosen()
    await store.fill(kind, COUNT)
    memory = await measured(plane, COUNT, tmp_path / "operator.log")
    assert memory.peak < PLAIN_MB + OF_EACH_MB * COUNT, memory


async def test_five_sandboxes_with_sixteen_secrets_of_a_mebibyte(
    plane: ControlPlane, tmp_path: Path
) -> None:
    store, secret = Store(plane), b64encode(b"v" * 1_000_000).decode()
    for i in range(16):
        body = {"metadata": {"name": f"s{i}"}, "data": {"K": secret}}
        await store.create("/api/v1/namespaces/default/secrets", body)
    sources = [{"secretRef": {"name": f"s{i}"}} for i in range(16)]
    prefixed = [{"prefix": f"P{i}_", "secretRef": {"name": "s0"}} for i in range(16)]
    env: list[dict[str, Any]] = [{"envFrom": sources}, {"envFrom": prefixed}]
    for kind in (Kind("many", env[0], {}), Kind("prefixed", env[1], {})):
        await store.fill(kind, 5)
    log = tmp_path / "operator.log"
    memory: Memory = await measured(plane, 10, log)
    assert memory.peak < PLAIN_MB + 40, memory
    assert log.read_text().count("ERROR InvalidSpec") >= 10
