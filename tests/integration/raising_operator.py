"""`python -m tests.integration.raising_operator run`: the operator, with two faults of its own.

They strike one Sandbox, once in a process each: its Secret has been made, and an exception is
raised whose text holds it; its container is about to be made, and one is raised, in a thread, whose
text holds the environment, and whose cause's text does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from controller import cli
from controller.core import names
from controller.engines.base import ContainerSpec
from controller.engines.docker import DockerEngine
from controller.kube.api import KubeApi

NAME = "raises"
"""Of the Sandbox that is struck."""


class SecretFault(Exception):
    pass


class ContainerFault(Exception):
    pass


def wrap() -> None:
    due = {SecretFault, ContainerFault}
    create_secret, create_container = KubeApi.create_secret, DockerEngine._create_container

    @wraps(create_secret)
    async def secret_made(
        self: KubeApi, namespace: str, secret: Mapping[str, Any]
    ) -> dict[str, Any]:
        made = await create_secret(self, namespace, secret)
        if SecretFault in due and made["metadata"]["name"] == names.secret_name(NAME):
            due.remove(SecretFault)
            raise SecretFault(f"made {made}, as asked for by {secret}")
        return made

    @wraps(create_container)
    def container_due(self: DockerEngine, client: Any, spec: ContainerSpec) -> str:
        if ContainerFault in due and spec.name == NAME:
            due.remove(ContainerFault)
            try:
                return dict[str, str]()[str(spec.env)]
            except KeyError as error:
                raise ContainerFault(f"with {spec.env}", *spec.env.values()) from error
        return create_container(self, client, spec)

    KubeApi.create_secret = secret_made  # type: ignore[method-assign]
    DockerEngine._create_container = container_due  # type: ignore[method-assign]


if __name__ == "__main__":
    wrap()
    cli.main()
