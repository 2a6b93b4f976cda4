"""What is done to one operator's containers and Secrets behind its back, and a note of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from tests.chaos.bystanders import TAKEN
from tests.chaos.deeds import Deeds
from tests.chaos.faults import Fault, Lane
from tests.chaos.load import UNANSWERED, Load
from tests.chaos.sides import Side
from tests.integration.boxes import Box, Docker


@dataclass(frozen=True)
class Deed:
    """What an outsider does to one container."""

    name: str
    do: Callable[[docker.APIClient, str], None]
    meets: frozenset[str] = frozenset()
    """Docker's states in which it changes anything; empty: any."""
    removes: bool = False
    ends: bool = False


_UP = frozenset({"running", "paused"})
_RUNS = frozenset({"running"})

DEEDS = (
    Deed(
        "removed",
        lambda client, id_: client.remove_container(id_, force=True),
        ends=True,
        removes=True,
    ),
    Deed("killed", lambda client, id_: client.kill(id_), _UP, ends=True),
    Deed("stopped", lambda client, id_: client.stop(id_, timeout=1), _UP, ends=True),
    Deed("frozen", lambda client, id_: client.pause(id_), _RUNS),
    Deed("thawed", lambda client, id_: client.unpause(id_), frozenset({"paused"})),
    Deed("started", lambda client, id_: client.start(id_), frozenset({"created", "exited"})),
)


class Outsider(Lane):
    """Somebody with the rights of Docker's administrator, and at times of the cluster's."""

    def __init__(self, side: Side, docker: Docker, load: Load, deeds: Deeds, *lane: Any) -> None:
        super().__init__(f"outsider-{side.name}", *lane)
        self._yard = side.yard
        self._docker = docker
        self._load = load
        self._deeds = deeds

    def faults(self) -> dict[str, Fault]:
        faults = {f"container {deed.name}": self._doing(deed) for deed in DEEDS}
        return faults | {"Secret deleted": self._delete_secret}

    def _doing(self, deed: Deed) -> Fault:
        async def do() -> bool:
            boxes = sorted(self._yard.living(), key=lambda box: box.name)
            boxes = [box for box in boxes if box.name != TAKEN]
            self.rng.shuffle(boxes)
            with contextlib.suppress(DockerException, OSError):
                return bool(await self._docker(lambda client: self._to_one(client, deed, boxes)))
            return False

        return do

    def _to_one(self, client: docker.APIClient, deed: Deed, boxes: list[Box]) -> bool:
        """Do it to the first of them whose container it concerns. Returns whether there was one."""
        for box in boxes:
            try:
                container = client.inspect_container(box.container_name)
            except NotFound:
                continue
            if deed.meets and container["State"]["Status"] not in deed.meets:
                continue
            began, done = time.time(), True
            # Before the deed: its operator may tell of it at once.
            first = deed.removes and container["Id"] not in self._deeds.removed
            if first:
                self._deeds.removed.add(container["Id"])
            try:
                deed.do(client, container["Id"])
            except DockerException as error:
                done = not (isinstance(error, APIError) and error.is_client_error())
                if done:  # a refusal did nothing; without an answer it may have taken effect
                    raise
            finally:
                if first and not done:
                    self._deeds.removed.discard(container["Id"])
                if done and deed.ends:
                    self._deeds.ended[box.uid].append((began, time.time()))
            if done:
                return True
        return False

    async def _delete_secret(self) -> bool:
        with contextlib.suppress(*UNANSWERED):
            return await self._load.lose_a_secret()
        return False
