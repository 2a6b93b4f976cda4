"""The operator is killed at bad moments, or away for a while: nothing is lost, nothing leaks."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from controller.core import names
from dev.images import BUSYBOX
from tests.integration.boxes import IGNORES_SIGTERM, SLEEPS, WEB, Box, Docker, World
from tests.integration.operator import Json, Operator

SETTINGS = {"resync_seconds": "1"}
VOLUMES = [{"name": "work", "mountPath": "/work", "managed": {}}]


@pytest.fixture(autouse=True)
async def runs_again(operator: Operator) -> AsyncIterator[None]:
    operator.start()
    yield
    operator.start()


async def killed_and_started(operator: Operator) -> None:
    operator.kill9()
    assert not operator.alive()
    operator.start()


async def one_container_each(boxes: list[Box], docker: Docker) -> None:
    for box in boxes:
        held = await docker.left(box)
        assert held == [f"/{box.container_name}", names.volume_name(box.uid, "work")]


async def gone_without_a_trace(boxes: list[Box], docker: Docker) -> None:
    for box in boxes:
        await box.delete()
    for box in boxes:
        await box.until_gone()
        assert await docker.left(box) == []
        assert await box.secret() is None


class TestKilled:
    @pytest.mark.parametrize("moment", ["claimed", "create", "start"])
    async def test_while_creating(
        self, world: World, docker: Docker, operator: Operator, moment: str
    ) -> None:
        since = docker.now()
        made: Json = {"command": SLEEPS, "volumes": VOLUMES}
        boxes = list(await asyncio.gather(*(world.box(**made) for _ in range(4))))
        if moment == "claimed":
            await boxes[0].until(where=lambda obj: bool(obj["metadata"].get("finalizers")))
        else:
            await docker.happened(boxes[0], moment, since)
        await killed_and_started(operator)
        for box in boxes:
            await box.until("RUNNING")
            assert "ERROR" not in box.phases()
            _, key = await docker.run(box, "sh", "-c", "echo $OH_SESSION_API_KEYS_0")
            assert key == await box.key()
            assert box.latest["metadata"]["labels"][names.KEY_HASH_LABEL] == names.key_hash(key)
        await one_container_each(boxes, docker)
        await gone_without_a_trace(boxes, docker)

    async def test_while_deleting(self, world: World, docker: Docker, operator: Operator) -> None:
        deaf: Json = {"command": IGNORES_SIGTERM, "terminationGracePeriodSeconds": 2}
        slow = await asyncio.gather(*(world.running(**deaf, volumes=VOLUMES) for _ in range(2)))
        quick = await asyncio.gather(*(world.running(command=SLEEPS) for _ in range(3)))
        boxes = [*slow, *quick]
        for box in boxes:
            await box.delete()
        await slow[0].until("DELETING")
        await killed_and_started(operator)
        await gone_without_a_trace(boxes, docker)

    async def test_while_stopping_for_a_pause(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        box = await world.running(
            command=IGNORES_SIGTERM, pauseMethod="Stop", terminationGracePeriodSeconds=3
        )
        await box.pause()
        await box.until(where=lambda obj: "pausing" in obj["status"])
        await killed_and_started(operator)
        await box.until("PAUSED", "Stopped")
        assert "ERROR" not in box.phases()
        assert await docker.state(box) == "exited"

    async def test_while_resuming(self, world: World, docker: Docker, operator: Operator) -> None:
        boxes = list(await asyncio.gather(*(world.running(ports=[WEB]) for _ in range(3))))
        for box in boxes:
            await box.pause()
        for box in boxes:
            await box.until("PAUSED", "Frozen")
        for box in boxes:
            await box.resume()
        await killed_and_started(operator)
        for box in boxes:
            resumed = await box.until("RUNNING")
            assert resumed["status"]["container"]["restartCount"] == 0
        await gone_without_a_trace(boxes, docker)


class TestAway:
    async def test_it_returns_without_a_write(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        readiness = {"httpGet": {"path": "/ready", "port": "WEB"}}
        boxes = [await world.box(ports=[WEB], readiness=readiness) for _ in range(4)]
        boxes += [await world.box(command=SLEEPS) for _ in range(2)]
        boxes += [await world.box(operatingMode="Paused")]
        for box in boxes[:-1]:
            await box.until("RUNNING")
        await boxes[-1].until("PAUSED")
        await boxes[0].pause()
        await boxes[0].until("PAUSED")
        audit = world.plane.audit
        await audit.resyncs(1)  # Events come after the statuses that they tell of
        since = await audit.settled()
        await killed_and_started(operator)
        await audit.resyncs(3)
        assert audit.writes(since=since).total() == 0
        await operator.stop()
        operator.start()
        await audit.resyncs(3)
        assert audit.writes(since=since).total() == 0
        await gone_without_a_trace(boxes, docker)

    async def test_what_was_asked_meanwhile_is_done(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        deleted, paused, grown = await asyncio.gather(
            *(world.running(command=SLEEPS) for _ in range(3))
        )
        since = docker.now()
        await operator.stop()
        await deleted.delete()
        await paused.pause()
        await grown.patch(resources={"limits": {"pids": 77}})
        created = await world.box(command=SLEEPS)
        operator.start()
        await deleted.until_gone()
        await paused.until("PAUSED", "Frozen")
        await docker.happened(grown, "update", since)
        await created.until("RUNNING")
        assert await docker.left(deleted) == []

    async def test_what_others_did_meanwhile_is_seen(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        removed, killed, frozen = await asyncio.gather(
            *(world.running(command=SLEEPS) for _ in range(3))
        )
        await operator.stop()
        await docker(lambda client: client.remove_container(removed.container_name, force=True))
        await docker(lambda client: client.kill(killed.container_name))
        await docker(lambda client: client.pause(frozen.container_name))
        operator.start()
        await removed.until("MISSING", "ContainerMissing")
        await killed.until("RUNNING", where=lambda o: o["status"]["container"]["restartCount"] == 1)
        await frozen.until("ERROR", "PausedExternally")
        await frozen.until("RUNNING")

    async def test_a_terminated_operator_leaves_everything_running(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        box = await world.running(command=SLEEPS)
        await operator.stop()
        assert await docker.state(box) == "running"


class TestOrphans:
    async def test_they_are_swept_and_never_anothers(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        """An orphan: its object went while the operator was away, by a finalizer forced off."""
        orphan = await world.running(command=SLEEPS, volumes=VOLUMES)
        kept = await world.running(command=SLEEPS, volumes=VOLUMES)
        await operator.stop()
        await world.plane.call("PATCH", world.path(orphan.name), {"metadata": {"finalizers": None}})
        await orphan.delete()
        await orphan.until_gone()
        other = names.Owner(str(uuid.uuid4()), operator.owner.instance)
        sibling = names.Owner(operator.owner.cluster_uid, "sibling")
        strangers = [await _stranger(docker, owner, world) for owner in (other, sibling)]
        since = docker.now()
        try:
            operator.start()
            await docker.happened(orphan, "destroy", since)
            await world.plane.audit.resyncs(2)
            assert await docker.left(orphan) == []
            for uid in strangers:
                assert await docker.labelled(f"{names.UID_LABEL}={uid}") != []
            await one_container_each([kept], docker)
        finally:
            for uid in strangers:
                await docker(partial(_remove, uid))

    async def test_what_was_deleted_in_the_instant_it_was_claimed_is_swept(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        """The API server looks for finalizers, then deletes: one stored in between is no help, and
        the operator works for an object that is gone. Its Secret is left to the garbage collector
        (owner references), which this control plane has none of."""

        async def blink() -> Box:
            box = await world.box(command=SLEEPS, volumes=VOLUMES)
            await box.delete()
            await box.until_gone()
            return box

        boxes = await asyncio.gather(*(blink() for _ in range(12)))
        await world.plane.audit.resyncs(4)
        assert [await docker.left(box) for box in boxes] == [[]] * len(boxes)


async def _stranger(docker: Docker, owner: names.Owner, world: World) -> str:
    """Another owner's container of a Sandbox that this cluster does not know: its UID."""
    uid = str(uuid.uuid4())
    labels = {
        names.OWNER_LABEL: owner.label,
        names.UID_LABEL: uid,
        names.NAMESPACE_LABEL: world.namespace,
        names.SANDBOX_LABEL: "stranger",
    }

    name = _stranger_name(uid)
    await docker(lambda client: client.create_container(BUSYBOX, name=name, labels=labels))
    return uid


def _remove(uid: str, client: Any) -> None:
    client.remove_container(_stranger_name(uid))


def _stranger_name(uid: str) -> str:
    return names.container_name(names.Owner("another-cluster", ""), uid)
