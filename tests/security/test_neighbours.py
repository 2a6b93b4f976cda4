"""What one namespace does to others on a real engine: the order of things, and no times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.boxes import SLEEPS, Box, Docker, World, condition
from tests.registry import Layer, Registry

pytestmark = pytest.mark.usefixtures("operator")

SETTINGS = {"engine_concurrency": "2"}
"""So that a few Sandboxes are a long backlog."""
IN_FLIGHT = 2 * 2
"""Operations of one kind that one namespace has under way."""


@pytest.fixture(scope="module")
async def quiet(world: World) -> AsyncIterator[World]:
    """Another namespace."""
    async with World(world.plane, "quiet") as quiet:
        yield quiet
        await quiet.clear()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


@pytest.fixture
def images(docker: Docker) -> Iterator[list[str]]:
    """To be removed at the end."""
    images: list[str] = []
    yield images
    for image in images:
        docker._client.remove_image(image, force=True)


def restarts(boxes: list[Box]) -> int:
    return sum((box.status.get("container") or {}).get("restartCount", 0) for box in boxes)


async def test_a_create_beside_forty_that_exit_at_once(world: World, quiet: World) -> None:
    noisy = [await world.box(command=["false"]) for _ in range(40)]
    await noisy[0].until(where=lambda obj: (obj["status"].get("container") or {}) != {})
    box = await quiet.box(command=SLEEPS)
    await box.until(where=lambda obj: obj["metadata"].get("finalizers"))
    made = sum(bool(other.status.get("container")) for other in noisy) + restarts(noisy)
    await box.until("RUNNING")
    after = sum(bool(other.status.get("container")) for other in noisy) + restarts(noisy)
    assert after - made <= 4 * IN_FLIGHT, "less than half of what was in line before it"
    await box.delete()
    await box.until_gone()
    await world.clear()


async def test_a_delete_beside_many(world: World, quiet: World) -> None:
    noisy = await asyncio.gather(*(world.running(command=SLEEPS) for _ in range(20)))
    box = await quiet.running(command=SLEEPS)
    # At once: one after the other, a quick engine has removed the first before the last is asked.
    await asyncio.gather(*(other.delete() for other in noisy))
    await box.delete()
    await box.until_gone()
    assert sum(not other.gone for other in noisy) >= 3
    await world.clear()


async def test_a_pull_beside_one_that_trickles(
    world: World, quiet: World, registry: Registry, images: list[str]
) -> None:
    """dockerd downloads three layers at once, for all."""
    trickles = registry.image([Layer(100_000 + i, bytes_per_second=1) for i in range(5)])
    greedy = [
        await world.box(image=trickles, imagePullPolicy="IfNotPresent", command=SLEEPS)
        for _ in range(10)
    ]
    await registry.until(downloading=3)
    images.append(registry.image([Layer()]))
    box = await quiet.box(
        image=images[-1],
        imagePullPolicy="IfNotPresent",
        command=["/none"],
        restartPolicy="Never",
    )
    await box.until("STARTING", "Pulling")
    await box.until("ERROR", "Exited")  # there is nothing in it: it was pulled
    failed = await greedy[0].until("ERROR", "ImagePullFailed")
    message = condition(failed, "Ready")["message"]
    assert "while other images waited" in message
    assert "pulls it again" in message
    assert len([name for name in registry.pulls if name in trickles]) <= 2, "ten share one pull"
    before = len(registry.pulls)
    await greedy[0].patch(operatingMode="Paused")
    await greedy[0].until("PAUSED")
    await greedy[0].patch(operatingMode="Running")
    await greedy[0].until("ERROR", "ImagePullFailed")
    assert len(registry.pulls) == before, "a changed spec is no way around the back-off"
    await asyncio.gather(*(other.delete() for other in [*greedy, box]))
    for other in [*greedy, box]:
        await other.until_gone()


async def test_a_create_beside_many_ports(world: World, quiet: World) -> None:
    ports = [{"name": f"P{number}", "containerPort": 8000 + number} for number in range(32)]
    noisy = [await world.box(command=SLEEPS, ports=ports) for _ in range(8)]
    await noisy[0].until("RUNNING")
    box = await quiet.box(command=SLEEPS)
    await box.until("RUNNING")
    assert sum(other.status.get("phase") == "RUNNING" for other in noisy) < 8
    await world.clear()
