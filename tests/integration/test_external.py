"""What others do to containers behind the operator's back, and what becomes of it."""

from collections.abc import Callable
from typing import Any

import pytest

from controller.core import names
from tests.integration.boxes import (
    SLEEPS,
    WEB,
    Box,
    Docker,
    World,
    condition,
    conditions,
    fetch,
    url,
)
from tests.integration.operator import Json

pytestmark = pytest.mark.usefixtures("operator")
VOLUMES = [{"name": "work", "mountPath": "/work", "managed": {}}]


def name(box: Box) -> str:
    return box.container_name


def restarted(count: int) -> Callable[[Json], bool]:
    return lambda obj: obj["status"]["container"]["restartCount"] == count


class TestRemoved:
    async def test_it_is_missing(self, world: World, docker: Docker) -> None:
        box = await world.running(command=SLEEPS, volumes=VOLUMES)
        await docker(lambda client: client.remove_container(name(box), force=True))
        missing = await box.until("MISSING", "ContainerMissing")
        assert "onMissing" in condition(missing, "Ready")["message"]
        assert conditions(missing)["Stalled"]
        assert not conditions(missing)["Ready"]
        assert missing["status"]["container"]["id"], "it existed"
        assert await docker.left(box) == [names.volume_name(box.uid, "work")]
        assert (await world.event(box, "ContainerMissing"))["type"] == "Warning"

    async def test_it_is_recreated_where_that_is_asked_for(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.running(
            ports=[WEB], volumes=VOLUMES, onMissing="Recreate", restartPolicy="Never"
        )
        first, key = box.status["container"]["id"], await box.key()
        await docker.run(box, "sh", "-c", "echo kept > /work/file")
        await docker(lambda client: client.remove_container(name(box), force=True))
        again = await box.until(
            "RUNNING", where=lambda obj: obj["status"]["container"]["id"] != first
        )
        assert "MISSING" not in box.phases()
        assert await docker.run(box, "cat", "/work/file") == (0, "kept")
        _, in_container = await docker.run(box, "sh", "-c", "echo $OH_SESSION_API_KEYS_0")
        assert in_container == key == await box.key()
        assert (await fetch(url(again)))[0] == 200


class TestEnded:
    @pytest.mark.parametrize("verb", ["kill", "stop"])
    async def test_it_is_started_again(self, world: World, docker: Docker, verb: str) -> None:
        box = await world.running(command=SLEEPS)
        container = box.status["container"]
        await docker(lambda client: getattr(client, verb)(name(box)))
        ended = await box.until("ERROR", "Exited")
        assert ended["status"]["container"]["exitCode"] == {"kill": 137, "stop": 143}[verb]
        assert ended["status"]["container"]["reason"] == "Exited"
        assert "restarted" in condition(ended, "Ready")["message"]
        again = await box.until("RUNNING", where=restarted(1))
        assert again["status"]["container"]["id"] == container["id"]
        assert again["status"]["container"]["startedAt"] != container["startedAt"]
        assert "exitCode" not in again["status"]["container"]

    @pytest.mark.parametrize(
        ("policy", "code", "reason"),
        [("Never", 0, "Completed"), ("Never", 3, "Exited"), ("OnFailure", 0, "Completed")],
    )
    async def test_it_stays_ended_where_the_policy_says_so(
        self, world: World, docker: Docker, policy: str, code: int, reason: str
    ) -> None:
        box = await world.box(command=["sh", "-c", f"exit {code}"], restartPolicy=policy)
        ended = await box.until("ERROR", reason)
        assert ended["status"]["container"]["exitCode"] == code
        assert policy in condition(ended, "Ready")["message"]
        assert conditions(ended)["Stalled"]
        assert ended["status"]["container"]["restartCount"] == 0

    async def test_a_failure_is_restarted_under_on_failure(self, world: World) -> None:
        once = "[ -e /tmp/once ] && exec sleep 1000; touch /tmp/once; exit 3"
        box = await world.box(command=["sh", "-c", once], restartPolicy="OnFailure")
        await box.until("ERROR", "Exited")
        await box.until("RUNNING", where=restarted(1))

    async def test_one_that_fails_again_and_again_is_spaced_out(self, world: World) -> None:
        box = await world.box(command=["false"])
        third = await box.until("ERROR", "Exited", where=restarted(2))
        assert "exit code 1" in condition(third, "Ready")["message"]
        await box.delete()
        await box.until_gone()

    async def test_too_much_memory_is_told_as_such(self, world: World) -> None:
        limits = {"limits": {"memory": "16Mi"}}
        box = await world.box(
            command=["tail", "/dev/zero"], resources=limits, restartPolicy="Never"
        )
        killed = await box.until("ERROR", "OOMKilled")
        assert killed["status"]["container"]["reason"] == "OOMKilled"
        assert "memory" in condition(killed, "Ready")["message"]


class TestPausedAndStarted:
    async def test_one_that_others_paused_is_thawed(self, world: World, docker: Docker) -> None:
        box = await world.running(ports=[WEB])
        before = box.status["container"]
        await docker(lambda client: client.pause(name(box)))
        paused = await box.until("ERROR", "PausedExternally")
        assert "operatingMode" in condition(paused, "Ready")["message"]
        thawed = await box.until("RUNNING")
        assert thawed["status"]["container"] == before
        assert (await fetch(url(thawed)))[0] == 200

    async def test_one_that_others_thawed_is_frozen_again(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.running(ports=[WEB])
        await box.pause()
        await box.until("PAUSED", "Frozen")
        await docker(lambda client: client.unpause(name(box)))
        await box.until("RUNNING", "Pausing")
        await box.until("PAUSED", "Frozen")
        assert await docker.state(box) == "paused"

    async def test_one_that_others_started_is_stopped_again(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.running(command=SLEEPS, pauseMethod="Stop")
        await box.pause()
        await box.until("PAUSED", "Stopped")
        since = docker.now()
        await docker(lambda client: client.start(name(box)))
        await docker.happened(box, "die", since)
        await box.until("RUNNING", "Pausing")
        await box.until("PAUSED", "Stopped")
        assert await docker.state(box) == "exited"

    async def test_one_that_ended_by_itself_is_never_paused(
        self, world: World, docker: Docker
    ) -> None:
        ends = ["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done; exit 5"]
        box = await world.running(command=ends, pauseMethod="Stop", restartPolicy="Never")
        await docker.run(box, "touch", "/tmp/go")
        await box.until("ERROR", "Exited")
        await box.pause()
        exited = await box.until("ERROR", "Exited")
        assert "wished running" in condition(exited, "Ready")["message"]

    async def test_others_containers_are_none_of_its_business(
        self, world: World, docker: Docker
    ) -> None:
        """Not even one that has a Sandbox's name and waits for its container."""
        box = await world.box(operatingMode="Paused")
        await box.until("PAUSED", "NotStarted")
        image: Any = box.latest["spec"]["image"]

        def squat(client: Any) -> str:
            made = client.create_container(image, command=SLEEPS, name=name(box))
            return str(made["Id"])

        squatter = await docker(squat)
        try:
            await box.resume()
            taken = await box.until("ERROR", "NameConflict")
            assert name(box) in condition(taken, "Ready")["message"]
        finally:
            await docker(lambda client: client.remove_container(squatter, force=True))
        await box.until("RUNNING")
        assert box.status["container"]["id"] != squatter
