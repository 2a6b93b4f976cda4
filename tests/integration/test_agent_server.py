"""The real OpenHands agent server in a Sandbox, from creation to deletion."""

import pytest

from dev.images import ensure_agent_server
from tests.integration.boxes import Box, Docker, World, conditions, fetch, url
from tests.integration.operator import Operator

PORT = "AGENT_SERVER"
API = "/api/conversations/search"


def presenting(key: str) -> dict[str, str]:
    return {"X-Session-API-Key": key}


@pytest.fixture(scope="module")
async def box(world: World, docker: Docker, operator: Operator) -> Box:
    """Its tests follow one life, in order."""
    return await world.box(
        image=ensure_agent_server(docker.host),
        ports=[{"name": PORT, "containerPort": 8000}],
        readiness={"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 1},
        resources={"limits": {"memory": "2Gi"}},
        volumes=[{"name": "workspace", "mountPath": "/workspace", "managed": {}}],
    )


async def test_it_runs_only_once_ready_answers(box: Box) -> None:
    starting = await box.until("STARTING", "WaitingForReadiness")
    assert not conditions(starting)["Available"]
    running = await box.until("RUNNING", "Ready", seconds=120)
    assert box.phases() == ["STARTING", "RUNNING"]
    assert (await fetch(url(running, PORT) + "/ready"))[0] == 200


async def test_it_takes_the_key_from_the_secret_and_no_other(box: Box) -> None:
    address = url(box.latest, PORT) + API
    key = await box.key()
    assert (await fetch(address))[0] == 401
    assert (await fetch(address, presenting("not-" + key)))[0] == 401
    assert (await fetch(address, presenting(key)))[0] == 200


async def test_paused_it_is_frozen_and_resumed_it_goes_on(box: Box, docker: Docker) -> None:
    address, key = url(box.latest, PORT) + API, await box.key()
    before = (await docker.inspect(box))["State"]
    await box.pause()
    await box.until("PAUSED", "Frozen")
    assert await docker.state(box) == "paused"
    with pytest.raises(TimeoutError):
        await fetch(address, presenting(key), seconds=1)
    await box.resume()
    resumed = await box.until("RUNNING")
    after = (await docker.inspect(box))["State"]
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])
    assert url(resumed, PORT) + API == address
    assert (await fetch(address, presenting(key)))[0] == 200


async def test_deleting_shows_before_it_has_stopped(box: Box, docker: Docker) -> None:
    await box.delete()
    await box.until("DELETING")
    assert await docker.state(box) == "running"
    await box.until_gone()
    assert await docker.left(box) == []
    assert await box.secret() is None
