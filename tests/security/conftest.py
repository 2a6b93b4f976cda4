"""The fixtures of the integration tests, and beside them: an attacker, and those who are attacked.

attackers   users with rights on Sandboxes alone, and a hostile image in the engine
bystanders  what the attackers may not touch: it runs throughout, and is the same afterwards
"""

from collections.abc import AsyncIterator

import pytest

from tests.integration.boxes import Docker, World
from tests.integration.conftest import (  # noqa: F401 - fixtures, and a hook
    docker,
    operator,
    plane,
    pytest_runtest_makereport,
    world,
)
from tests.integration.operator import Operator, Plane
from tests.security.attacker import Attacker, allow
from tests.security.bystanders import Bystanders


@pytest.fixture(scope="module")
async def attacker(world: World, docker: Docker, operator: Operator) -> Attacker:  # noqa: F811
    """May do everything to the Sandboxes of its namespace, and nothing else."""
    await allow(world, "mallory", ["sandboxes"])
    return Attacker(world, docker, operator, "mallory")


@pytest.fixture(scope="module")
async def forger(world: World, docker: Docker, operator: Operator) -> Attacker:  # noqa: F811
    """May write their status too, which no user should."""
    await allow(world, "oscar", ["sandboxes", "sandboxes/status"])
    return Attacker(world, docker, operator, "oscar")


@pytest.fixture(scope="module", autouse=True)
async def bystanders(plane: Plane, docker: Docker, operator: Operator) -> AsyncIterator[Bystanders]:  # noqa: F811
    """A Sandbox of another namespace with a volume and Secrets, a stranger's container and volume:
    at the end all of it is as it was."""
    async with Bystanders(plane, docker) as bystanders:
        yield bystanders
        await bystanders.are_unchanged()
