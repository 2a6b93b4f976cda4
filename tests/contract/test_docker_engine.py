"""What only Docker can show: how a container is fenced in, and what an outage looks like."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from controller.core import names
from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.core.state import Limits, Run
from controller.engines.base import EngineRefused, EngineUnreachable, PortSpec, VolumeSpec
from controller.engines.docker import DockerEngine
from dev.engine import OwnEngine
from tests.contract.lab import SECONDS, SLEEPS, SMALL, Lab


@pytest.fixture
def raw(docker_host: str) -> Iterator[Any]:
    with contextlib.closing(docker.APIClient(base_url=docker_host, version="auto")) as client:
        yield client


class TestFences:
    async def test_a_container_is_secure_by_default(self, docker_lab: Lab, raw: Any) -> None:
        spec = docker_lab.spec(limits=SMALL, labels={"team": "a", names.UID_LABEL: "forged"})
        details = raw.inspect_container(await docker_lab.engine.create(spec))
        host, config = details["HostConfig"], details["Config"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Init"] is True
        assert host["IpcMode"] == "private"
        assert host["Privileged"] is False
        assert host["Memory"] == host["MemorySwap"] == SMALL.memory_bytes
        assert host["PidsLimit"] == SMALL.pids
        assert host["RestartPolicy"]["Name"] == "no"
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        assert config["Hostname"] == names.container_name(docker_lab.engine.owner, spec.uid)
        assert config["Healthcheck"]["Test"] == ["NONE"]
        assert config["Labels"]["team"] == "a"
        assert config["Labels"][names.UID_LABEL] == spec.uid

    async def test_ports_are_published_on_the_asked_address_alone(
        self, docker_lab: Lab, raw: Any
    ) -> None:
        spec, container_id = await docker_lab.started(
            ports=(PortSpec("http", 8000),), publish_address="127.0.0.2"
        )
        bindings = raw.inspect_container(container_id)["NetworkSettings"]["Ports"]["8000/tcp"]
        assert [binding["HostIp"] for binding in bindings] == ["127.0.0.2"]
        assert (await docker_lab.container(spec.uid)).ports == {8000: int(bindings[0]["HostPort"])}

    async def test_a_volume_that_a_killed_engine_left_half_made_is_ours(
        self, docker_lab: Lab, raw: Any
    ) -> None:
        """Docker stores a volume's labels last: one that was killed before has none."""
        spec = docker_lab.spec(volumes=(VolumeSpec("workspace", "/workspace"),))
        volume = names.volume_name(spec.uid, "workspace")
        raw.create_volume(volume)
        assert (await docker_lab.engine.find(spec.uid)).volumes == (volume,)
        await docker_lab.engine.create(spec)
        assert raw.inspect_volume(volume)["Labels"][names.UID_LABEL] == spec.uid
        other = names.volume_name(str(uuid.uuid4()), "workspace")
        raw.create_volume(other)
        assert (await docker_lab.engine.find(spec.uid)).volumes == (volume,)
        await docker_lab.engine.remove_volume(other)
        assert other not in [v["Name"] for v in raw.volumes()["Volumes"]]

    async def test_volumes_carry_their_labels_from_the_start(
        self, docker_lab: Lab, raw: Any
    ) -> None:
        spec = docker_lab.spec(volumes=(VolumeSpec("workspace", "/workspace", retain=True),))
        await docker_lab.engine.create(spec)
        labels = raw.inspect_volume(names.volume_name(spec.uid, "workspace"))["Labels"]
        assert labels == {
            names.OWNER_LABEL: docker_lab.engine.owner.label,
            names.UID_LABEL: spec.uid,
            names.NAMESPACE_LABEL: "team-a",
            names.SANDBOX_LABEL: "box",
            names.VOLUME_LABEL: "workspace",
            names.RECLAIM_LABEL: "Retain",
        }

    @pytest.mark.parametrize(
        ("command", "args", "path", "arguments"),
        [
            (None, None, "httpd", ["-f", "-p", "8000", "-h", "/www"]),
            (["sleep"], None, "sleep", []),
            (["sleep"], ["5"], "sleep", ["5"]),
            (None, ["sleep", "5"], "sleep", ["5"]),
        ],
    )
    async def test_command_and_args_mean_what_they_mean_in_a_pod(
        self,
        docker_lab: Lab,
        raw: Any,
        command: list[str] | None,
        args: list[str] | None,
        path: str,
        arguments: list[str],
    ) -> None:
        spec = docker_lab.spec(command=command, args=args)
        details = raw.inspect_container(await docker_lab.engine.create(spec))
        assert (details["Path"], details["Args"]) == (path, arguments)


class TestFormerNames:
    @pytest.mark.parametrize("started", [False, True])
    async def test_what_an_earlier_version_made_is_ours(
        self, docker_lab: Lab, raw: Any, started: bool
    ) -> None:
        spec = docker_lab.spec()
        made = await docker_lab.engine.create(spec)
        raw.rename(made, names.former_container_name(spec.uid))
        if started:
            await docker_lab.engine.start(made)
        assert await docker_lab.reborn.create(spec) == made, "no second one"
        assert (await docker_lab.container(spec.uid)).id == made
        assert (await docker_lab.engine.list())[spec.uid].container is not None
        await docker_lab.engine.remove(made)
        assert (await docker_lab.engine.find(spec.uid)).container is None

    async def test_a_strangers_container_of_a_former_name_is_left_alone(
        self, docker_lab: Lab, raw: Any
    ) -> None:
        spec = docker_lab.spec()
        theirs = await docker_lab.stranger.create(spec)
        raw.rename(theirs, names.former_container_name(spec.uid))
        assert await docker_lab.engine.create(spec) != theirs


class TestNeighbours:
    async def test_reverse_dns_tells_nothing_of_whose_a_neighbour_is(
        self, docker_lab: Lab, raw: Any
    ) -> None:
        """Every container may ask the network's DNS for the names of all addresses in it."""
        mine, id_ = await docker_lab.started()
        named = docker_lab.spec(namespace="team-secret", name="their-project", command=SLEEPS)
        theirs = await docker_lab.engine.create(named)
        await docker_lab.engine.start(theirs)
        (network,) = raw.inspect_container(theirs)["NetworkSettings"]["Networks"].values()

        def told(*command: str) -> str:
            made = raw.exec_create(id_, list(command))
            return str(raw.exec_start(made["Id"]).decode())

        address = network["IPAddress"]
        answer = told("busybox", "nslookup", address, "127.0.0.11")
        name = names.container_name(docker_lab.engine.owner, named.uid)
        assert name in answer, "else nothing was asked"
        everything = answer + told("cat", "/etc/hosts") + told("hostname")
        for host in (name, theirs[:12]):
            everything += told("busybox", "nslookup", host, "127.0.0.11")
        for secret in (
            named.uid,
            mine.uid,
            "team-",
            "their-project",
            docker_lab.engine.owner.label,
        ):
            assert secret not in everything
        for asked in (named.uid, names.former_container_name(named.uid), "their-project"):
            assert address not in told("busybox", "nslookup", asked, "127.0.0.11").replace(
                "127.0.0.11", ""
            )


class TestRefusals:
    async def test_no_refusal_shows_a_path_of_the_engines_host(
        self, docker_lab: Lab, raw: Any
    ) -> None:
        """All that a tenant can have refused here; other texts are in unit/engines."""
        info = raw.info()
        directory, file = VolumeSpec("v", "/bin/busybox"), VolumeSpec("w", "/bin/busybox/x")
        asked: list[dict[str, Any]] = [
            {"command": ("/no/such",)},
            {"command": ("/www",)},
            {"command": ("/proc/self/fd/8",)},
            {"working_dir": "/bin/busybox"},
            {"working_dir": "/bin/busybox/x"},
            {"working_dir": f"{info['DockerRootDir']}/x", "command": ("/x",)},
            {"volumes": (directory,)},
            {"volumes": (file,)},
            {"volumes": (VolumeSpec("v", "/a"), VolumeSpec("w", "/a"))},
            {"volumes": (VolumeSpec("v", "/" + "a" * 300),)},
            {"volumes": (VolumeSpec("v", "/dev/x"),)},
            {"limits": Limits(memory_bytes=6 << 20, cpu_millis=1)},
            {"limits": Limits(memory_bytes=6 << 20), "command": ("/no/such",)},
            {"limits": Limits(cpu_millis=10**15)},
            {"runtime": "/no/such"},
            {"image": "127.0.0.1:1/none:1"},
            {"image": "/var/lib/docker"},
            {"env": {"": "/var/lib/docker"}},
            {"ports": (PortSpec("http", 8000),), "publish_address": "203.0.113.9"},
        ]
        messages = []
        for fields in asked:
            spec = docker_lab.spec(**fields)
            try:
                await docker_lab.engine.start(await docker_lab.engine.create(spec))
            except EngineRefused as refused:
                messages.append(refused.message)
            found = (await docker_lab.engine.find(spec.uid)).container
            messages += [found.error] if found is not None else []
        for image in ("127.0.0.1:1/none:1", "localhost:1/../x", "a/b@sha256:0"):
            with pytest.raises(EngineRefused) as caught:
                await docker_lab.engine.pull(image)
            messages.append(caught.value.message)
        assert len([message for message in messages if message]) > 12
        print("\n".join(sorted(set(messages))))
        for path in (info["DockerRootDir"], "/var/lib/docker", "/run/", "/proc/self", "/sys/fs"):
            assert [message for message in messages if path in message] == []


class TestNetwork:
    @pytest.fixture
    async def owner(self, cluster_uid: str) -> Owner:
        """One that has no network yet."""
        return Owner(cluster_uid, f"net-{uuid.uuid4().hex[:8]}")

    @pytest.fixture
    async def pair(self, docker_lab: Lab, docker_host: str, owner: Owner) -> AsyncIterator[Lab]:
        """Two engine objects of that owner."""
        one, two = (DockerEngine(owner, base_url=docker_host) for _ in range(2))
        lab = Lab(one, two, docker_lab.stranger, image=docker_lab.image, taken_ports=None)
        yield lab
        await lab.clean()
        await one.close()
        await two.close()

    async def test_two_first_creations_make_one_network(
        self, pair: Lab, raw: Any, owner: Owner
    ) -> None:
        await asyncio.gather(
            *(e.create(pair.spec()) for e in (pair.engine, pair.reborn) for _ in range(3))
        )
        (network,) = raw.networks(names=[names.network_name(owner)])
        assert network["Labels"] == {names.OWNER_LABEL: owner.label}
        assert network["Options"] == {"com.docker.network.bridge.enable_icc": "false"}

    @pytest.mark.parametrize("ran_before", [False, True])
    async def test_a_network_that_vanished_is_made_again(
        self, pair: Lab, raw: Any, owner: Owner, ran_before: bool
    ) -> None:
        spec = pair.spec(ports=(PortSpec("http", 8000),))
        container_id = await pair.engine.create(spec)
        if ran_before:
            await pair.engine.start(container_id)
            await pair.engine.kill(container_id)
        raw.remove_network(names.network_name(owner))
        await pair.engine.start(container_id)
        assert (await pair.container(spec.uid)).run is Run.RUNNING
        (network,) = raw.inspect_container(container_id)["NetworkSettings"]["Networks"].items()
        assert network[0] == names.network_name(owner)
        assert network[1]["NetworkID"] == raw.networks(names=[network[0]])[0]["Id"]

    async def test_anothers_network_of_that_name_is_a_conflict(
        self, pair: Lab, raw: Any, owner: Owner
    ) -> None:
        name = names.network_name(owner)
        raw.create_network(name, driver="bridge")
        try:
            with pytest.raises(EngineRefused) as caught:
                await pair.engine.create(pair.spec())
            assert caught.value.reason is Reason.NAME_CONFLICT
            assert name in caught.value.message
        finally:
            raw.remove_network(name)
        await pair.engine.create(pair.spec())


class TestPull:
    async def test_a_pull_that_fails_says_why(self, docker_lab: Lab) -> None:
        with pytest.raises(EngineRefused) as caught:
            await docker_lab.engine.pull("127.0.0.1:1/none:1")
        assert caught.value.reason is Reason.IMAGE_PULL_FAILED
        assert "127.0.0.1:1/none:1" in caught.value.message
        assert "connection refused" in caught.value.message


class TestStream:
    @pytest.mark.parametrize("image", ["http://a/b", "a.b-/c"])
    async def test_what_is_no_image_name_is_not_taken_for_an_outage(
        self, docker_lab: Lab, image: str
    ) -> None:
        with pytest.raises(EngineRefused) as refused:
            await docker_lab.engine.pull(image)
        assert refused.value.reason is Reason.INVALID_SPEC
        assert "spec.image" in refused.value.message

    async def test_a_closed_stream_leaves_no_thread(self, docker_lab: Lab) -> None:
        before = set(threading.enumerate())
        events = docker_lab.engine.events()
        assert await anext(events) is None
        (thread,) = (t for t in set(threading.enumerate()) - before if "stream" in t.name)
        async with asyncio.timeout(SECONDS):
            await events.aclose()
        thread.join(SECONDS)
        assert not thread.is_alive()

    async def test_closing_the_engine_ends_its_stream(self, docker_lab: Lab) -> None:
        events = docker_lab.reborn.events()
        assert await anext(events) is None
        await docker_lab.reborn.close()
        with pytest.raises(EngineUnreachable):
            async with asyncio.timeout(SECONDS):
                await anext(events)


class TestOutage:
    async def test_no_engine_is_an_unreachable_engine(self, tmp_path: Path) -> None:
        engine = DockerEngine(Owner("c", "i"), base_url=f"unix://{tmp_path}/none.sock")
        with pytest.raises(EngineUnreachable):
            await engine.find("u")
        with pytest.raises(EngineUnreachable):
            await anext(engine.events())
        await engine.close()

    async def test_an_engine_that_never_answers_frees_its_callers(self, tmp_path: Path) -> None:
        path = tmp_path / "silent.sock"
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(path))
            silent.listen()
            engine = DockerEngine(Owner("c", "i"), base_url=f"unix://{path}", timeout_seconds=0.2)
            calls = (engine.find(str(n)) for n in range(20))
            async with asyncio.timeout(SECONDS):
                ends = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ends} == {EngineUnreachable}
            with pytest.raises(EngineUnreachable):
                await anext(engine.events())
            await engine.close()

    async def test_an_engine_that_dies_and_comes_back(self) -> None:
        own = OwnEngine()
        engine = DockerEngine(Owner("c", "i"), base_url=own.host)
        try:
            await asyncio.to_thread(own.start)
            before = await engine.identify()
            events = engine.events()
            assert await anext(events) is None
            await asyncio.to_thread(own.kill9)
            async with asyncio.timeout(SECONDS):
                with pytest.raises(EngineUnreachable):
                    await anext(events)
            with pytest.raises(EngineUnreachable):
                await engine.list()
            await asyncio.to_thread(own.start)
            assert await engine.identify() == before
            assert await engine.list() == {}
        finally:
            await engine.close()
            await asyncio.to_thread(own.close)
