"""Pulls from a registry that is hostile, or merely slow: when Docker is told to give one up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import docker
import pytest

import controller.engines.docker
from controller.core.reasons import Reason
from controller.engines import pullpace
from controller.engines.base import PullTooSlow
from controller.fairness import TENANT
from tests.contract.lab import SECONDS, Lab
from tests.registry import Layer, Registry

TRICKLES = Layer(100_000, bytes_per_second=4)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pullpace, "WINDOW_SECONDS", 3.0)
    monkeypatch.setattr(controller.engines.docker, "_PACE_CHECK_SECONDS", 0.2)


@pytest.fixture
def raw(docker_host: str) -> Iterator[Any]:
    with contextlib.closing(docker.APIClient(base_url=docker_host, version="auto")) as client:
        yield client


async def test_what_a_registry_sends_is_there(
    docker_lab: Lab, registry: Registry, raw: Any
) -> None:
    image = registry.image([Layer(), Layer(300_000), Layer(300_000, bytes_per_second=600_000)])
    await docker_lab.engine.pull(image)
    raw.remove_image(image)


async def test_one_that_is_given_up_is_downloaded_no_longer(
    docker_lab: Lab, registry: Registry
) -> None:
    """Docker ends it when the connection closes: else it would go on for nobody."""
    image = registry.image([TRICKLES, TRICKLES])
    pulling = asyncio.create_task(docker_lab.engine.pull(image))
    await registry.until(downloading=1)
    pulling.cancel()
    await registry.until(downloading=0)
    await asyncio.wait([pulling], timeout=SECONDS)
    assert pulling.cancelled()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    "layers",
    [
        [Layer(100_000, bytes_per_second=1)],
        [Layer(), Layer(), Layer(), Layer(), Layer(100_000, bytes_per_second=1)],
        [Layer(100_000, silent=True)],
        [Layer(300_000, bytes_per_second=300) for _ in range(5)],
    ],
    ids=["a byte a second", "after good ones", "says nothing", "five at once"],
)
async def test_one_that_hardly_moves_is_given_up(
    docker_lab: Lab, registry: Registry, layers: list[Layer]
) -> None:
    async with asyncio.timeout(SECONDS):
        with pytest.raises(PullTooSlow) as caught:
            await docker_lab.engine.pull(registry.image(layers))
    assert caught.value.reason is Reason.IMAGE_PULL_FAILED
    assert "the registry sent" in caught.value.message
    if not any(layer.silent for layer in layers):
        # Docker 20.10 cannot be made to give up a layer whose answer has no head yet: README says
        # what to set.
        await registry.until(downloading=0)


async def test_a_registry_that_does_not_say_what_there_is_is_given_up(
    docker_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pullpace, "SILENT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(PullTooSlow) as caught:
        await docker_lab.engine.pull(f"127.0.0.1:{listener.getsockname()[1]}/x:1")
    assert "did not answer" in caught.value.message


async def test_one_that_takes_all_downloads_of_docker_lets_others_go_on(
    docker_lab: Lab, registry: Registry, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker downloads three layers at once, for all. These are fast enough to go on alone."""
    monkeypatch.setattr(pullpace, "LEAST_BYTES", 1)
    monkeypatch.setattr(pullpace, "CONTENDED_SECONDS", 2.0)
    slow = registry.image([Layer(9_000_000, bytes_per_second=30_000) for _ in range(4)])
    quick = registry.image([Layer()])
    pulling = asyncio.create_task(_of("greedy", docker_lab.engine.pull(slow)))
    await registry.until(downloading=3)
    await _of("modest", docker_lab.engine.pull(quick))
    with pytest.raises(PullTooSlow) as caught:
        await pulling
    assert "while other images waited" in caught.value.message
    raw.remove_image(quick)


async def _of(tenant: str, pull: Coroutine[Any, Any, None]) -> None:
    TENANT.set(tenant)
    await asyncio.create_task(pull)
