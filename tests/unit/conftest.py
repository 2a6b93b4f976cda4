"""An operator over an API server and an engine in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.fakes import Operator


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    operator = Operator()
    await operator.start()
    yield operator
    await operator.kill()
