"""Docker's JSON, as 20.10 wrote it into recorded/, and its errors, in the operator's words."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.core import names
from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.core.state import Limits, Run
from controller.engines import dockerwords as words
from controller.engines.base import ContainerSpec, EngineEvent, EngineRefused, PortSpec, VolumeSpec

OWNER = Owner("11111111-2222-3333-4444-555555555555", "main")
SPEC = ContainerSpec(
    uid="6f1de2ab-0000-4000-8000-0123456789ab",
    namespace="team-a",
    name="box",
    image="example/image:1",
    spec_hash="v1-abc",
    stop_grace_seconds=3,
    env={"TOKEN": "hunter2=x"},
)


def recorded(name: str) -> Any:
    return json.loads((Path(__file__).parent / "recorded" / f"{name}.json").read_text())


class TestContainer:
    def test_created(self) -> None:
        seen = words.container(recorded("created"))
        assert (seen.run, seen.name) == (Run.CREATED, names.former_container_name(SPEC.uid))
        assert (seen.started_at, seen.finished_at, seen.exit_code) == (None, None, None)
        assert (seen.ports, seen.error) == ({}, "")

    def test_running(self) -> None:
        raw = recorded("running")
        seen = words.container(raw)
        assert seen.run is Run.RUNNING
        assert seen.id == raw["Id"]
        assert seen.image_id.startswith("sha256:")
        assert seen.ports.keys() == {8000, 8001}
        assert seen.limits == Limits(cpu_millis=500, memory_bytes=64 << 20, pids=100)
        assert (seen.spec_hash, seen.stop_grace_seconds) == ("v1-abc", 3)
        assert seen.started_at is not None
        assert seen.finished_at is None
        assert seen.exit_code is None

    def test_exited(self) -> None:
        seen = words.container(recorded("exited"))
        assert (seen.run, seen.exit_code, seen.oom_killed) == (Run.EXITED, 137, False)
        assert seen.finished_at is not None
        assert seen.ports == {}

    def test_frozen_keeps_its_ports(self) -> None:
        raw = recorded("running")
        raw["State"]["Status"] = "paused"
        seen = words.container(raw)
        assert seen.run is Run.FROZEN
        assert seen.ports == words.container(recorded("running")).ports

    @pytest.mark.parametrize("status", ["removing", "dead", "exited"])
    def test_what_docker_half_removed_counts_as_exited(self, status: str) -> None:
        raw = recorded("exited")
        raw["State"]["Status"] = status
        assert words.container(raw).run is Run.EXITED

    def test_a_failed_start_is_no_exit(self) -> None:
        raw = recorded("created")
        raw["State"] |= {"ExitCode": 128, "Error": "Bind for 127.0.0.1:80 failed: port is already"}
        assert words.container(raw).exit_code is None

    def test_an_oom_kill_of_an_earlier_run_is_forgotten(self) -> None:
        raw = recorded("running")
        raw["State"]["OOMKilled"] = True
        assert not words.container(raw).oom_killed
        raw["State"]["Status"] = "exited"
        assert words.container(raw).oom_killed

    def test_nanoseconds_become_an_aware_time(self) -> None:
        raw = recorded("running")
        raw["State"]["StartedAt"] = "2026-01-02T03:04:05.123456789Z"
        expected = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
        assert words.container(raw).started_at == expected

    def test_no_limits(self) -> None:
        raw = recorded("running")
        raw["HostConfig"] |= words.limits_body(Limits())
        assert words.container(raw).limits == Limits()
        raw["HostConfig"] |= {"Memory": 0, "PidsLimit": None, "CpuQuota": 0, "CpuPeriod": 0}
        assert words.container(raw).limits == Limits()

    def test_labels_that_are_not_ours_do_no_harm(self) -> None:
        raw = recorded("running")
        raw["Config"]["Labels"] = {names.STOP_GRACE_LABEL: "soon"}
        assert words.container(raw).stop_grace_seconds == 10

    def test_a_listing_tells_the_same_ports(self) -> None:
        (row,) = recorded("listed")
        assert words.listed_ports(row) == words.container(recorded("running")).ports
        assert words.run_state(row["State"]) is Run.RUNNING

    def test_volumes_by_reclaim_policy(self) -> None:
        managed, retained = words.holdings_volumes(recorded("volumes")["Volumes"])
        assert managed == (names.volume_name(SPEC.uid, "workspace"),)
        assert retained == (names.volume_name(SPEC.uid, "archive"),)


class TestBody:
    def test_a_bare_one_asks_for_no_limits_ports_or_command(self) -> None:
        body = words.container_body(OWNER, SPEC)
        assert not {"Entrypoint", "Cmd", "WorkingDir"} & body.keys()
        assert not {"Memory", "CpuQuota", "PidsLimit", "Runtime"} & body["HostConfig"].keys()
        assert body["Env"] == ["TOKEN=hunter2=x"]

    def test_ports_are_dockers_choice_unless_asked_for(self) -> None:
        ports = (PortSpec("http", 8000), PortSpec("ssh", 22, 2222))
        body = words.container_body(OWNER, replace(SPEC, ports=ports, publish_address="10.0.0.1"))
        assert body["ExposedPorts"] == {"8000/tcp": {}, "22/tcp": {}}
        assert body["HostConfig"]["PortBindings"] == {
            "8000/tcp": [{"HostIp": "10.0.0.1", "HostPort": ""}],
            "22/tcp": [{"HostIp": "10.0.0.1", "HostPort": "2222"}],
        }

    def test_the_operators_labels_win(self) -> None:
        forged = {names.OWNER_LABEL: "other", "team": "a"}
        labels = words.container_body(OWNER, replace(SPEC, labels=forged))["Labels"]
        assert labels[names.OWNER_LABEL] == OWNER.label
        assert labels["team"] == "a"

    def test_volumes_are_made_with_their_labels(self) -> None:
        volume = VolumeSpec("workspace", "/workspace", read_only=True)
        body = words.container_body(OWNER, replace(SPEC, volumes=(volume,)))
        (mount,) = body["HostConfig"]["Mounts"]
        assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == (
            names.volume_name(SPEC.uid, "workspace"),
            "/workspace",
            True,
        )
        assert mount["VolumeOptions"]["Labels"] == words.volume_labels(OWNER, SPEC, volume)

    @pytest.mark.parametrize("memory", [64 << 20, 1 << 62, 5 << 60, 2**63 - 2])
    def test_limits_read_back_as_they_were_set(self, memory: int) -> None:
        limits = Limits(cpu_millis=1500, memory_bytes=memory, pids=7)
        for body in (
            words.container_body(OWNER, replace(SPEC, limits=limits))["HostConfig"],
            words.limits_body(limits),
        ):
            raw = recorded("running")
            raw["HostConfig"] = body
            assert words.container(raw).limits == limits
            assert body["MemorySwap"] == body["Memory"]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("busybox", ("busybox", "latest")),
        ("busybox:1", ("busybox", "1")),
        ("host:5000/a/b", ("host:5000/a/b", "latest")),
        ("host:5000/a/b:v2", ("host:5000/a/b", "v2")),
        ("a/b@sha256:00ff", ("a/b", "sha256:00ff")),
    ],
)
def test_an_image_is_never_pulled_with_all_its_tags(image: str, reference: tuple[str, str]) -> None:
    assert words.image_reference(image) == reference


@pytest.mark.parametrize(
    "image",
    [
        *(
            "busybox",
            "a/b/c:v1",
            "host:5000/a/b:v2",
            "[::1]:5000/v",
            "ghcr.io/openhands/x:latest-py",
        ),
        *("a@sha256:" + "0" * 64, "a/b:1@sha256:" + "0" * 64, "0" * 12, "sha256:" + "0" * 64),
        *("localhost/v", "127.0.0.1:5000/v", "v" * 255, "a__b/c--d.e_f"),
    ],
)
def test_names_of_images_are_let_through(image: str) -> None:
    words.check_image(image)


@pytest.mark.parametrize(
    "image",
    [
        *(
            "v/../../containers/json",
            "a/../b",
            "..",
            "a/..",
            "a/./b",
            "a//b",
            "a/",
            "/a",
            "",
            "a/B",
        ),
        *("v:", "v:..", "v@sha256:0", "v" * 256, "a/" * 400 + "a", "v://v", "v?x=1", "v#", "v%2e"),
        *("v/json?", "a\n", "a:..%2f", "\ud800", "ν", "a:" + "t" * 129, "a.", "a/-b", "a..b/c/.."),
    ],
)
def test_what_is_no_image_name_is_no_path_of_the_api(image: str) -> None:
    with pytest.raises(EngineRefused) as refused:
        words.check_image(image)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert "spec.image" in refused.value.message


RAW = {"Action": "die", "Actor": {"ID": "abc", "Attributes": {names.UID_LABEL: "u1"}}}


class TestEvent:
    def test_what_happened_to_a_sandbox(self) -> None:
        assert words.event(RAW) == EngineEvent(uid="u1", container_id="abc", action="die")

    @pytest.mark.parametrize(
        "raw",
        [
            RAW | {"Action": "exec_create: sh"},
            RAW | {"Action": "health_status: healthy"},
            RAW | {"Actor": {"ID": "abc", "Attributes": {}}},
            {},
        ],
    )
    def test_all_else_is_left_out(self, raw: dict[str, Any]) -> None:
        assert words.event(raw) is None


OCI = (
    "failed to create shim task: OCI runtime create failed: runc create failed:"
    " unable to start container process: "
)


@pytest.mark.parametrize(
    ("text", "reason", "mention"),
    [
        ("No such image: nope/none:3", Reason.IMAGE_NOT_FOUND, "nope/none:3"),
        (
            "Minimum memory limit allowed is 6MB",
            Reason.INVALID_SPEC,
            "spec.resources.limits.memory",
        ),
        (
            "json: cannot unmarshal number 100000000000000000000 into Go struct field"
            " HostConfig.HostConfig.CpuQuota of type int64",
            Reason.INVALID_SPEC,
            "spec.resources.limits.cpu",
        ),
        (
            OCI + 'error setting cgroup config for procHooks process: failed to write "100000000000'
            '000": write /sys/fs/cgroup/cpu/docker/0f/cpu.cfs_quota_us: invalid argument: unknown',
            Reason.INVALID_SPEC,
            "spec.resources.limits.cpu",
        ),
        (
            "repository name must not be more than 255 characters",
            Reason.INVALID_SPEC,
            "spec.image",
        ),
        ("Unknown runtime specified runsc", Reason.RUNTIME_NOT_FOUND, "no runtime runsc"),
        ("unknown or invalid runtime name: runsc", Reason.RUNTIME_NOT_FOUND, "no runtime runsc"),
        (
            "driver failed programming external connectivity on endpoint sbx-1 (56):"
            " Bind for 127.0.0.1:44795 failed: port is already allocated",
            Reason.PORT_IN_USE,
            "Host port 44795 ",
        ),
        (
            "driver failed programming external connectivity on endpoint sbx-1 (56): Error starting"
            " userland proxy: listen tcp4 127.0.0.1:44795: bind: address already in use",
            Reason.PORT_IN_USE,
            "Host port 44795 ",
        ),
        (
            "failed to bind host port for 127.0.0.1:44795:172.17.0.2:80/tcp:"
            " address already in use",
            Reason.PORT_IN_USE,
            "Host port 44795 ",
        ),
        (
            "Error starting userland proxy: listen tcp4 203.0.113.9:32777:"
            " bind: cannot assign requested address",
            Reason.ENGINE_REFUSED,
            "203.0.113.9 is no address",
        ),
        (
            OCI + 'exec: "/nope": stat /nope: no such file or directory: unknown',
            Reason.START_FAILED,
            "The command /nope cannot be run (no such file or directory)",
        ),
        (
            OCI + 'exec: "nope": executable file not found in $PATH: unknown',
            Reason.START_FAILED,
            "spec.command",
        ),
        (
            OCI + 'exec: "/www": permission denied: unknown',
            Reason.START_FAILED,
            "permission denied",
        ),
        ("Cannot mkdir: /bin/x is not a directory", Reason.INVALID_SPEC, "spec.workingDir: /bin/x"),
        (
            "the working directory 'rel' is invalid, it needs to be an absolute path",
            Reason.INVALID_SPEC,
            "spec.workingDir: rel",
        ),
        (
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            Reason.INVALID_SPEC,
            "spec.resources.limits.cpu",
        ),
        (
            "could not find an available, non-overlapping IPv4 address pool among the defaults to"
            " assign to the network",
            Reason.ENGINE_REFUSED,
            "docker network prune",
        ),
        (
            "all predefined address pools have been fully subnetted",
            Reason.ENGINE_REFUSED,
            "default-address-pools",
        ),
        (
            "failed to create endpoint sbx-1 on network sbx-net: adding interface veth1 to bridge"
            " br-1 failed: exchange full",
            Reason.ENGINE_REFUSED,
            "is full",
        ),
        (
            "no available IPv4 addresses on this network's address pools: sbx-net (12ab)",
            Reason.ENGINE_REFUSED,
            "is full",
        ),
        ("Duplicate mount point: /a", Reason.INVALID_SPEC, "spec.volumes"),
        ('invalid port specification: "99999"', Reason.INVALID_SPEC, "spec.ports"),
        ("invalid reference format", Reason.INVALID_SPEC, "spec.image"),
        ("No such container: 1234", Reason.CONTAINER_MISSING, "gone"),
        ("something new", Reason.START_FAILED, "something new"),
    ],
)
def test_a_refusal_names_what_to_change(text: str, reason: Reason, mention: str) -> None:
    refused = words.refusal(text, Reason.START_FAILED)
    assert refused.reason is reason
    assert mention in refused.message
    assert "OCI" not in refused.message


class TestPlain:
    def test_a_refusal_never_quotes_the_environment(self) -> None:
        refused = words.refusal("invalid environment variable: =hunter2", Reason.ENGINE_REFUSED)
        assert refused.reason is Reason.INVALID_SPEC
        assert "hunter2" not in refused.message
        assert "hunter2" not in repr(SPEC)

    @pytest.mark.parametrize("padding", [0, words.MESSAGE_LENGTH - 8])
    def test_a_refusal_that_repeats_a_secret_is_left_out(self, padding: int) -> None:
        """Also where cutting it short would leave half of it."""
        text = "x" * padding + ' no such image: {"Env": ["A=hunter2-hunter2"]}'
        refused = words.refusal(text, Reason.ENGINE_REFUSED, {"hunter2-hunter2"})
        assert refused.reason is Reason.IMAGE_NOT_FOUND
        assert refused.message == words.told(text, {"hunter2-hunter2"})
        assert "hunter2" not in refused.message
        assert "secret value" in refused.message

    def test_one_short_line_without_control_characters(self) -> None:
        text = words.plain("a\n\x1b[31mb\tc" + "x" * 2000)
        assert text.startswith("a [31mb cx")
        assert text.isprintable()
        assert len(text) == words.MESSAGE_LENGTH

    def test_the_layers_of_the_runtime_are_left_out(self) -> None:
        assert words.plain(OCI + "it is full: unknown") == "it is full"

    def test_ids_are_short(self) -> None:
        assert (
            words.plain("network " + "ab" * 32 + " not found") == "network abababababab not found"
        )

    def test_an_unspoken_refusal_still_says_something(self) -> None:
        assert words.refusal("", Reason.ENGINE_REFUSED).message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("manifest for a/b:1 not found: manifest unknown", Reason.IMAGE_NOT_FOUND),
        (
            "pull access denied for a/b, repository does not exist or may require 'docker login'",
            Reason.IMAGE_NOT_FOUND,
        ),
        (
            "dial tcp: lookup registry.example on 10.0.0.1:53: no such host",
            Reason.IMAGE_PULL_FAILED,
        ),
        ("toomanyrequests: You have reached your pull rate limit", Reason.IMAGE_PULL_FAILED),
    ],
)
def test_a_pull_tells_missing_from_failing(text: str, reason: Reason) -> None:
    refused = words.pull_refusal("a/b:1", text)
    assert refused.reason is reason
    assert "a/b:1" in refused.message


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("error parsing HTTP 404 response body: invalid character 'h': \"hidden\"", "HTTP 404"),
        ("unknown: <html>hidden</html>", "unknown"),
        ("Get https://127.0.0.1/v2/a: unauthorized: hidden", "unauthorized"),
        ("pull access denied for a, repository does not exist: denied: hidden", "access denied"),
        ("toomanyrequests: hidden", "toomanyrequests"),
    ],
)
def test_what_is_no_registry_is_not_quoted(said: str, kept: str) -> None:
    """Docker quotes what any service on the engine's network answers to it."""
    refused = words.pull_refusal("127.0.0.1:80/a", said)
    assert kept in refused.message
    assert "hidden" not in refused.message


@pytest.mark.parametrize("text", ["manifest for ", "cannot mkdir: ", 'exec: "a": ', "x" * 13])
def test_megabytes_of_a_foreign_text_are_not_searched(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may make the operator slow with what a registry, or an image, says: no pattern gets
    more of it than a few kilobytes."""

    class Short(str):
        __slots__ = ()

        def __getitem__(self, part: Any) -> str:
            assert part == slice(None, words._READ_LENGTH + 1, None)
            return super().__getitem__(part)

    long = Short(text * (1 << 20))
    for refused in (words.pull_refusal("a", long), words.refusal(long, Reason.ENGINE_REFUSED)):
        assert len(refused.message) <= words.MESSAGE_LENGTH
    assert not words.lost_engine(500, long)


@pytest.mark.parametrize(
    ("status", "text", "lost"),
    [
        (503, "", True),
        (500, "dial unix /run/containerd/containerd.sock: connect: connection refused", True),
        (500, "driver failed programming external connectivity", False),
        (409, "Conflict", False),
    ],
)
def test_a_daemon_that_goes_down_refuses_nothing(status: int, text: str, lost: bool) -> None:
    assert words.lost_engine(status, text) is lost
