"""The service before an API server in memory."""

from collections.abc import AsyncIterator

import pytest
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from tests.unit.client.fake_api import FakeApi
from tests.unit.client.world import World, world_of


@pytest.fixture
async def fake() -> AsyncIterator[FakeApi]:
    async with FakeApi() as api:
        yield api


@pytest.fixture
async def world(fake: FakeApi) -> AsyncIterator[World]:
    async with (
        ApiClient(Configuration(host=fake.url)) as client,
        world_of(client, "agents") as world,
    ):
        yield world
