"""Recognisable keys are planted, lives with every kind of failure are led, and then the keys are
looked for wherever they must not be. A Secret and a container's environment are all that may hold
them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.core import names
from dev.engine import OwnEngine
from dev.images import BUSYBOX, ensure_busybox
from tests.integration import raising_operator
from tests.integration.boxes import SLEEPS, WEB, Box, Docker, World, condition
from tests.integration.echoing import EchoingEngine
from tests.integration.operator import SECONDS, Json, Operator, Refused
from tests.integration.planted import Search, plant
from tests.integration.sandboxes import kubectl

SETTINGS = {"resync_seconds": "1", "log_level": "debug", "engine_timeout_seconds": "3"}
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
PLACES = [
    "Sandboxes, every version",
    "Events",
    "kubectl",
    "other objects",
    "the operator's log",
    "the log of one that raises",
    "the operator's environment",
    "containers but for their environment",
    "processes in containers",
    "images and their history",
    "networks and volumes",
    "the engine's events",
    "the engine's log",
    "arguments of all processes",
    "the audit log",
    "the API server's log",
]


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with OwnEngine() as engine:
        ensure_busybox(engine.host)
        yield engine


@pytest.fixture(scope="module")
def docker(engine: OwnEngine) -> Iterator[Docker]:
    docker = Docker(engine.host)
    yield docker
    docker.close()


@dataclass
class Life:
    """What was planted, and all that was told."""

    secrets: dict[str, str]
    public: str
    places: dict[str, str] = field(default_factory=dict)
    environments: str = ""
    """Of the containers: where the keys belong."""
    passed: list[str] = field(default_factory=list)
    """Which of the secrets reached one."""
    reasons: set[str] = field(default_factory=set)
    described: str = ""
    """By kubectl, while they lived."""
    raising: str = ""
    """What one logged that raised exceptions whose texts hold keys."""


@pytest.fixture(scope="module")
async def life(
    world: World, docker: Docker, operator: Operator, engine: OwnEngine
) -> AsyncIterator[Life]:
    secrets = {what: plant(what) for what in ("users key", "env", "env from", "prefix")}
    life = Life(secrets, public=plant("public"), passed=list(secrets))
    since = docker.now()
    async with EchoingEngine(engine.host, engine.directory / "echo.sock") as echoing:
        await operator.restart(docker_host=echoing.host)
        boxes = await _lead(life, Stage(world, docker, operator, engine, echoing))
        life.reasons = {
            condition(version, type_).get("reason", "")
            for box in boxes
            for version in box.versions
            for type_ in ("Ready", "EngineReachable")
        }
        life.places = await _told(world, docker, operator, engine, since)
        life.places |= {"kubectl": life.described, "the log of one that raises": life.raising}
        assert set(life.places) == set(PLACES)
        yield life
        await operator.restart(docker_host=engine.host, log_format="plain")


@dataclass
class Stage:
    world: World
    docker: Docker
    operator: Operator
    engine: OwnEngine
    echoing: EchoingEngine


async def _lead(life: Life, stage: Stage) -> list[Box]:
    world, planted = stage.world, life.secrets
    await world.secret("mine", key=planted["users key"])
    await world.secret("one", token=planted["env"])
    await world.secret("many", A=planted["env from"], CRLF="x\r\n" + planted["prefix"])
    one = {"secretKeyRef": {"name": "one", "key": "token"}}
    secret: Json = {
        "command": SLEEPS,
        "env": [{"name": "ONE", "valueFrom": one}, {"name": "PUBLIC", "value": life.public}],
        "envFrom": [
            {"secretRef": {"name": "many"}},
            {"secretRef": {"name": "many"}, "prefix": "P"},
        ],
    }
    of_user: Json = {
        "sessionKey": {"mode": "SecretRef", "secretRef": {"name": "mine", "key": "key"}}
    }

    failing = [
        await world.box("no-image", **secret | {"image": "no-such-image:1"}),
        await world.box("not-pulled", **secret, image="no/such:1", imagePullPolicy="Always"),
        await world.box("no-program", **secret | {"command": ["/no/program"]}, **of_user),
        await world.box("no-directory", **secret, workingDir="/bin/sh"),
        await world.box(
            "exits", **secret | {"command": ["sh", "-c", "exit 3"]}, restartPolicy="Never"
        ),
    ]
    lives = await world.running(
        "lives", **secret | {"command": None}, ports=[WEB], onMissing="Recreate"
    )
    users = await world.running("users", **secret, **of_user)
    for box in failing:
        await box.until("ERROR")
    boxes = [lives, users, *failing]
    await _remember(life, stage, boxes)

    await _paused_and_resumed(stage, lives, users)
    boxes.append(await _a_name_is_taken(stage, secret))
    boxes.append(await _the_engine_echoes(stage, secret | of_user))
    boxes.append(await _exceptions_quote_keys(life, stage, secret))
    boxes += await _policies_quote_the_secret(stage, secret)
    await _remember(life, stage, boxes)
    await _outages(stage, lives, users)
    await _its_secret_and_container_go(stage, lives)
    await _remember(life, stage, boxes)
    for box in boxes[:-1]:
        await box.delete()
    for box in boxes[:-1]:
        await box.until_gone()
    return boxes


async def _remember(life: Life, stage: Stage, boxes: list[Box]) -> None:
    """The generated keys, those that reached a container too, the environments, and what kubectl
    says."""
    plane, inside = stage.world.plane.control_plane, f"--namespace={stage.world.namespace}"
    for told in (["describe", "sandboxes,events"], ["get", "sandboxes,events", "-o", "yaml"]):
        life.described += await asyncio.to_thread(kubectl, plane, inside, *told)
    for box in boxes:
        details = await stage.docker.inspect(box)
        if details:
            life.environments += json.dumps(details["Config"]["Env"])
        if await box.secret() is not None:
            what = f"key of {box.name}"
            life.secrets[what] = await box.key()
            life.passed += [what] if details else []


async def _paused_and_resumed(stage: Stage, *boxes: Box) -> None:
    for box in boxes:
        await box.pause()
        await box.until("PAUSED")
    stage.operator.kill9()
    stage.operator.start(log_format="json")
    for box in boxes:
        await box.resume()
        await box.until("RUNNING")


async def _a_name_is_taken(stage: Stage, spec: Json) -> Box:
    """By a container that was there first."""
    await stage.operator.stop()
    box = await stage.world.box("named", **spec)
    name = box.container_name
    await stage.docker(lambda client: client.create_container(BUSYBOX, name=name))
    stage.operator.start()
    await box.until("ERROR", "NameConflict")
    await stage.docker(lambda client: client.remove_container(name))
    await box.until("RUNNING")
    return box


async def _the_engine_echoes(stage: Stage, spec: Json) -> Box:
    stage.echoing.answers = [400, 500, 503, 409, 0, 0]
    box = await stage.world.box("echoed", **spec)
    await box.until("RUNNING")
    assert stage.echoing.answers == []
    return box


async def _exceptions_quote_keys(life: Life, stage: Stage, spec: Json) -> Box:
    """In the middle of making a Secret and a container, under an operator with those faults."""
    operator = stage.operator
    await operator.stop()
    raising = Raising(operator.plane, operator.log.with_name("raising.log"), **operator.settings)
    raising.start(log_format="plain")
    try:
        box = await stage.world.running(raising_operator.NAME, **spec)
    finally:
        await raising.stop()
    life.raising = raising.words()
    operator.start()
    return box


class Raising(Operator):
    def command(self) -> list[str]:
        return [sys.executable, "-m", raising_operator.__name__, "run"]


async def _policies_quote_the_secret(stage: Stage, spec: Json) -> list[Box]:
    """The API server refuses to store a Secret, with 422 and with 403, and tells its content."""
    world = stage.world
    for reason in ("Invalid", "Forbidden"):
        await _enact(world, reason)
    boxes = [await world.box(reason.lower(), **spec) for reason in ("Invalid", "Forbidden")]
    refused: set[int] = set()

    def both(records: list[Json]) -> bool:
        for record in records:
            if record["verb"] == "create" and record["objectRef"]["resource"] == "secrets":
                refused.add(record["responseStatus"]["code"])
        return refused >= {422, 403}

    await world.plane.audit.until(both)
    for box in boxes:
        told = await box.until("STARTING", "ApiRefused")
        assert "its answer is left out" in condition(told, "Ready")["message"]
    for reason in ("invalid", "forbidden"):
        await world.plane.call("DELETE", f"{POLICIES}ybindings/{reason}")
        await world.plane.call("DELETE", f"{POLICIES}ies/{reason}")
    for box in boxes:
        await box.until("RUNNING")
    return boxes


async def _enact(world: World, reason: str) -> None:
    """Refuse Secrets of the Sandbox named after the reason, in words that hold their content."""
    name, key = reason.lower(), names.SECRET_KEY
    secrets = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["secrets"],
    }
    rule = {
        "expression": f"object.metadata.name != '{names.secret_name(name)}'",
        "messageExpression": f"'it holds ' + string(object.data['{key}'])",
        "reason": reason,
    }
    policy = {
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [secrets]}, "validations": [rule]},
    }
    binding = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    await world.plane.call("POST", f"{POLICIES}ies", policy)
    await world.plane.call("POST", f"{POLICIES}ybindings", binding)
    async with asyncio.timeout(SECONDS):
        said = ""
        while "aGVsbG8=" not in said:  # nobody tells when a policy is in force
            body = {"metadata": {"name": names.secret_name(name)}, "data": {key: "aGVsbG8="}}
            path = f"/api/v1/namespaces/{world.namespace}/secrets?dryRun=All"
            try:
                await world.plane.call("POST", path, body)
            except Refused as refused:
                said = str(refused)
            await asyncio.sleep(0.1)


async def _outages(stage: Stage, *boxes: Box) -> None:
    plane = stage.world.plane.control_plane
    await asyncio.to_thread(stage.engine.kill9)
    for box in boxes:
        await box.until(where=lambda o: condition(o, "EngineReachable")["status"] == "False")
    await asyncio.to_thread(stage.engine.start)
    for box in boxes:
        await box.until("RUNNING", where=lambda o: o["status"]["container"]["restartCount"] > 0)
    await asyncio.to_thread(plane.kill_one, "kube-apiserver")
    await asyncio.to_thread(plane.restart_apiserver)
    await stage.operator.restart(log_format="plain")


async def _its_secret_and_container_go(stage: Stage, box: Box) -> None:
    world, container = stage.world, box.status["container"]["id"]
    audit = world.plane.audit
    since = await audit.settled()
    secret = f"/api/v1/namespaces/{world.namespace}/secrets/{names.secret_name(box.name)}"
    await world.plane.call("DELETE", secret)
    await audit.until(lambda _: audit.writes(box.name, since)["create secrets"] == 1)
    await stage.docker(lambda client: client.remove_container(container, force=True))
    await box.until("RUNNING", where=lambda o: o["status"]["container"]["id"] != container)


async def _told(
    world: World, docker: Docker, operator: Operator, engine: OwnEngine, since: float
) -> dict[str, str]:
    """Everything that was told, by place."""
    await world.plane.audit.settled()
    objects = [version for box in world.boxes for version in box.versions]
    maps = await world.plane.call("GET", f"/api/v1/namespaces/{world.namespace}/configmaps")
    containers = await docker(_containers)
    environments = [details["Config"].pop("Env") for details in containers]
    assert all(environments)
    plane = world.plane.control_plane.directory
    told: dict[str, Any] = {
        "Sandboxes, every version": [*objects, await world.plane.call("GET", world.path())],
        "Events": await world.events(),
        "other objects": [maps, await world.plane.call("GET", "/api/v1/namespaces")],
        "the operator's log": operator.words(),
        "the operator's environment": _of_processes("environ", b"controller"),
        "containers but for their environment": containers,
        "processes in containers": await docker(_processes),
        "images and their history": await docker(_images),
        "networks and volumes": await docker(lambda c: [c.networks(), c.volumes()]),
        "the engine's events": await docker(lambda c: _events(c, since)),
        "the engine's log": engine.log.read_text(errors="replace"),
        "arguments of all processes": _of_processes("cmdline"),
        "the audit log": [_but_a_policys_words(r) for r in world.plane.audit.records()],
        "the API server's log": (plane / "kube-apiserver.log").read_text(errors="replace"),
    }
    return {
        place: text if isinstance(text, str) else json.dumps(text, default=str, ensure_ascii=False)
        for place, text in told.items()
    }


def _but_a_policys_words(record: Json) -> Json:
    """The API server notes down what it answered: that a policy tells a Secret is its author's
    doing."""
    if "ValidatingAdmissionPolicy" in record["responseStatus"].get("message", ""):
        return record | {"responseStatus": None}
    return record


def _containers(client: Any) -> list[Json]:
    return [client.inspect_container(row["Id"]) for row in client.containers(all=True)]


def _processes(client: Any) -> list[Json]:
    return [client.top(row["Id"], "auxww") for row in client.containers()]


def _images(client: Any) -> list[Any]:
    ids = [row["Id"] for row in client.images(all=True)]
    return [[client.history(id_), client.inspect_image(id_)] for id_ in ids]


def _events(client: Any, since: float) -> list[Json]:
    return list(client.events(since=int(since), until=int(time.time()) + 1, decode=True))


def _of_processes(entry: str, of: bytes = b"") -> str:
    """A file of every process in /proc whose arguments hold `of`."""
    texts = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if of in (process / "cmdline").read_bytes():
                texts.append((process / entry).read_bytes())
        except OSError:
            continue  # it has ended
    return b"\n".join(texts).replace(b"\0", b" ").decode(errors="replace")


@pytest.mark.parametrize("place", PLACES)
def test_no_key_is(place: str, life: Life) -> None:
    assert life.places[place] not in ("", "[]", "{}"), "nothing was looked at"
    assert Search(life.secrets).found(life.places[place]) == set()


def test_what_may_be_found_is_found(life: Life) -> None:
    """The same search, where it must find: else it proves nothing."""
    public = Search({"public": life.public})
    for place in ("Sandboxes, every version", "kubectl"):
        assert public.found(life.places[place])
    for what in life.passed:
        assert Search({what: life.secrets[what]}).found(life.environments), what


def test_everything_went_wrong(life: Life) -> None:
    assert life.reasons >= {
        "ImageNotFound",
        "ImagePullFailed",
        "InvalidSpec",
        "Exited",
        "NameConflict",
        "EngineRefused",
        "EngineUnreachable",
        "Frozen",
        "Ready",
    }
    log = life.places["the operator's log"]
    for failure in ("422 its answer is left out", "403 its answer is left out"):
        assert failure in log
    assert log.count("because it repeats a secret value") >= 6
    told = life.places["the log of one that raises"]
    for fault in (raising_operator.SecretFault, raising_operator.ContainerFault):
        assert f"{fault.__qualname__}\n" in told, "the traceback was not logged"
    assert "builtins.KeyError\nled to\n" in told
