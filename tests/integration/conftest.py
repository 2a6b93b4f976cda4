"""A real API server with the CRDs of this checkout, one for all tests of a session; and another
for the tests that run the operator, with what they watch.

A module that runs the operator may set SETTINGS, its settings by name.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from controller.core import names
from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries
from dev.cluster import install_crds
from dev.engine import ensure_engine
from dev.images import ensure_busybox
from dev.leftovers import remove_owned, removed_at_end
from tests.integration.boxes import Docker, World
from tests.integration.operator import Operator, Plane

LINES_SHOWN = 60


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """`cluster.kubeconfig` is the admin's; `cluster.kubeconfig_for(user)` another user's."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("cluster"), ensure_binaries())
    control_plane.start()
    install_crds(control_plane.kubeconfig)
    yield control_plane
    control_plane.stop()


@pytest.fixture(scope="session")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """Its Sandboxes are the operator's alone: `cluster` has others, which no operator may see."""
    plane = Plane(tmp_path_factory.mktemp("plane"))
    await plane.start()
    yield plane
    await plane.stop()
    assert plane.audit.never_allowed() == set(), "the ClusterRole lacks a right"


@pytest.fixture(scope="session")
def docker(plane: Plane) -> Iterator[Docker]:
    """The machine's engine; what the operators of this session made in it is gone afterwards."""
    host = ensure_engine()
    ensure_busybox(host)
    docker = Docker(host)
    with removed_at_end(host, plane.uid):
        yield docker
    docker.close()


@pytest.fixture(scope="module")
async def world(request: pytest.FixtureRequest, plane: Plane) -> AsyncIterator[World]:
    """A namespace named after the test's module."""
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    async with World(plane, name) as world:
        yield world


@pytest.fixture(scope="module")
async def operator(
    request: pytest.FixtureRequest, world: World, docker: Docker, tmp_path_factory: Any
) -> AsyncIterator[Operator]:
    """One that watches all namespaces; at the end its Sandboxes are deleted, and nothing is left
    of them."""
    settings = {"instance_name": world.namespace, "docker_host": docker.host}
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    operator = Operator(world.plane, log, **settings | getattr(request.module, "SETTINGS", {}))
    operator.start()
    try:
        yield operator
        operator.start()
        await world.clear()
        await swept(docker, operator)
    finally:
        await operator.stop()
    await leave_nothing(docker, operator)
    assert "internal error" not in operator.words()


async def swept(docker: Docker, operator: Operator) -> None:
    """What appeared after its Sandbox had gone, since a create's caller had died, goes within two
    resyncs (invariant 2)."""
    if await docker.labelled(f"{names.OWNER_LABEL}={operator.owner.label}"):
        await operator.plane.audit.resyncs(2)


async def leave_nothing(docker: Docker, operator: Operator) -> None:
    """An operator that ended after its Sandboxes has left its network, and nothing else."""
    owner = operator.owner
    assert await docker.labelled(f"{names.OWNER_LABEL}={owner.label}") == []
    await asyncio.to_thread(remove_owned, docker.host, owner.cluster_uid, owner.instance)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """A failed test shows the end of its operators' logs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Operator):
                lines = value.words().splitlines()[-LINES_SHOWN:]
                tail = "\n".join(line[:300] for line in lines)
                report.sections.append((f"log of {name}", tail))
