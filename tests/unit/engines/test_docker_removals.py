"""Removals that are under way when Docker is asked, and those that were broken off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import requests
from docker.errors import APIError

from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.engines.base import EngineRefused, EngineUnreachable
from controller.engines.docker import DockerEngine

MARKED = "container is marked for removal and cannot be started"


class Client:
    """Docker with one container, which somebody else is removing."""

    timeout = 30.0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.removing = True
        self.waited: type[Exception] | None = None

    def remove_container(self, container: str, *, v: bool, force: bool) -> None:
        self.calls.append("remove")
        if self.removing:
            raise _refused(409, f"removal of container {container} is already in progress")

    def wait(self, container: str, *, timeout: float, condition: str) -> dict[str, Any]:
        self.calls.append(f"wait until {condition}, {timeout:g} s")
        if self.waited is not None:
            raise self.waited
        return {"StatusCode": 0}

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": False, "Dead": True}}

    def start(self, container: str) -> None:
        self.calls.append("start")
        raise _refused(409, MARKED)

    def close(self) -> None:
        pass


def _refused(status: int, explanation: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("refused", response=response, explanation=explanation)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
async def engine(client: Client) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(Owner("cluster", "instance"))
    engine._client = client
    yield engine
    await engine.close()


async def test_one_that_is_under_way_is_waited_for(client: Client, engine: DockerEngine) -> None:
    await engine.remove("c")
    assert client.calls == ["remove", "wait until removed, 30 s"]


async def test_one_that_does_not_end_is_no_success(client: Client, engine: DockerEngine) -> None:
    client.waited = requests.exceptions.ReadTimeout
    with pytest.raises(EngineUnreachable):
        await engine.remove("c")


@pytest.mark.parametrize("removing", [True, False])
async def test_what_is_marked_for_removal_is_removed_and_gone(
    client: Client, engine: DockerEngine, removing: bool
) -> None:
    """It is dead: no start of it ever succeeds, and nobody else may come back to remove it."""
    client.removing = removing
    with pytest.raises(EngineRefused) as refused:
        await engine.start("c")
    assert refused.value.reason is Reason.CONTAINER_MISSING
    assert client.calls[:2] == ["start", "remove"]
