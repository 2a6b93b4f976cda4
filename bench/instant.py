"""`python -m bench.instant`: the operator over an engine that answers at once.

What is left of its costs is its own and the API server's. Its settings are those of
`sandbox-operator run`.
"""

from __future__ import annotations

import uvloop

from controller import app, logs
from controller.core.names import Owner
from controller.engines.base import Engine
from controller.engines.memory import MemoryEngine, MemoryHost
from controller.settings import Settings

IMAGE = "instant"


def instant_engine(settings: Settings, owner: Owner) -> Engine:
    return MemoryEngine(owner, MemoryHost(images={IMAGE}))


if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    uvloop.run(app.run(settings, instant_engine))
