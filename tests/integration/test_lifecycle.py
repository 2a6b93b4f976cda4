"""What a Sandbox is while it lives: starting, ready, paused, resumed, at rest."""

import asyncio
from datetime import datetime

import pytest

from controller.core import names
from dev.images import BUSYBOX
from tests.integration.boxes import (
    IGNORES_SIGTERM,
    SLEEPS,
    WAITS_FOR_GO,
    WEB,
    Box,
    Docker,
    World,
    condition,
    conditions,
    fetch,
    url,
)
from tests.integration.operator import Audit, Operator, Plane, but_events

SETTINGS = {"resync_seconds": "1"}
READY = {"httpGet": {"path": "/ready", "port": "WEB"}, "periodSeconds": 1}

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
def audit(plane: Plane) -> Audit:
    return plane.audit


class TestStarting:
    async def test_without_readiness_it_is_running_as_soon_as_it_runs(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.box(ports=[WEB], createdByUserId="user-1")
        running = await box.until("RUNNING", "Ready")
        status = running["status"]
        details = await docker.inspect(box)
        assert box.phases() == ["STARTING", "RUNNING"]
        assert await fetch(url(running)) == (200, "busybox\n")
        assert conditions(running) == {
            "Ready": True,
            "Available": True,
            "Reconciling": False,
            "Stalled": False,
            "EngineReachable": True,
        }
        assert status["observedGeneration"] == running["metadata"]["generation"] == 1
        assert status["sandboxSpecId"] == BUSYBOX
        assert status["createdByUserId"] == "user-1"
        assert status["createdAt"] == running["metadata"]["creationTimestamp"]
        assert status["container"]["id"] == details["Id"]
        assert status["container"]["imageId"] == details["Image"]
        assert running["metadata"]["finalizers"] == [names.FINALIZER]
        assert running["metadata"]["labels"][names.NAME_LABEL] == box.name

    async def test_with_readiness_it_is_running_once_the_probe_succeeds(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.box(ports=[WEB], command=WAITS_FOR_GO, readiness=READY)
        waiting = await box.until("STARTING", "WaitingForReadiness")
        assert conditions(waiting)["Reconciling"]
        assert not conditions(waiting)["Available"]
        assert "GET /ready on port WEB" in condition(waiting, "Ready")["message"]
        assert [u["name"] for u in waiting["status"]["exposedUrls"]] == ["WEB"]
        await docker.run(box, "touch", "/tmp/go")
        running = await box.until("RUNNING", "Ready")
        assert conditions(running)["Available"]
        assert (await fetch(url(running)))[0] == 200

    async def test_one_that_is_late_or_falls_ill_is_an_error_until_it_answers(
        self, world: World, docker: Docker
    ) -> None:
        strict = READY | {"startupDeadlineSeconds": 1, "failureThreshold": 1}
        box = await world.box(ports=[WEB], command=WAITS_FOR_GO, readiness=strict)
        late = await box.until("ERROR", "StartupDeadlineExceeded")
        assert conditions(late)["Stalled"]
        assert "startupDeadlineSeconds" in condition(late, "Ready")["message"]
        await docker.run(box, "touch", "/tmp/go")
        running = await box.until("RUNNING")
        await docker.run(box, "mv", "/www/ready", "/www/ill")
        ill = await box.until("ERROR", "NotReady")
        await docker.run(box, "mv", "/www/ill", "/www/ready")
        again = await box.until("RUNNING")
        started = [obj["status"]["container"]["startedAt"] for obj in (running, ill, again)]
        assert len(set(started)) == 1, "an ill container is not restarted"


class TestTheContainer:
    async def test_environment_in_kubernetes_order(self, world: World, docker: Docker) -> None:
        await world.secret("env-secret", A="secret", B="secret", TOKEN="hidden")
        await world.config_map("env-map", B="map", C="map")
        box = await world.running(
            envFrom=[
                {"secretRef": {"name": "env-secret"}},
                {"configMapRef": {"name": "env-map"}},
                {"prefix": "P_", "configMapRef": {"name": "env-map"}},
                {"secretRef": {"name": "no-such-secret", "optional": True}},
            ],
            env=[
                {"name": "C", "value": "env"},
                {"name": "D", "value": "$(C)"},
                {
                    "name": "E",
                    "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "TOKEN"}},
                },
                {
                    "name": "F",
                    "valueFrom": {
                        "secretKeyRef": {"name": "env-secret", "key": "none", "optional": True}
                    },
                },
            ],
        )
        _, printed = await docker.run(box, "env")
        found = dict(line.split("=", 1) for line in printed.splitlines())
        expected = {
            "A": "secret",
            "B": "map",
            "C": "env",
            "D": "$(C)",
            "E": "hidden",
            "P_B": "map",
            "P_C": "map",
            "OH_SESSION_API_KEYS_0": await box.key(),
        }
        assert {name: found.get(name) for name in expected} == expected
        assert "F" not in found

    async def test_command_and_args_are_pods(self, world: World, docker: Docker) -> None:
        both = await world.running(
            command=["sh", "-c", 'echo "$PWD $0 $*"; exec sleep 1000'],
            args=["one", "two words"],
            workingDir="/workspace",
        )
        args = await world.running(args=["sleep", "1000"])
        said = await docker(lambda client: client.logs(both.container_name))
        assert said.decode() == "/workspace one two words\n"
        assert (await docker.inspect(args))["Config"]["Cmd"] == ["sleep", "1000"]

    async def test_volumes_are_deleted_or_retained_as_asked(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.running(
            volumes=[
                {"name": "work", "mountPath": "/work", "managed": {}},
                {"name": "kept", "mountPath": "/kept", "managed": {"reclaimPolicy": "Retain"}},
                {"name": "ro", "mountPath": "/ro", "readOnly": True, "managed": {}},
            ]
        )
        assert (await docker.run(box, "touch", "/work/x", "/kept/x"))[0] == 0
        assert (await docker.run(box, "touch", "/ro/x"))[0] != 0
        await box.delete()
        await box.until_gone()
        kept = names.volume_name(box.uid, "kept")
        assert await docker.left(box) == [kept]
        await docker(lambda client: client.remove_volume(kept))

    async def test_it_is_secure_by_default(self, world: World, docker: Docker) -> None:
        box = await world.running(command=SLEEPS)
        host = (await docker.inspect(box))["HostConfig"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert host["PidsLimit"] == 512
        assert host["Memory"] == host["MemorySwap"] == 2 << 30
        assert host["Init"] is True
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        assert host["RestartPolicy"]["Name"] == "no"
        _, status = await docker.run(box, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"] == "1"

    async def test_sandboxes_cannot_reach_one_another(
        self, world: World, docker: Docker, operator: Operator
    ) -> None:
        one, two = await asyncio.gather(world.running(ports=[WEB]), world.running(ports=[WEB]))
        network = names.network_name(operator.owner)
        addresses = {}
        for box in (one, two):
            networks = (await docker.inspect(box))["NetworkSettings"]["Networks"]
            assert list(networks) == [network]
            addresses[box.name] = networks[network]["IPAddress"]
        get = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 $0 8000"
        itself = await docker.run(one, "sh", "-c", get, addresses[one.name])
        other = await docker.run(one, "sh", "-c", get, addresses[two.name])
        assert itself[1].endswith("busybox")
        assert other[0] != 0

    async def test_limits_change_in_place(self, world: World, docker: Docker) -> None:
        limits = {"cpu": "500m", "memory": "64Mi", "pids": 50}
        box = await world.running(command=SLEEPS, resources={"limits": limits})
        before, since = await docker.inspect(box), docker.now()
        await box.patch(resources={"limits": {"cpu": 1, "memory": "96Mi", "pids": 60}})
        await docker.happened(box, "update", since)
        after = await docker.inspect(box)
        host = after["HostConfig"]
        assert (before["HostConfig"]["CpuQuota"], host["CpuQuota"]) == (50_000, 100_000)
        assert (host["Memory"], host["PidsLimit"]) == (96 << 20, 60)
        assert after["State"]["Pid"] == before["State"]["Pid"]
        await box.until("RUNNING")


class TestPausing:
    async def test_a_frozen_one_keeps_its_process_and_answers_nothing(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.box(ports=[WEB])
        running = await box.until("RUNNING")
        process = (await docker.inspect(box))["State"]["Pid"]
        await box.pause()
        paused = await box.until("PAUSED", "Frozen")
        assert conditions(paused)["Ready"], "it is what was wished"
        assert not conditions(paused)["Available"]
        assert paused["status"].get("exposedUrls", []) == []
        assert await docker.state(box) == "paused"
        with pytest.raises(TimeoutError):
            await fetch(url(running), seconds=1)
        await box.resume()
        resumed = await box.until("RUNNING")
        assert await fetch(url(resumed)) == (200, "busybox\n")
        assert (await docker.inspect(box))["State"]["Pid"] == process
        assert resumed["status"]["container"] == running["status"]["container"]
        assert "ERROR" not in box.phases()

    @pytest.mark.parametrize("command", [SLEEPS, IGNORES_SIGTERM], ids=["heeds", "ignores"])
    async def test_a_stopped_one_keeps_its_filesystem(
        self, world: World, docker: Docker, command: list[str]
    ) -> None:
        box = await world.running(
            command=command, pauseMethod="Stop", terminationGracePeriodSeconds=1
        )
        await docker.run(box, "sh", "-c", "echo kept > /tmp/file")
        container = box.status["container"]["id"]
        await box.pause()
        marked = await box.until(where=lambda obj: "pausing" in obj["status"])
        assert marked["status"]["pausing"]["containerId"] == container
        paused = await box.until("PAUSED", "Stopped")
        assert paused["status"]["container"]["reason"] == "Stopped"
        assert await docker.state(box) == "exited"
        await box.resume()
        resumed = await box.until("RUNNING")
        assert await docker.run(box, "cat", "/tmp/file") == (0, "kept")
        assert resumed["status"]["container"]["id"] == container
        assert resumed["status"]["container"]["restartCount"] == 0
        assert "ERROR" not in box.phases()

    async def test_one_created_paused_waits_to_be_resumed(
        self, world: World, docker: Docker
    ) -> None:
        box = await world.box(operatingMode="Paused")
        paused = await box.until("PAUSED", "NotStarted")
        assert conditions(paused)["Ready"]
        assert await docker.state(box) == "absent"
        await box.resume()
        await box.until("RUNNING")
        assert box.phases() == ["STARTING", "PAUSED", "STARTING", "RUNNING"]

    async def test_the_startup_deadline_begins_anew_with_a_resume(self, world: World) -> None:
        readiness = READY | {"startupDeadlineSeconds": 2}
        box = await world.box(ports=[WEB], readiness=readiness)
        first = await box.until("RUNNING")
        began = datetime.fromisoformat(first["status"]["container"]["startedAt"])
        await box.pause()
        await box.until("PAUSED")
        # Its start is now longer ago than the deadline allows.
        await world.plane.audit.resyncs(3)
        assert (datetime.now(began.tzinfo) - began).total_seconds() > 2
        await box.resume()
        await box.until("RUNNING")
        assert "ERROR" not in box.phases()


class TestWrites:
    """On the Sandbox and its Secret; Events are counted apart."""

    async def test_few_to_running_none_at_rest_few_until_gone(
        self, world: World, audit: Audit
    ) -> None:
        box = await world.running("counted", ports=[WEB])
        await audit.resyncs(1)  # Events come after the statuses that they tell of
        to_running = await audit.settled()
        started = audit.writes(box.name)
        assert but_events(started).total() <= 4, started
        assert started["create events"] <= 2
        await audit.resyncs(2)
        at_rest = await audit.settled()
        assert audit.writes(box.name, since=to_running).total() == 0
        await box.delete()
        await box.until_gone()
        await audit.settled()
        gone = audit.writes(box.name, since=at_rest)
        assert but_events(gone).total() <= 3, gone

    async def test_none_at_rest_in_any_phase(
        self, world: World, docker: Docker, audit: Audit
    ) -> None:
        async def rest(phase: str, box: Box, act: str = "") -> None:
            if act == "pause":
                await box.until("RUNNING")
                await box.pause()
            if act == "remove":
                await box.until("RUNNING")
                name = box.container_name
                await docker(lambda client: client.remove_container(name, force=True))
            await box.until(phase)

        never = {"restartPolicy": "Never"}
        await asyncio.gather(
            rest("RUNNING", await world.box(ports=[WEB], readiness=READY)),
            rest("PAUSED", await world.box(), "pause"),
            rest("PAUSED", await world.box(command=SLEEPS, pauseMethod="Stop"), "pause"),
            rest("PAUSED", await world.box(operatingMode="Paused")),
            rest("ERROR", await world.box(command=["true"], **never)),
            rest("ERROR", await world.box(image="no-such-image:1")),
            rest("MISSING", await world.box(command=SLEEPS), "remove"),
        )
        await audit.resyncs(1)  # Events come after the statuses that they tell of
        since = await audit.settled()
        await audit.resyncs(6)
        assert audit.writes(since=since).total() == 0


async def test_sandboxes_do_not_reach_each_other(world: World, docker: Docker) -> None:
    """Neither by address nor by a name of their choice, on one network though they are."""
    victim = await world.running("service", ports=[WEB])
    other = await world.running("other", ports=[WEB])
    details = await docker.inspect(victim)
    (network,) = details["NetworkSettings"]["Networks"].values()
    assert victim.name not in (network["Aliases"] or [])

    async def reaches(address: str) -> bool:
        asks = rf"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 {address} 8000 | grep -q busybox"
        return (await docker.run(other, "sh", "-c", asks))[0] == 0

    assert await reaches("127.0.0.1")
    assert not await reaches(network["IPAddress"])
    assert (await fetch(url(victim.latest)))[0] == 200
