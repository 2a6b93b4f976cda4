"""Deletion: seen at once, done in the background, complete, and possible in every phase."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from controller.core import names
from dev.images import BUSYBOX
from tests.integration.boxes import (
    IGNORES_SIGTERM,
    SLEEPS,
    WAITS_FOR_GO,
    WEB,
    Box,
    Docker,
    World,
    condition,
    conditions,
)
from tests.integration.operator import SECONDS, Json, Plane, Refused

pytestmark = pytest.mark.usefixtures("operator")
VOLUMES = [{"name": "work", "mountPath": "/work", "managed": {}}]


async def nothing_is_left(box: Box, docker: Docker) -> None:
    await box.until_gone()
    assert await docker.left(box) == []
    assert await box.secret() is None


async def test_deleting_shows_before_the_container_has_stopped(
    world: World, docker: Docker
) -> None:
    box = await world.running(
        ports=[WEB],
        command=IGNORES_SIGTERM,
        volumes=VOLUMES,
        terminationGracePeriodSeconds=4,
    )
    audit = world.plane.audit
    since = await audit.settled()
    await box.delete()
    deleting = await box.until("DELETING", "Deleting")
    assert await docker.state(box) == "running"
    assert deleting["status"].get("exposedUrls", []) == []
    assert "sessionApiKeySecretRef" not in deleting["status"]
    assert conditions(deleting)["Reconciling"]
    assert not conditions(deleting)["Available"]
    await audit.until(lambda _: audit.writes(box.name, since)["delete secrets"] == 1)
    assert await box.secret() is None
    assert await docker.state(box) == "running", "the Secret goes before the container"
    await nothing_is_left(box, docker)


async def test_the_watch_tells_of_deleting_before_the_end(world: World, docker: Docker) -> None:
    """Also for one whose container ends at once."""
    boxes = await asyncio.gather(*(world.running(command=SLEEPS) for _ in range(3)))
    for box in boxes:
        await box.delete()
    for box in boxes:
        await nothing_is_left(box, docker)
        assert box.phases() == ["STARTING", "RUNNING", "DELETING"]


async def _frozen(world: World, _: Docker) -> Box:
    box = await world.running(ports=[WEB], volumes=VOLUMES)
    await box.pause()
    await box.until("PAUSED", "Frozen")
    return box


async def _frozen_and_deaf(world: World, _: Docker) -> Box:
    box = await world.running(command=IGNORES_SIGTERM, terminationGracePeriodSeconds=1)
    await box.pause()
    await box.until("PAUSED", "Frozen")
    return box


async def _stopped(world: World, _: Docker) -> Box:
    box = await world.running(command=SLEEPS, pauseMethod="Stop", volumes=VOLUMES)
    await box.pause()
    await box.until("PAUSED", "Stopped")
    return box


async def _stopping(world: World, _: Docker) -> Box:
    deaf: Json = {"command": IGNORES_SIGTERM, "terminationGracePeriodSeconds": 2}
    box = await world.running(pauseMethod="Stop", **deaf)
    await box.pause()
    await box.until(where=lambda obj: "pausing" in obj["status"])
    return box


async def _never_started(world: World, _: Docker) -> Box:
    box = await world.box(operatingMode="Paused")
    await box.until("PAUSED", "NotStarted")
    return box


async def _not_ready(world: World, _: Docker) -> Box:
    readiness = {"httpGet": {"port": "WEB"}}
    box = await world.box(ports=[WEB], command=WAITS_FOR_GO, readiness=readiness)
    await box.until("STARTING", "WaitingForReadiness")
    return box


async def _in_error(world: World, _: Docker) -> Box:
    box = await world.box(image="no-such-image:1")
    await box.until("ERROR", "ImageNotFound")
    return box


async def _exited(world: World, _: Docker) -> Box:
    box = await world.box(command=["true"], restartPolicy="Never", volumes=VOLUMES)
    await box.until("ERROR", "Completed")
    return box


async def _missing(world: World, docker: Docker) -> Box:
    box = await world.running(command=SLEEPS, volumes=VOLUMES)
    name = box.container_name
    await docker(lambda client: client.remove_container(name, force=True))
    await box.until("MISSING")
    return box


@pytest.mark.parametrize(
    "made",
    [
        _frozen,
        _frozen_and_deaf,
        _stopped,
        _stopping,
        _never_started,
        _not_ready,
        _in_error,
        _exited,
        _missing,
    ],
)
async def test_in_any_phase(
    world: World, docker: Docker, made: Callable[[World, Docker], Awaitable[Box]]
) -> None:
    box = await made(world, docker)
    await box.delete()
    await box.until("DELETING")
    await nothing_is_left(box, docker)


async def test_while_it_is_being_created(world: World, docker: Docker) -> None:
    """At every point on the way that the object or the engine tells of. Before it is claimed: see
    test_restart, since the API server may then drop the object in spite of the finalizer."""

    async def claimed(box: Box) -> None:
        await box.until(where=lambda obj: bool(obj["metadata"].get("finalizers")))

    async def created(box: Box) -> None:
        await docker.happened(box, "create", since)

    async def started(box: Box) -> None:
        await docker.happened(box, "start", since)

    async def play(moment: Callable[[Box], Awaitable[None]]) -> None:
        box = await world.box(command=SLEEPS, volumes=VOLUMES)
        await moment(box)
        await box.delete()
        await nothing_is_left(box, docker)

    since = docker.now()
    await asyncio.gather(*(play(moment) for moment in (claimed, created, started) * 3))


@pytest.fixture
def registry_that_hangs() -> Iterator[str]:
    """It takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_during_a_pull(world: World, docker: Docker, registry_that_hangs: str) -> None:
    image = f"{registry_that_hangs}/x:latest"
    box = await world.box(image=image, imagePullPolicy="IfNotPresent")
    pulling = await box.until("STARTING", "Pulling")
    assert image in condition(pulling, "Ready")["message"]
    other = await world.running(command=SLEEPS)
    await box.delete()
    await nothing_is_left(box, docker)
    await other.delete()


async def test_a_new_one_of_the_same_name_gets_a_container_of_its_own(
    world: World, docker: Docker
) -> None:
    first = await world.running("again", command=SLEEPS)
    key = await first.key()
    await first.delete()
    await nothing_is_left(first, docker)
    second = await world.running("again", command=SLEEPS)
    assert second.uid != first.uid
    assert second.status["container"]["id"] != first.status["container"]["id"]
    assert await second.key() != key


async def test_when_its_spec_cannot_be_read(world: World, docker: Docker) -> None:
    """As after a downgrade: objects that the schema of today would refuse."""
    plane = world.plane
    definition = (
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{names.PLURAL}.{names.GROUP}"
    )
    strict = await plane.call("GET", definition)
    await _relax(plane, definition, strict)
    broken = None
    try:
        broken = await _until_accepted(world)
    finally:
        now = await plane.call("GET", definition)
        strict["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"]
        await plane.call("PUT", definition, strict)
    sick = await broken.until("ERROR", "InvalidSpec")
    assert "spec.imagePullPolicy" in condition(sick, "Ready")["message"]
    assert await docker.left(broken) == []
    healthy = await world.running(command=SLEEPS)
    await broken.delete()
    await nothing_is_left(broken, docker)
    assert healthy.phases() == ["STARTING", "RUNNING"]


async def _relax(plane: Plane, definition: str, strict: Json) -> None:
    relaxed = {**strict, "spec": {**strict["spec"]}}
    version = {**strict["spec"]["versions"][0]}
    root = version["schema"]["openAPIV3Schema"]
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    properties = {**root["properties"], "spec": anything}
    schema = {k: v for k, v in root.items() if k != "x-kubernetes-validations"}
    version["schema"] = {"openAPIV3Schema": schema | {"properties": properties}}
    version.pop("selectableFields", None)
    relaxed["spec"]["versions"] = [version]
    await plane.call("PUT", definition, relaxed)


async def _until_accepted(world: World) -> Box:
    """The API server takes a moment to go by another schema, and tells nobody when it does."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await world.box("broken", image=BUSYBOX, imagePullPolicy="Sometimes")
            except Refused:
                await asyncio.sleep(0.1)
