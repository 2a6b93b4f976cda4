"""What only Docker, or the operator's settings, can refuse: told in plain words, and healed when
the cause goes, while others go on."""

import json
import socket
from typing import Any

import pytest

from dev.images import BUSYBOX
from dev.ports import free_ports
from tests.integration.boxes import SLEEPS, WEB, Box, Docker, World, condition, fetch, url
from tests.integration.operator import Operator

(HOST_PORT,) = free_ports(1)
SETTINGS = {
    "allowed_runtimes": json.dumps({"*": ["no-such-runtime"]}),
    "allowed_host_ports": json.dumps({"*": [HOST_PORT]}),
}


@pytest.fixture(autouse=True)
async def bystander(world: World, operator: Operator) -> Any:
    """One that was there before: it notices nothing."""
    box = await world.running(command=SLEEPS)
    container = box.status["container"]
    yield box
    assert box.status["container"] == container
    assert box.phases() == ["STARTING", "RUNNING"]
    await (await world.running(command=SLEEPS)).delete()  # and new ones are served
    await box.delete()


async def message(box: Box, reason: str) -> str:
    refused = await box.until("ERROR", reason)
    return str(condition(refused, "Ready")["message"])


async def test_an_image_that_is_not_there(world: World, docker: Docker) -> None:
    image = "sandbox-operator/refusals:latest"
    box = await world.box(image=image, command=SLEEPS)
    told = await message(box, "ImageNotFound")
    assert image in told
    assert "spec.image" in told
    await docker(lambda client: client.tag(BUSYBOX, image.removesuffix(":latest")))
    try:
        await box.until("RUNNING")
        await box.delete()
        await box.until_gone()
    finally:
        await docker(lambda client: client.remove_image(image))


async def test_an_image_that_cannot_be_pulled(world: World) -> None:
    (nobody,) = free_ports(1)
    image = f"127.0.0.1:{nobody}/x:1"
    box = await world.box(image=image, imagePullPolicy="Always")
    assert image in await message(box, "ImagePullFailed")


async def test_less_memory_than_docker_allows(world: World) -> None:
    box = await world.box(command=SLEEPS, resources={"limits": {"memory": "1Mi"}})
    assert "spec.resources.limits.memory" in await message(box, "InvalidSpec")
    await box.patch(resources={"limits": {"memory": "32Mi"}})
    await box.until("RUNNING")


async def test_a_host_port_that_is_taken(world: World) -> None:
    with socket.create_server(("127.0.0.1", HOST_PORT)):
        box = await world.box(ports=[WEB | {"hostPort": HOST_PORT}])
        told = await message(box, "PortInUse")
        assert str(HOST_PORT) in told
        assert "hostPort" in told
    running = await box.until("RUNNING")
    assert running["status"]["exposedUrls"][0]["port"] == HOST_PORT
    assert (await fetch(url(running)))[0] == 200
    await box.delete()
    await box.until_gone()


async def test_a_runtime_that_the_engine_does_not_have(world: World, docker: Docker) -> None:
    box = await world.box(command=SLEEPS, security={"runtime": "no-such-runtime"})
    assert "no-such-runtime" in await message(box, "RuntimeNotFound")
    await box.delete()
    await box.until_gone()
    assert await docker.left(box) == []


async def test_a_command_that_is_not_in_the_image(world: World) -> None:
    box = await world.box(command=["/no/such/program"], restartPolicy="Never")
    refused = await box.until("ERROR")
    assert "spec.command" in condition(refused, "Ready")["message"]


async def test_what_the_settings_do_not_allow(
    world: World, docker: Docker, operator: Operator
) -> None:
    runtime = await world.box(command=SLEEPS, security={"runtime": "runc"})
    port = await world.box(ports=[WEB | {"hostPort": HOST_PORT % 60000 + 1}])
    image = await world.box(image="elsewhere.example/x:1")
    assert "spec.security.runtime" in await message(runtime, "NotAllowed")
    assert "spec.ports[WEB].hostPort" in await message(port, "NotAllowed")
    await image.until("ERROR", "ImageNotFound")
    for box in (runtime, port):
        assert await docker.left(box) == []
    await operator.restart(
        allowed_runtimes=json.dumps({world.namespace: ["runc"]}),
        allowed_images=json.dumps({"*": ["sandbox-operator/*"]}),
    )
    await runtime.until("RUNNING")
    assert "spec.image" in await message(image, "NotAllowed")
    await port.until("ERROR", "NotAllowed")
    name = runtime.container_name
    details = await docker(lambda client: client.inspect_container(name))
    assert details["HostConfig"]["Runtime"] == "runc"
