"""What Docker is asked before a start, and when it is not asked to start at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.engines.base import EngineRefused
from controller.engines.docker import DockerEngine


class Client:
    """Docker with one container in a given state, and a runc of a given version."""

    timeout = 30.0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.state: dict[str, Any] = {"Running": False, "Dead": True}
        self.runc = "1.3.3"

    def version(self) -> dict[str, Any]:
        self.calls.append("version")
        return {"Components": [{"Name": "runc", "Version": self.runc}]}

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"Id": container, "State": self.state}

    def start(self, container: str) -> None:
        self.calls.append("start")

    def close(self) -> None:
        pass


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
async def engine(client: Client) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(Owner("cluster", "instance"), require_patched_runc=True)
    engine._client = client
    yield engine
    await engine.close()


async def test_one_that_runs_is_left_alone(client: Client, engine: DockerEngine) -> None:
    """Should it end just then, asking would start it without its root having been looked at."""
    client.state = {"Running": True, "Paused": False}
    await engine.start("c")
    assert "start" not in client.calls


async def test_a_frozen_one_is_refused(client: Client, engine: DockerEngine) -> None:
    client.state = {"Running": True, "Paused": True}
    with pytest.raises(EngineRefused) as refused:
        await engine.start("c")
    assert refused.value.reason is Reason.START_FAILED
    assert "start" not in client.calls


async def test_a_patched_runc_is_asked_for_once_and_again_with_a_connection(
    client: Client, engine: DockerEngine
) -> None:
    await engine.start("c")
    await engine.start("c")
    assert client.calls == ["version", "start", "start"]
    client.runc = "1.3.2"
    assert await engine.advisories()
    with pytest.raises(EngineRefused) as refused:
        await engine.start("c")
    assert refused.value.reason is Reason.NOT_ALLOWED


async def test_a_refused_runc_heals_with_its_upgrade(client: Client, engine: DockerEngine) -> None:
    client.runc = "1.4.0~rc2+ds1"
    with pytest.raises(EngineRefused):
        await engine.start("c")
    client.runc = "1.4.0-rc.3"
    await engine.start("c")
    assert client.calls[-1] == "start"
