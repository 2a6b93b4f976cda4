"""Two operators share a cluster and an engine: each has namespaces, and touches only its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.core import names
from tests.integration.boxes import SLEEPS, Docker, World
from tests.integration.conftest import leave_nothing, swept
from tests.integration.operator import Operator, Plane

VOLUMES = [{"name": "work", "mountPath": "/work", "managed": {}}]


@pytest.fixture(scope="module")
async def worlds(plane: Plane) -> AsyncIterator[tuple[World, World]]:
    async with World(plane, "team-a") as a, World(plane, "team-b") as b:
        yield a, b


@pytest.fixture(scope="module")
async def operators(
    worlds: tuple[World, World], docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Operator, Operator]]:
    logs: Path = tmp_path_factory.mktemp("operators")
    one, two = (
        Operator(
            world.plane,
            logs / f"{world.namespace}.log",
            namespaces=world.namespace,
            instance_name=world.namespace,
            docker_host=docker.host,
            resync_seconds="1",
        )
        for world in worlds
    )
    one.start()
    two.start()
    yield one, two
    one.start()
    two.start()
    for world in worlds:
        await world.clear()
    for operator in (one, two):
        await swept(docker, operator)
        await operator.stop()
        await leave_nothing(docker, operator)


async def test_each_runs_its_own(
    worlds: tuple[World, World], docker: Docker, operators: tuple[Operator, Operator]
) -> None:
    for world, operator in zip(worlds, operators, strict=True):
        box = await world.running("same-name", command=SLEEPS)
        details = await docker.inspect(box)
        assert details["Config"]["Labels"][names.OWNER_LABEL] == operator.owner.label
        networks = details["NetworkSettings"]["Networks"]
        assert list(networks) == [names.network_name(operator.owner)]


async def test_neither_sweeps_what_the_other_left(
    worlds: tuple[World, World], docker: Docker, operators: tuple[Operator, Operator]
) -> None:
    """While one is away, what it owns waits for it: whatever became of the objects."""
    (_, b), (_, two) = worlds, operators
    deleted = await b.running(command=SLEEPS, volumes=VOLUMES)
    orphan = await b.running(command=SLEEPS, volumes=VOLUMES)
    held = [await docker.left(box) for box in (deleted, orphan)]
    two.kill9()
    await deleted.delete()
    await b.plane.call("PATCH", b.path(orphan.name), {"metadata": {"finalizers": None}})
    await orphan.delete()
    await orphan.until_gone()
    await b.plane.audit.resyncs(4)
    assert [await docker.left(box) for box in (deleted, orphan)] == held
    assert not deleted.gone
    since = docker.now()
    two.start()
    await deleted.until_gone()
    assert await docker.left(deleted) == []
    await docker.happened(orphan, "destroy", since - 1)


async def test_one_that_no_longer_watches_a_namespace_leaves_it_alone(
    worlds: tuple[World, World], docker: Docker, operators: tuple[Operator, Operator]
) -> None:
    (a, _), (one, _) = worlds, operators
    box = await a.running(command=SLEEPS)
    before = await docker.inspect(box)
    await one.restart(namespaces="team-c")
    await a.plane.audit.resyncs(4)
    assert (await docker.inspect(box))["State"] == before["State"]
    await one.restart(namespaces=a.namespace)
    await box.delete()
    await box.until_gone()
