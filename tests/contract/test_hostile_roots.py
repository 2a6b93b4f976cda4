"""Images and containers whose files lead the engine astray: nothing of them is ever started.

No test lets the engine go as far as to open what it is led to: each shows the refusal.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import docker
import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.core.state import Run
from controller.engines.base import ContainerSpec, EngineRefused, VolumeSpec
from controller.engines.docker import DockerEngine
from dev.images import BUSYBOX
from tests.contract.lab import SLEEPS, Lab

Links = dict[str, str]
MakeImage = Callable[..., str]
WORK = (VolumeSpec("work", "/x"),)


@pytest.fixture
def raw(docker_host: str) -> Iterator[Any]:
    with closing(docker.APIClient(base_url=docker_host, version="auto")) as client:
        yield client


@pytest.fixture
def image(raw: Any) -> Iterator[MakeImage]:
    """Makes images of nothing but links, which cannot run: what is not refused fails otherwise."""
    made: list[str] = []

    def make(links: Links, changes: Sequence[str] = ()) -> str:
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as tar:
            for name, target in links.items():
                entry = tarfile.TarInfo(name.lstrip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
        files.seek(0)
        tag = f"sandbox-operator/hostile:{uuid.uuid4().hex}"
        repository, _, version = tag.partition(":")
        raw.import_image(
            files, repository=repository, tag=version, changes=['CMD ["/none"]', *changes]
        )
        made.append(tag)
        return tag

    yield make
    for tag in made:
        raw.remove_image(tag, force=True)


async def refusal(lab: Lab, spec: ContainerSpec, raw: Any) -> str:
    """Why the engine did not start it. It must never have run."""
    container_id = await lab.engine.create(spec)
    with pytest.raises(EngineRefused) as refused:
        await lab.engine.start(container_id)
    assert refused.value.reason is Reason.INVALID_SPEC, refused.value.message
    assert raw.inspect_container(container_id)["State"]["StartedAt"].startswith("0001")
    return refused.value.message


@pytest.mark.parametrize(
    ("links", "changes", "volumes", "directory", "words"),
    [
        ({"/x": "/dev"}, (), WORK, None, "spec.volumes[work].mountPath: /x leads to /dev"),
        ({"/x": "/proc"}, (), WORK, None, "/x leads to /proc"),
        ({"/x": "sys/fs"}, (), WORK, None, "/x leads to /sys/fs"),
        ({"/x": "/"}, (), WORK, None, "the root itself"),
        ({"/x": "/"}, (), (VolumeSpec("work", "/x/dev"),), None, "/x/dev leads to /dev"),
        ({"/x": "y", "/y": "/"}, (), (VolumeSpec("work", "/x/dev"),), None, "/x/dev leads to /dev"),
        ({"/x": "/run/secrets"}, (), WORK, None, "a file that the engine mounts itself"),
        ({}, (), (VolumeSpec("work", "/dev"),), None, "/dev"),
        ({}, (), (VolumeSpec("work", "/dev/shm"),), None, "/dev"),
        ({"/x": "/dev"}, ('VOLUME ["/x"]',), (), None, "spec.image: its VOLUME: /x leads to /dev"),
        ({"/x": "/"}, ('VOLUME ["/x/dev"]',), (), None, "/x/dev leads to /dev"),
        ({"/x": "/proc/self"}, (), (), "/x/fd", "/x/fd leads to /proc/self/fd"),
        ({"/x": "/proc/self"}, ("WORKDIR /x/fd",), (), None, "spec.workingDir (or the image's)"),
        ({}, ("WORKDIR /proc/self/fd/8",), (), None, "/proc/self/fd/8"),
        ({}, ("WORKDIR /sys",), (), None, "/sys"),
        ({"/sbin": "/proc/sys"}, (), (), None, "leads /sbin/docker-init"),
        # Docker resolves through what the image has there, the runtime through what it mounted.
        (
            {"/dev/fd": "/a/b", "/x": "/dev/fd/../../dev"},
            (),
            WORK,
            None,
            "/x leads to /dev/fd/../../dev",
        ),
        ({"/proc/self": "/a", "/x": "y", "/y": "/proc/self"}, (), WORK, None, "to /proc/self"),
        ({"/proc/self": "/a", "/x": "/proc/self"}, (), (), "/x/fd", "/x/fd leads to /proc/self"),
        ({"/sys/a": "/usr/sbin", "/sbin": "/sys/a"}, (), (), None, "leads /sbin/docker-init"),
        ({"/x": "/a/../none/../dev"}, (), WORK, None, "goes back from a directory"),
        ({"/x": "/etc"}, (), WORK, None, "where the engine mounts files"),
    ],
)
async def test_an_image_that_leads_astray_is_not_started(
    docker_lab: Lab,
    raw: Any,
    image: MakeImage,
    links: Links,
    changes: Sequence[str],
    volumes: tuple[VolumeSpec, ...],
    directory: str | None,
    words: str,
) -> None:
    spec = docker_lab.spec(
        image=image(links, changes), command=None, volumes=volumes, working_dir=directory
    )
    message = await refusal(docker_lab, spec, raw)
    assert words in message
    assert "/var/lib" not in message


@pytest.mark.parametrize("target", ["/etc/hosts", "x"])
async def test_a_volume_at_a_link_to_a_file_or_to_itself_is_not_started(
    docker_lab: Lab, image: MakeImage, target: str
) -> None:
    """Some engines make the container, and some not even that."""
    spec = docker_lab.spec(image=image({"/x": target}), command=None, volumes=WORK)
    with pytest.raises(EngineRefused):
        await docker_lab.engine.start(await docker_lab.engine.create(spec))
    container = (await docker_lab.engine.find(spec.uid)).container
    assert container is None or container.started_at is None


@pytest.mark.parametrize(
    "links",
    [{"/etc": "/dev"}, {"/etc/hosts": "/dev/null"}, {"/dev": "/x"}, {"/sys": "proc"}],
    ids=str,
)
async def test_docker_puts_its_own_in_place_of_links_of_the_image(
    docker_lab: Lab, raw: Any, image: MakeImage, links: Links
) -> None:
    """So the check of the engine's own paths passes, and rightly."""
    container_id = await docker_lab.engine.create(docker_lab.spec(image=image(links), command=None))
    for path in links:
        at = raw.head(raw._url("/containers/{0}/archive", container_id), params={"path": path})
        told = json.loads(base64.b64decode(at.headers["X-Docker-Container-Path-Stat"]))
        assert told["linkTarget"] == ""


async def test_a_link_inside_a_volume_is_followed_too(
    docker_lab: Lab, raw: Any, image: MakeImage
) -> None:
    """The image's files under a mount path become the volume's, and another is mounted in there."""
    volumes = (VolumeSpec("outer", "/v"), VolumeSpec("inner", "/v/b"))
    spec = docker_lab.spec(image=image({"/v/b": "/dev"}), command=None, volumes=volumes)
    assert "/v/b leads to /dev" in await refusal(docker_lab, spec, raw)


PLANTS = {
    "the mount path": (
        "mv /x /old; ln -s / /x; exit 1",
        (VolumeSpec("work", "/x/d"),),
        None,
    ),
    "the working directory": ("rm -rf /w; ln -s /proc/self /w; exit 1", (), "/w"),
}


@pytest.mark.parametrize("plant", PLANTS)
async def test_what_a_first_run_planted_is_not_started_again(
    docker_lab: Lab, raw: Any, plant: str
) -> None:
    script, volumes, directory = PLANTS[plant]
    spec = docker_lab.spec(
        command=("sh", "-c", script.replace("/x/d", "/x/dev")),
        volumes=tuple(VolumeSpec(v.name, "/x/dev") for v in volumes),
        working_dir=directory,
    )
    container_id = await docker_lab.engine.create(spec)
    await docker_lab.engine.start(container_id)
    raw.wait(container_id)
    before = raw.inspect_container(container_id)["State"]["StartedAt"]
    with pytest.raises(EngineRefused) as refused:
        await docker_lab.engine.start(container_id)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert raw.inspect_container(container_id)["State"]["StartedAt"] == before


async def refusal_after_its_run(lab: Lab, raw: Any, spec: ContainerSpec) -> str:
    """Run it once, as it may, and then have it refused."""
    container_id = await lab.engine.create(spec)
    await lab.engine.start(container_id)
    assert raw.wait(container_id)["StatusCode"] == 7, raw.logs(container_id)
    before = raw.inspect_container(container_id)["State"]["StartedAt"]
    for engine in (lab.engine, lab.reborn):  # what it remembers of the first start is of no use
        with pytest.raises(EngineRefused) as refused:
            await engine.start(container_id)
        assert refused.value.reason is Reason.INVALID_SPEC
    assert raw.inspect_container(container_id)["State"]["StartedAt"] == before
    return refused.value.message


ELSEWHERE = "would be mounted elsewhere: a volume hides a symbolic link on the way to it"


async def test_a_volume_that_hides_where_another_leads_is_not_mounted(
    docker_lab: Lab, raw: Any
) -> None:
    """Once all are mounted, /d is the second volume, with plain directories for both paths; but the
    first is mounted before it, where /d/l led to then. It could be /dev, and here it is /o."""
    script = (
        "mkdir -p /d/d/d/d/d /d/d/d/l /o && mv /d /old && mkdir /d"
        " && ln -s / /d/d && ln -s /o /d/l && exit 7"
    )
    volumes = (VolumeSpec("first", "/d/l"), VolumeSpec("second", "/d/d/d"))
    spec = docker_lab.spec(command=("sh", "-c", script), volumes=volumes)
    assert ELSEWHERE in await refusal_after_its_run(docker_lab, raw, spec)


async def test_a_volume_that_hides_its_own_way_to_the_root_is_not_mounted(
    docker_lab: Lab, raw: Any
) -> None:
    script = "mkdir -p /a/b/a/b && mv /a /old && mkdir /a && ln -s / /a/b && exit 7"
    spec = docker_lab.spec(command=("sh", "-c", script), volumes=(VolumeSpec("work", "/a/b"),))
    assert ELSEWHERE in await refusal_after_its_run(docker_lab, raw, spec)


async def test_a_kept_volume_that_hides_a_link_of_a_new_image_is_not_mounted(
    docker_lab: Lab, raw: Any, image: MakeImage
) -> None:
    volumes = (VolumeSpec("work", "/a/b"),)
    spec, container_id = await docker_lab.started(
        command=("sh", "-c", "mkdir -p /a/b/a/b"), volumes=volumes
    )
    raw.wait(container_id)
    await docker_lab.engine.remove(container_id)
    hostile = docker_lab.spec(
        uid=spec.uid, image=image({"/a/b": "/"}), command=None, volumes=volumes
    )
    assert ELSEWHERE in await refusal(docker_lab, hostile, raw)


async def test_volumes_in_volumes_are_fine_however_often_they_are_started(
    docker_lab: Lab, raw: Any
) -> None:
    volumes = (
        VolumeSpec("outer", "/v"),
        VolumeSpec("inner", "/v/b"),
        VolumeSpec("deep", "/v/b/c/d", read_only=True),
        VolumeSpec("run", "/r/app"),
        VolumeSpec("fixed", "/w", read_only=True),
    )
    spec, container_id = await docker_lab.started(
        command=("sh", "-c", "rm -rf /z /s; mkdir -p /z/app; ln -s /z /s; " + " ".join(SLEEPS)),
        volumes=volumes,
        working_dir="/v/b",
    )
    before = {"/v", "/v/b", "/v/b/c", "/w", "/r", "/"}
    for _ in range(2):
        await docker_lab.engine.kill(container_id)
        raw.wait(container_id)
        await docker_lab.engine.start(container_id)
        assert (await docker_lab.container(spec.uid)).run is Run.RUNNING
    changed = {change["Path"] for change in raw.diff(container_id)}
    assert changed <= before | {"/z", "/z/app", "/s", "/r/app", "/v/b/c/d", *ENGINES}, changed


ENGINES = {"/sbin", "/sbin/docker-init", "/etc", "/dev", "/proc", "/sys"}


async def test_an_image_whose_name_moves_while_it_is_looked_at_makes_no_container(
    docker_lab: Lab, raw: Any, image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, loud = image({}), image({}, ["LABEL proxy.rule=all"])
    spec = docker_lab.spec(image=plain, command=None)
    create = docker.APIClient.create_container_from_config

    def moved(client: Any, body: Any, name: str) -> Any:
        raw.tag(loud, *plain.split(":"), force=True)
        return create(client, body, name)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(docker.APIClient, "create_container_from_config", moved)
    with pytest.raises(EngineRefused) as refused:
        await docker_lab.engine.create(spec)
    assert "has just changed" in refused.value.message
    assert (await docker_lab.engine.find(spec.uid)).container is None


async def test_ordinary_links_and_volumes_are_fine(
    docker_lab: Lab, raw: Any, image: MakeImage
) -> None:
    volumes = (VolumeSpec("run", "/var/run/app"), VolumeSpec("deep", "/a/b/c"))
    spec, container_id = await docker_lab.started(
        command=("sh", "-c", "ln -s /run /var/r; rm -rf /var/x; " + " ".join(SLEEPS)),
        volumes=volumes,
        working_dir="/a/b",
    )
    assert (await docker_lab.container(spec.uid)).run is Run.RUNNING
    await docker_lab.engine.kill(container_id)
    raw.wait(container_id)
    await docker_lab.engine.start(container_id)
    assert (await docker_lab.container(spec.uid)).run is Run.RUNNING


class TestImages:
    async def test_labels_that_are_not_allowed_are_blank(
        self, docker_lab: Lab, raw: Any, image: MakeImage
    ) -> None:
        labels = f"LABEL proxy.rule=all team.example/a=1 {names.VOLUME_LABEL}=forged"
        spec = docker_lab.spec(
            image=image({}, [labels]), command=None, allowed_labels=("team.example/*",)
        )
        made = raw.inspect_container(await docker_lab.engine.create(spec))["Config"]["Labels"]
        assert made["proxy.rule"] == ""
        assert made["team.example/a"] == "1"
        assert made[names.VOLUME_LABEL] == ""
        assert made[names.UID_LABEL] == spec.uid

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ([f"LABEL l{i}={'x' * 30000}" for i in range(3)], "labels"),
            (["LABEL " + " ".join(f"l{i}=1" for i in range(300))], "labels"),
            ([f"ENV E{i}={'x' * 30000}" for i in range(3)], "environment"),
            (["ENV " + " ".join(f"E{i}=1" for i in range(300))], "variables"),
            (["EXPOSE " + " ".join(map(str, range(1000, 1400)))], "exposed ports"),
            (["VOLUME " + " ".join(f"/v{i}" for i in range(40))], "volumes"),
            ([f"WORKDIR /{'w' * 5000}"], "WorkingDir"),
        ],
    )
    async def test_one_with_too_much_makes_no_container(
        self, docker_lab: Lab, raw: Any, image: MakeImage, changes: list[str], words: str
    ) -> None:
        spec = docker_lab.spec(image=image({}, changes), command=None)
        with pytest.raises(EngineRefused) as refused:
            await docker_lab.engine.create(spec)
        assert refused.value.reason is Reason.INVALID_SPEC
        assert words in refused.value.message
        assert (await docker_lab.engine.find(spec.uid)).container is None


async def test_a_runc_without_the_fix_is_told_of_and_may_be_refused(
    docker_lab: Lab, docker_host: str
) -> None:
    engine = DockerEngine(docker_lab.engine.owner, base_url=docker_host, require_patched_runc=True)
    spec = docker_lab.spec(image=BUSYBOX)
    container_id = await docker_lab.engine.create(spec)
    try:
        if await engine.advisories():
            with pytest.raises(EngineRefused) as refused:
                await engine.start(container_id)
            assert refused.value.reason is Reason.NOT_ALLOWED
            assert "require_patched_runc" in refused.value.message
            with pytest.raises(EngineRefused):
                await engine.create(docker_lab.spec(image=BUSYBOX))
        else:
            await engine.start(container_id)
    finally:
        await engine.close()
