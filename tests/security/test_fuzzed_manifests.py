"""A thousand manifests made from the CRD's schema: the API server accepts each or says 4xx, and
whatever it accepts comes to a condition or a container. Nothing crashes.

FUZZ_SEED makes others; a failure prints it, and the manifest.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from controller.core import names
from controller.core.crd import sandbox_schema
from controller.core.decide import decide
from controller.core.resources import Phase, SandboxStatus
from controller.core.rules import Rules
from controller.core.subject import Subject
from controller.core.table import EXITED, FROZEN, NOW, RUNNING, seen
from controller.engines import dockerwords
from controller.entries import Entry
from controller.kube.environment import Environment
from controller.operations import container_spec
from controller.prober import target
from dev.images import BUSYBOX
from tests.integration.boxes import Box, condition
from tests.integration.operator import Json
from tests.security.attacker import Attacker, manifest
from tests.security.strategies import examples, families
from tests.unit.fakes import NAMESPACE, OWNER, Operator

SETTINGS = {
    "allowed_images": json.dumps({"*": ["sandbox-operator/*"]}),
    "allowed_labels": json.dumps({"*": ["*"]}),
}
SEED = int(os.environ.get("FUZZ_SEED", "1"))
FAMILIES = 200
"""Of six manifests each: asked for at a time, until there are enough of them."""
ENOUGH = 1000
"""Manifests, no two of them the same."""
AT_ONCE = 24
IN_MEMORY_AT_ONCE = 40
REAL = 40
HOST_CONFIG = {
    *(
        "NetworkMode",
        "CapDrop",
        "SecurityOpt",
        "Init",
        "IpcMode",
        "RestartPolicy",
        "LogConfig",
        "Ulimits",
    ),
    *("PortBindings", "Mounts", "Memory", "MemorySwap", "CpuPeriod", "CpuQuota", "PidsLimit"),
    *("Runtime", "Ulimits"),
}
RULES = (Rules(), Rules(allowed_labels={"*": ("*",)}), Rules(allowed_images={}))


@pytest.fixture(scope="module")
def manifests() -> list[Json]:
    schema = sandbox_schema()["properties"]["spec"]
    specs: dict[str, Json] = {}
    for seed in itertools.count(SEED * 1000):
        for family in examples(families(schema), FAMILIES, seed):
            specs |= {json.dumps(spec, sort_keys=True): spec for spec in family}
        if len(specs) >= ENOUGH:
            break
    return [
        {"apiVersion": names.API_VERSION, "kind": names.KIND}
        | {"metadata": {"name": f"f{i}"}, "spec": spec}
        for i, spec in enumerate(specs.values())
    ]


@pytest.fixture(scope="module")
async def accepted(manifests: list[Json], attacker: Attacker) -> list[Json]:
    """Those that the API server accepts, with its defaults."""
    slots = asyncio.Semaphore(AT_ONCE)
    answers: Counter[int] = Counter()
    found: dict[int, Json] = {}

    async def submit(i: int, body: Json) -> None:
        async with slots:
            answer = await attacker.submit(body, strict=bool(i % 2), dry=True)
        answers[answer.status] += 1
        told = f"FUZZ_SEED={SEED}: {answer.text[:500]} to {json.dumps(body)[:2000]}"
        assert answer.accepted or 400 <= answer.status < 500, told
        assert answer.accepted or answer.body["message"], told
        if answer.accepted:
            found[i] = answer.body

    await asyncio.gather(*(submit(i, body) for i, body in enumerate(manifests)))
    print(f"FUZZ_SEED={SEED}: {dict(answers)}")
    return [found[i] for i in sorted(found)]


async def test_a_thousand_get_an_answer_and_many_of_each(
    manifests: list[Json], accepted: list[Json]
) -> None:
    assert len(manifests) >= ENOUGH
    assert 0.2 < len(accepted) / len(manifests) < 0.9
    named = {field for obj in accepted for field in obj["spec"]}
    assert named == set(sandbox_schema()["properties"]["spec"]["properties"]) - {"templateRef"}


async def test_what_is_accepted_is_decided_upon_and_put_into_dockers_words(
    accepted: list[Json],
) -> None:
    for obj in accepted:
        try:
            await asyncio.to_thread(_decided, obj)
        except Exception as error:
            error.add_note(f"FUZZ_SEED={SEED}: {json.dumps(obj['spec'])}")
            raise


def _decided(obj: Json) -> None:
    subject = Subject.read(obj)
    claimed = replace(
        subject,
        metadata=subject.metadata.model_copy(update={"finalizers": (names.FINALIZER,)}),
    )
    for rules in RULES:
        for found in (None, RUNNING, FROZEN, EXITED):
            status = decide(claimed, seen(found), rules, NOW).status
            SandboxStatus.parse(status.manifest())
            if subject.spec is None:
                assert status.phase is Phase.ERROR
                assert "spec." in status.conditions[0].message
    if subject.spec is None:
        return
    entry = Entry(subject.metadata.uid, subject)
    environment = Environment({"V": "v"}, None, frozenset())
    wanted = container_spec(entry, subject.spec, environment, Rules(), "127.0.0.1")
    body = json.loads(json.dumps(dockerwords.container_body(OWNER, wanted)))
    host = body["HostConfig"]
    assert set(host) <= HOST_CONFIG
    assert host["NetworkMode"] == names.network_name(OWNER)
    assert {mount["Type"] for mount in host["Mounts"]} <= {"volume"}
    own = {names.volume_name(subject.metadata.uid, v.name) for v in subject.spec.volumes}
    assert {mount["Source"] for mount in host["Mounts"]} == own
    assert body["Labels"][names.UID_LABEL] == subject.metadata.uid
    assert body["Labels"][names.OWNER_LABEL] == OWNER.label
    assert all(isinstance(text, str) for text in body.get("Cmd", ()))
    ports = {port.container_port: 32768 for port in subject.spec.ports}
    if probed := target(subject.spec, replace(RUNNING, ports=ports), "127.0.0.1"):
        assert urlsplit(probed.url).netloc == "127.0.0.1:32768"


@pytest.fixture
def failures(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the operator in this process logs of its own faults."""
    found: list[str] = []
    with caplog.at_level(logging.ERROR):
        yield found
    found += [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert found == [], f"FUZZ_SEED={SEED}"


@pytest.mark.usefixtures("failures")
async def test_all_that_is_accepted_gets_conditions_in_memory(accepted: list[Json]) -> None:
    for first in range(0, len(accepted), IN_MEMORY_AT_ONCE):
        await _lived(accepted[first : first + IN_MEMORY_AT_ONCE])


async def _lived(batch: list[Json]) -> None:
    """Lives of Sandboxes from their creation to their end, with every second image missing."""
    operator = Operator()
    await operator.start()
    try:
        made = {}
        for i, obj in enumerate(batch):
            spec = copy.deepcopy(obj["spec"])
            spec.pop("readiness", None)  # it would be dialled, whoever listens there
            if i % 2:
                operator.host.images.add(spec["image"])
            made[f"f{i}"] = spec
            operator.api.create(f"f{i}", **spec)
        await operator.settle()
        for name, spec in made.items():
            await operator.until(lambda name=name: operator.told(name)[1] != "")  # type: ignore[misc]
            assert operator.told(name)[0] in set(Phase), f"FUZZ_SEED={SEED}: {spec}"
        for name in made:
            operator.api.delete(name)
        await operator.settle()
        await operator.advance(4000)  # beyond the longest grace period
        await operator.until(lambda: not operator.api.sandboxes)
        assert operator.containers == 0
        assert {ns for ns, _ in operator.api.secrets} <= {NAMESPACE}
        assert operator.api.secrets == {}
    finally:
        await operator.kill()


async def test_some_of_them_get_conditions_for_real(
    accepted: list[Json], attacker: Attacker
) -> None:
    """On real Docker, the image and what would keep the tests waiting set aside."""
    boxes: list[tuple[Box, Json]] = []
    chosen = sorted(accepted, key=lambda obj: -len(json.dumps(obj["spec"])))[:REAL]
    for i, obj in enumerate(chosen):
        spec = copy.deepcopy(obj["spec"]) | {"terminationGracePeriodSeconds": 0}
        spec |= {"image": BUSYBOX, "imagePullPolicy": "Never"}
        for volume in spec.get("volumes", ()):
            volume["managed"]["reclaimPolicy"] = "Delete"
        answer = await attacker.submit(manifest(f"fuzz-{i}", {"command": ...} | spec))
        assert answer.accepted, answer.text
        boxes.append((attacker.box(answer), spec))
    for box, spec in boxes:
        told = await box.until(where=lambda obj: condition(obj, "Ready").get("message", "") != "")
        assert told["status"]["phase"] in set(Phase), f"FUZZ_SEED={SEED}: {spec}"
    for box, _ in boxes:
        await box.delete()
    for box, _ in boxes:
        await box.until_gone()
        assert await attacker.docker.left(box) == []
    assert attacker.operator.alive()
    words: Any = attacker.operator.words()
    assert "internal error" not in words
    assert "Traceback" not in words
