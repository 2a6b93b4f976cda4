"""What hostile code planted in its root while it ran leads the engine nowhere when it is started
again: by the operator after an exit, after a kill, after a pause, or as a new container with the
volume of the old one. No attempt would write anything: each shows that nothing runs a second time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from tests.integration.boxes import Box, Docker, condition
from tests.integration.operator import Json
from tests.security.attacker import Attacker, manifest

STAYS = "exec sleep 100000"
ENDS = "exit 0"


@dataclass(frozen=True)
class Plant:
    title: str
    script: str
    """Its last command is added: the container stays, or ends."""
    mounts: tuple[str, ...]
    words: str
    """Of the message."""
    directory: str | None = None


PLANTS = [
    Plant(
        "a directory on the way becomes a link",
        "mv /x /old && ln -s / /x",
        ("/x/dev",),
        "spec.volumes[v0].mountPath: /x/dev leads to /dev",
    ),
    Plant(
        "a link through a process's own files",
        "mv /x /old && ln -s /proc/self/cwd/../../x /x",
        ("/x/y",),
        "spec.volumes[v0].mountPath: /x/y leads to /proc/self/cwd",
    ),
    Plant(
        "a link to what the engine mounts",
        "mv /x /old && mkdir /x && ln -s /etc/hosts /x/y",
        ("/x/y",),
        "spec.volumes: has a path in it that the engine cannot follow to its end",
    ),
    Plant(
        "a volume hides where another leads",
        "mkdir -p /d/d/d/d/d /d/d/d/l && mv /d /old && mkdir /d && ln -s / /d/d && ln -s /dev /d/l",
        ("/d/l", "/d/d/d"),
        "would be mounted elsewhere",
    ),
    Plant(
        "a volume hides that it is the root",
        "mkdir -p /a/b/a/b && mv /a /old && mkdir /a && ln -s / /a/b",
        ("/a/b",),
        "would be mounted elsewhere",
    ),
    Plant(
        "links that follow each other for ever",
        "mv /x /old && ln -s /y /x && ln -s /x /y",
        ("/x/z",),
        "spec.volumes: has a path in it that the engine cannot follow to its end",
    ),
    Plant(
        "the working directory",
        "cd / && rmdir /w && ln -s /proc/self/fd /w",
        (),
        "spec.workingDir (or the image's): /w leads to /proc/self/fd",
        "/w",
    ),
    Plant(
        "the way to the engine's init",
        "rm -rf /old && mv /sbin /old; ln -s /proc/sys /sbin",
        (),
        "leads /sbin/docker-init",
    ),
]
IN_A_VOLUME = Plant(
    "a link in a volume that outlives its container",
    "mv /v/a /v/old && ln -s /dev /v/a",
    ("/v", "/v/a/shm"),
    "spec.volumes[v1].mountPath: /v/a/shm leads to /dev/shm",
)


async def planted(attacker: Attacker, plant: Plant, end: str, **spec: Any) -> Box:
    """A Sandbox whose first run has planted it."""
    name = f"root-{len(attacker.world.boxes)}"
    script = f"echo ran; {plant.script} || exit 9; echo planted; {end}"
    asked: Json = {
        "command": ["sh", "-c", script],
        "volumes": [
            {"name": f"v{i}", "mountPath": path, "managed": {}}
            for i, path in enumerate(plant.mounts)
        ],
        "workingDir": plant.directory or "/",
    }
    answer = await attacker.submit(manifest(name, asked | spec))
    assert answer.accepted, answer.text
    return attacker.box(answer)


async def output(docker: Docker, box: Box) -> str:
    return str(await docker(lambda client: _logs(client, box)))


def _logs(client: docker.APIClient, box: Box) -> str:
    return bytes(client.logs(box.container_name)).decode()


async def has_planted(attacker: Attacker, box: Box) -> None:
    await box.until("RUNNING")
    await box.until(where=lambda obj: obj["status"]["phase"] == "RUNNING")
    code, _ = await attacker.docker.run(
        box, "sh", "-c", "until [ -e /tmp/planted ]; do sleep 0.1; done"
    )
    assert code == 0


async def is_refused(attacker: Attacker, box: Box, plant: Plant, outputs: str) -> None:
    def told(obj: Json) -> bool:
        return plant.words in condition(obj, "Ready").get("message", "")

    stored = await box.until(where=told)
    assert condition(stored, "Ready")["reason"] == "InvalidSpec"
    assert "/var/lib" not in str(stored["status"])
    details = await attacker.docker.inspect(box)
    assert details["State"]["Status"] in ("created", "exited")
    assert await output(attacker.docker, box) == outputs
    await box.delete()
    await box.until_gone()
    assert await attacker.docker.left(box) == []


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.title)
async def test_the_operator_starts_it_no_second_time(attacker: Attacker, plant: Plant) -> None:
    box = await planted(attacker, plant, ENDS)
    await is_refused(attacker, box, plant, "ran\nplanted\n")


Ending = Callable[[Attacker, Box], Awaitable[None]]


async def killed(attacker: Attacker, box: Box) -> None:
    await attacker.docker(lambda client: client.kill(box.container_name))


async def paused_and_resumed(attacker: Attacker, box: Box) -> None:
    await box.pause()
    await box.until("PAUSED")
    await box.resume()


@pytest.mark.parametrize("ending", [killed, paused_and_resumed])
@pytest.mark.parametrize("plant", [PLANTS[0], PLANTS[3]], ids=lambda plant: plant.title)
async def test_nor_after_a_kill_or_a_pause(
    attacker: Attacker, plant: Plant, ending: Ending
) -> None:
    box = await planted(attacker, plant, f"touch /tmp/planted; {STAYS}", pauseMethod="Stop")
    await has_planted(attacker, box)
    await ending(attacker, box)
    await is_refused(attacker, box, plant, "ran\nplanted\n")


async def test_nor_as_a_new_container_with_the_volume_of_the_old(attacker: Attacker) -> None:
    end = f"touch /tmp/planted; {STAYS}"
    box = await planted(attacker, IN_A_VOLUME, end, onMissing="Recreate")
    await has_planted(attacker, box)
    await attacker.docker(
        lambda client: client.remove_container(box.container_name, force=True, v=True)
    )
    await is_refused(attacker, box, IN_A_VOLUME, "")
