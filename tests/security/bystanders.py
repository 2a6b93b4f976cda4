"""What attackers may not touch: others' Sandboxes, Secrets, containers and volumes."""

from __future__ import annotations

import json
import uuid
from typing import Any, Self

import docker as docker_client

from controller.core import names
from dev.images import BUSYBOX
from tests.integration.boxes import SLEEPS, Box, Docker, World
from tests.integration.operator import Json, Plane

NAMESPACE = "victims"
SECRET = "treasure"
TREASURE = "a-treasure-of-the-victims-0123456789"
"""In a Secret and a ConfigMap of the namespace `victims`: never in what is made for an attacker."""
PORT = {"name": "WEB", "containerPort": 8000}
VOLUME = {"name": "work", "mountPath": "/work", "managed": {"reclaimPolicy": "Retain"}}


class Bystanders:
    """`async with` brings them up; `are_unchanged` looks at them again."""

    def __init__(self, plane: Plane, docker: Docker) -> None:
        self._docker = docker
        self._world = World(plane, NAMESPACE)
        self.stranger = f"stranger-{uuid.uuid4().hex[:12]}"
        """Name of a container, and of a volume, that no operator made."""
        self.victim: Box
        """A Sandbox of another namespace."""
        self._before: Json = {}

    async def __aenter__(self) -> Self:
        await self._world.__aenter__()
        await self._world.secret(SECRET, token=TREASURE)
        await self._world.config_map(SECRET, token=TREASURE)
        self.victim = await self._world.running(
            "victim",
            ports=[PORT],
            volumes=[VOLUME],
            env=[{"name": "T", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "token"}}}],
            terminationGracePeriodSeconds=0,
        )

        def run(client: docker_client.APIClient) -> None:
            client.create_volume(self.stranger)
            host = client.create_host_config(binds=[f"{self.stranger}:/work"])
            client.create_container(BUSYBOX, SLEEPS, name=self.stranger, host_config=host)
            client.start(self.stranger)

        await self._docker(run)
        self._before = await self._look()
        return self

    async def __aexit__(self, *_: object) -> None:
        def remove(client: docker_client.APIClient) -> None:
            client.remove_container(self.stranger, force=True)
            client.remove_volume(self.stranger)

        await self._docker(remove)
        await self._world.clear()
        volume = names.volume_name(self.victim.uid, VOLUME["name"])  # type: ignore[arg-type]
        await self._docker(lambda client: client.remove_volume(volume))
        for kind in ("secrets", "configmaps"):
            path = f"/api/v1/namespaces/{NAMESPACE}/{kind}/{SECRET}"
            await self._world.plane.call("DELETE", path)
        await self._world.__aexit__()

    async def are_unchanged(self) -> None:
        assert await self._look() == self._before
        assert self.victim.phases() == ["STARTING", "RUNNING"]

    async def key(self) -> str:
        """The victim's session key."""
        return await self.victim.key()

    async def secrets(self) -> list[str]:
        """Values that belong to the victims alone."""
        return [TREASURE, await self.key()]

    async def _look(self) -> Json:
        containers = (self.stranger, self.victim.container_name)
        volumes = (self.stranger, names.volume_name(self.victim.uid, str(VOLUME["name"])))
        secrets = await self._world.plane.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets")

        def look(client: docker_client.APIClient) -> Json:
            seen: dict[str, Any] = {name: client.inspect_container(name) for name in containers}
            return seen | {f"volume {name}": client.inspect_volume(name) for name in volumes}

        seen = await self._docker(look)
        seen["secrets"] = secrets["items"]
        return dict(json.loads(json.dumps(seen)))
