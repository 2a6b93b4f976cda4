"""What belongs to others: containers, a volume, a network and Secrets that must stay untouched."""

from __future__ import annotations

import contextlib
import itertools
import random
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import DockerException, NotFound

from controller.core import names
from dev.images import BUSYBOX
from tests.chaos.sides import Side
from tests.integration.boxes import SLEEPS, Box, Docker
from tests.integration.operator import Json

_STRANGE_UID = "00000000-0000-4000-8000-000000000000"
_FOREIGN = {
    names.OWNER_LABEL: "another-cluster.default",
    names.UID_LABEL: _STRANGE_UID,
    names.NAMESPACE_LABEL: "chaos-a",
    names.SANDBOX_LABEL: "a-0",
}
"""Another operator's: only the owner differs from what ours would write."""
_EVENTS = 300
"""Docker keeps its last 256 events to tell them again: so many of others' leave none of ours."""
TAKEN = "taken"
"""A Sandbox whose Secret's name is someone else's: it never gets a container."""


@dataclass(frozen=True)
class _State:
    id: str
    status: str
    started_at: str


class Bystanders:
    """Made before the round; `changed` says at its end what is not as it was left."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._left: dict[str, _State] = {}
        self._volume = "bystander"
        self._network = ""
        self._secrets: dict[str, Json] = {}
        self._numbers = itertools.count()

    async def settle(self, sides: list[Side]) -> None:
        """Make them."""
        await self._docker(self._make)
        for side in sides:
            await side.yard.secret(names.secret_name(TAKEN), **{names.SECRET_KEY: "x" * 40})
            self._secrets[side.name] = await self._secret(side)
            await side.yard.declare(TAKEN, command=SLEEPS)

    def _make(self, client: docker.APIClient) -> None:
        client.create_volume(self._volume, labels=_FOREIGN)
        self._network = client.create_network("bystander", driver="bridge", labels=_FOREIGN)["Id"]
        for name, labels in (
            ("runs", {}),
            ("frozen", {}),
            ("created", {}),
            ("exited", {}),
            ("foreign", _FOREIGN),
        ):
            client.create_container(
                BUSYBOX, entrypoint=SLEEPS, name=f"bystander-{name}", labels=labels
            )
        self._bring_up(client)

    def _bring_up(self, client: docker.APIClient) -> None:
        for name in ("runs", "frozen", "exited", "foreign"):
            client.start(f"bystander-{name}")
        client.pause("bystander-frozen")
        client.kill("bystander-exited")
        client.wait("bystander-exited", timeout=30)
        self._left = self._states(client)

    def _states(self, client: docker.APIClient) -> dict[str, _State]:
        found = {}
        for name in ("runs", "frozen", "created", "exited", "foreign"):
            state = _State("", "absent", "")
            with contextlib.suppress(NotFound):
                details = client.inspect_container(f"bystander-{name}")
                known = details["State"]
                state = _State(details["Id"], known["Status"], known["StartedAt"])
            found[name] = state
        return found

    async def engine_returned(self) -> list[str]:
        """Their owner starts again what ended with the engine. Returns what is wrong with them."""

        def check(client: docker.APIClient) -> list[str]:
            wrong = []
            for name, is_ in self._states(client).items():
                was = self._left[name]
                ended = "created" if was.status == "created" else "exited"
                if is_ != _State(was.id, ended, was.started_at):
                    wrong.append(f"the container bystander-{name} was {was} and is {is_}")
            if not wrong:
                self._bring_up(client)
            return wrong

        return list(await self._docker(check))

    async def changed(self, sides: list[Side]) -> list[str]:
        """What is not as it was left."""

        def check(client: docker.APIClient) -> list[str]:
            wrong = [
                f"the container bystander-{name} was {self._left[name]} and is {is_}"
                for name, is_ in self._states(client).items()
                if is_ != self._left[name]
            ]
            if self._volume not in {v["Name"] for v in client.volumes()["Volumes"] or []}:
                wrong.append("the bystander's volume is gone")
            if self._network not in {n["Id"] for n in client.networks()}:
                wrong.append("the bystander's network is gone")
            return wrong

        wrong = list(await self._docker(check))
        secrets = {side.name: await self._secret(side) for side in sides}
        return wrong + [
            f"the bystander's Secret of side {name} was changed"
            for name, secret in secrets.items()
            if secret != self._secrets[name]
        ]

    async def _secret(self, side: Side) -> Json:
        secret = await Box(side.yard, TAKEN, "").secret()
        return secret or {}

    @property
    def containers(self) -> set[str]:
        return {state.id for state in self._left.values()}

    @property
    def volumes(self) -> set[str]:
        return {self._volume}

    @property
    def networks(self) -> set[str]:
        return {self._network}

    async def crowd(self, rng: random.Random) -> bool:
        """Others' containers come and go in numbers: events that concern no operator. Returns
        whether all of them came."""
        count = rng.randint(5, 12)

        def come_and_go(client: docker.APIClient) -> None:
            for _ in range(count):
                name = f"crowd-{next(self._numbers)}"
                made: Any = client.create_container(BUSYBOX, entrypoint=SLEEPS, name=name)
                client.start(made["Id"])
                client.kill(made["Id"])
            for _ in range(_EVENTS):  # each is an event and starts nothing
                client.exec_create("bystander-runs", ["true"])

        with contextlib.suppress(DockerException, OSError):
            await self._docker(come_and_go)
            return True
        return False

    async def disperse(self) -> None:
        """Remove the crowd."""

        def remove(client: docker.APIClient) -> None:
            for row in client.containers(all=True, filters={"name": "crowd-"}):
                client.remove_container(row["Id"], force=True)

        await self._docker(remove)
