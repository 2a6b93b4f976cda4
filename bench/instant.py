"""`python -m bench.instant`: the operator over an engine that answers at once.

What is left of its costs is its own and the API server's. Its settings are those of
`sandbox-operator run`.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import uvloop

from controller import app, logs
from controller.core.names import Owner
from controller.engines.base import ContainerSpec, Engine
from controller.engines.memory import MemoryEngine, MemoryHost
from controller.settings import Settings

IMAGE = "instant"


class InstantEngine(MemoryEngine):
    """It keeps no command and no environment, as a real engine keeps them in its own process."""

    async def create(self, spec: ContainerSpec) -> str:
        return await super().create(replace(spec, env={}, secrets=frozenset(), args=None))


def instant_engine(settings: Settings, owner: Owner) -> Engine:
    return InstantEngine(owner, MemoryHost(images={IMAGE}))


async def engine_kilobytes(specs: Iterator[ContainerSpec]) -> float:
    """What such an engine keeps itself for each container, in KB. `specs` are of `IMAGE`, and made
    as they are asked for."""
    engine = MemoryEngine(Owner("cluster", "measured"), MemoryHost(images={IMAGE}))
    count = 0
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for spec in specs:
            await engine.start(await engine.create(spec))
            count += 1
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / 1000 / count


if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    uvloop.run(app.run(settings, instant_engine))
