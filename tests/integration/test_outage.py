"""The engine goes away, comes back, or is another; and so does the API server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from controller.core import names
from dev.engine import OwnEngine, info
from dev.images import ensure_busybox
from tests.integration.boxes import IGNORES_SIGTERM, SLEEPS, Box, Docker, World, condition
from tests.integration.operator import Json, Operator

SETTINGS = {"resync_seconds": "1", "engine_timeout_seconds": "3"}


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    """The operator's, which may be stopped without a word to others."""
    with OwnEngine() as engine:
        ensure_busybox(engine.host)
        yield engine


@pytest.fixture(scope="module")
def another() -> Iterator[OwnEngine]:
    with OwnEngine() as engine:
        ensure_busybox(engine.host)
        yield engine


@pytest.fixture(scope="module")
def docker(engine: OwnEngine) -> Iterator[Docker]:
    docker = Docker(engine.host)
    yield docker
    docker.close()


@pytest.fixture(autouse=True)
async def runs(operator: Operator, engine: OwnEngine) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(engine.thaw)
    await asyncio.to_thread(engine.start)
    if operator.settings["docker_host"] != engine.host:
        await operator.restart(docker_host=engine.host)


def unreachable(obj: Json) -> bool:
    return condition(obj, "EngineReachable").get("status") == "False"


def reachable(obj: Json) -> bool:
    return condition(obj, "EngineReachable").get("status") == "True"


def restarts(obj: Json) -> int:
    return int(obj["status"]["container"]["restartCount"])


async def test_the_engine_is_killed_and_comes_back(
    world: World, docker: Docker, operator: Operator, engine: OwnEngine
) -> None:
    runs = await world.running(command=SLEEPS)
    doomed = await world.running(command=SLEEPS)
    ending = await world.running(command=IGNORES_SIGTERM)
    frozen = await world.running(command=SLEEPS)
    await frozen.pause()
    await frozen.until("PAUSED", "Frozen")
    await ending.delete()
    await ending.until("DELETING")

    await asyncio.to_thread(engine.kill9)
    await doomed.delete()
    deleting = await doomed.until("DELETING")
    assert "sessionApiKeySecretRef" not in deleting["status"]
    for box, phase in ((runs, "RUNNING"), (frozen, "PAUSED"), (doomed, "DELETING")):
        away = await box.until(where=unreachable)
        assert away["status"]["phase"] == phase, "an outage changes no phase"
        assert condition(away, "EngineReachable")["reason"] == "EngineUnreachable"
    assert not doomed.gone
    assert not ending.gone
    late = await world.box(command=SLEEPS)

    await asyncio.to_thread(engine.start)
    for box in (doomed, ending):
        await box.until_gone()
        assert await docker.left(box) == []
    # dockerd ends what ran under its predecessor.
    lost = await frozen.until("PAUSED", "MemoryLost")
    assert "memory is lost" in condition(lost, "Ready")["message"]
    await runs.until("RUNNING", where=lambda obj: restarts(obj) == 1 and reachable(obj))
    await late.until("RUNNING")
    await frozen.resume()
    resumed = await frozen.until("RUNNING", where=reachable)
    assert restarts(resumed) == 0
    assert "MISSING" not in {phase for box in (runs, frozen, late) for phase in box.phases()}


async def test_an_engine_that_hangs_is_noticed(
    world: World, docker: Docker, operator: Operator, engine: OwnEngine
) -> None:
    box = await world.running(command=SLEEPS)
    before = await docker.inspect(box)
    await asyncio.to_thread(engine.freeze)
    await box.until("RUNNING", where=unreachable)
    await asyncio.to_thread(engine.thaw)
    await box.until("RUNNING", where=reachable)
    assert (await docker.inspect(box))["State"] == before["State"]
    assert box.phases() == ["STARTING", "RUNNING"]


async def test_another_engine_is_no_engine_without_containers(
    world: World, docker: Docker, operator: Operator, engine: OwnEngine, another: OwnEngine
) -> None:
    box, doomed = await world.running(command=SLEEPS), await world.running(command=SLEEPS)
    first = info(engine.host)["ID"]
    elsewhere = Docker(another.host)

    await operator.restart(docker_host=another.host)
    changed = await box.until(where=unreachable)
    assert changed["status"]["phase"] == "RUNNING"
    told = condition(changed, "EngineReachable")
    assert told["reason"] == "EngineChanged"
    assert first in told["message"]
    assert "accepted_engine_ids" in told["message"]
    await doomed.delete()
    await doomed.until("DELETING")
    await world.plane.audit.resyncs(3)
    assert not doomed.gone, "its container is elsewhere"
    assert await elsewhere.labelled(names.OWNER_LABEL) == []

    await operator.restart(docker_host=engine.host)
    await doomed.until_gone()
    await box.until("RUNNING", where=reachable)
    assert await docker.left(box) == [f"/{box.container_name}"]
    assert restarts(box.latest) == 0

    await operator.restart(docker_host=another.host, accepted_engine_ids=first)
    await box.until("MISSING", "ContainerMissing")
    await operator.restart(docker_host=engine.host, accepted_engine_ids="")
    await box.until("RUNNING", where=reachable)
    elsewhere.close()


async def test_the_api_server_goes_and_comes_back(
    world: World, docker: Docker, operator: Operator
) -> None:
    ended, kept, deleted = [await world.running(command=SLEEPS) for _ in range(3)]
    before = await docker.inspect(kept)
    control_plane = world.plane.control_plane
    await deleted.delete()
    await asyncio.to_thread(control_plane.kill_one, "kube-apiserver")
    await docker(lambda client: client.kill(ended.container_name))
    await asyncio.to_thread(control_plane.restart_apiserver)
    assert operator.alive()
    await ended.until("RUNNING", where=lambda obj: restarts(obj) == 1)
    await deleted.until_gone()
    assert await docker.left(deleted) == []
    created: Box = await world.running(command=SLEEPS)
    await created.delete()
    await created.until_gone()
    assert (await docker.inspect(kept))["State"] == before["State"]
    assert kept.phases() == ["STARTING", "RUNNING"]


async def test_the_operator_waits_for_both_to_come_up(
    world: World, docker: Docker, operator: Operator, engine: OwnEngine
) -> None:
    box = await world.running(command=SLEEPS)
    await operator.stop()
    await asyncio.to_thread(engine.stop)
    await asyncio.to_thread(world.plane.control_plane.stop_apiserver)
    operator.start()
    await asyncio.to_thread(world.plane.control_plane.restart_apiserver)
    await box.until(where=unreachable)
    assert operator.alive()
    await asyncio.to_thread(engine.start)
    await box.until("RUNNING", where=lambda obj: restarts(obj) == 1)
