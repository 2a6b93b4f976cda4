"""A `Lab` for each engine."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from controller.core.names import Owner
from controller.engines.docker import DockerEngine
from controller.engines.memory import MemoryEngine, MemoryHost
from dev.engine import ensure_engine
from dev.images import ensure_busybox
from dev.leftovers import removed_at_end
from tests.contract.lab import IGNORES_SIGTERM, Lab, program


@pytest.fixture(scope="session")
def cluster_uid() -> str:
    return str(uuid.uuid4())


@pytest.fixture(scope="session")
def docker_host(cluster_uid: str) -> Iterator[str]:
    """A Docker engine; what this run made in it is gone afterwards."""
    host = ensure_engine()
    with removed_at_end(host, cluster_uid):
        yield host


@pytest.fixture(scope="session")
def busybox(docker_host: str) -> str:
    return ensure_busybox(docker_host)


@pytest.fixture
async def docker_lab(docker_host: str, busybox: str, cluster_uid: str) -> AsyncIterator[Lab]:
    def engine(instance: str) -> DockerEngine:
        return DockerEngine(Owner(cluster_uid, instance), base_url=docker_host)

    engines = engine("mine"), engine("mine"), engine("theirs")
    lab = Lab(*engines, image=busybox, taken_ports=None)
    yield lab
    await lab.clean()
    for each in engines:
        await each.close()


@pytest.fixture
def memory_host() -> MemoryHost:
    return MemoryHost(
        images={"busybox"},
        program=program,
        heeds_sigterm=lambda spec: spec.command != IGNORES_SIGTERM,
    )


@pytest.fixture
async def memory_lab(memory_host: MemoryHost, cluster_uid: str) -> AsyncIterator[Lab]:
    mine, theirs = Owner(cluster_uid, "mine"), Owner(cluster_uid, "theirs")
    lab = Lab(
        MemoryEngine(mine, memory_host),
        MemoryEngine(mine, memory_host),
        MemoryEngine(theirs, memory_host),
        image="busybox",
        taken_ports=memory_host.taken_ports,
    )
    yield lab
    await lab.clean()


@pytest.fixture(params=["memory", "docker"])
def lab(request: pytest.FixtureRequest) -> Lab:
    found: Lab = request.getfixturevalue(f"{request.param}_lab")
    return found
