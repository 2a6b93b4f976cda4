"""What attackers can do to Sandboxes of their own once they are made, and to nobody else's.

`forger` may write the status too: a right that no user needs, since the operator alone writes it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.core import names
from tests.integration.boxes import Box, Docker, World, condition
from tests.integration.operator import Json, Operator
from tests.security.attacker import Attacker, manifest
from tests.security.bystanders import NAMESPACE, SECRET, Bystanders

SETTINGS = {"resync_seconds": "1"}
FAR = "9999-12-31T23:59:59-23:59"
PAST = "2020-01-01T00:00:00Z"


async def running(attacker: Attacker, name: str, spec: Json | None = None, **meta: Any) -> Box:
    answer = await attacker.submit(manifest(name, spec or {}, **meta))
    assert answer.accepted, answer.text
    box = attacker.box(answer)
    await box.until("RUNNING")
    return box


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        *(("get", r) for r in ("secrets", "configmaps", "pods", "serviceaccounts")),
        *(("create", r) for r in ("secrets", "pods", "pods/exec", "serviceaccounts/token")),
        ("patch", "sandboxes/status"),
        ("create", "events"),
    ],
)
async def test_the_attacker_has_no_other_right(
    attacker: Attacker, verb: str, resource: str
) -> None:
    group = names.GROUP if resource.startswith(names.PLURAL) else ""
    kind, _, sub = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": kind, "subresource": sub}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {"spec": {"resourceAttributes": asked | {"namespace": attacker.world.namespace}}}
    answer = await attacker.request("POST", path, body)
    assert answer.body["status"]["allowed"] is False


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_another_namespace_is_closed(
    attacker: Attacker, bystanders: Bystanders, method: str
) -> None:
    name = "" if method == "POST" else f"/{bystanders.victim.name}"
    path = attacker.world.path().replace(attacker.world.namespace, NAMESPACE) + name
    assert (await attacker.request(method, path, manifest("v", {}))).status == 403


async def test_a_secret_of_the_namespace_is_readable_by_whoever_may_make_a_sandbox_in_it(
    attacker: Attacker, world: World, docker: Docker
) -> None:
    """As with Pods: the namespace is the boundary (invariant 11). README says so."""
    await world.secret("shared", token="shared-by-all")
    box = await running(attacker, "reader", {"envFrom": [{"secretRef": {"name": "shared"}}]})
    assert "token=shared-by-all" in (await docker.inspect(box))["Config"]["Env"]


async def test_a_secret_whose_name_is_wanted_is_left_alone(
    attacker: Attacker, world: World, docker: Docker
) -> None:
    await world.secret(names.secret_name("squatter"), token="someone-elses")
    path = f"/api/v1/namespaces/{world.namespace}/secrets/{names.secret_name('squatter')}"
    before = await world.plane.call("GET", path)
    answer = await attacker.submit(manifest("squatter", {}))
    box = attacker.box(answer)
    await box.until("ERROR", "SecretNameTaken")
    assert await docker.left(box) == []
    await box.delete()
    await box.until_gone()
    assert await world.plane.call("GET", path) == before


async def test_what_the_kernel_holds_a_container_to(attacker: Attacker, docker: Docker) -> None:
    box = await running(attacker, "confined", {"command": ["sleep", "100000"]})
    _, told = await docker.run(box, "cat", "/proc/1/status")
    status = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ):
        code, said = await docker.run(box, "sh", "-c", f"echo v > {path}")
        assert code != 0, f"{path}: {said}"
    code, _ = await docker.run(box, "mount", "-t", "tmpfs", "none", "/tmp")
    assert code != 0


async def test_a_finalizer_taken_away_saves_nothing_from_deletion(
    attacker: Attacker, docker: Docker
) -> None:
    """Again and again: the operator puts it back; at last the sweep finds what is left."""
    box = await running(
        attacker, "escapist", {"volumes": [{"name": "v", "mountPath": "/v", "managed": {}}]}
    )
    path = attacker.world.path(box.name)
    none = {"metadata": {"finalizers": None}}
    for _ in range(3):
        assert (await attacker.request("PATCH", path, none)).accepted
        await box.until(where=lambda o: names.FINALIZER in o["metadata"].get("finalizers", ()))
    since = docker.now()
    await attacker.request("PATCH", path, none)
    await attacker.request("DELETE", path, {"gracePeriodSeconds": 0})
    await attacker.request("PATCH", path, none)
    await box.until_gone()
    await docker.happened(box, "destroy", since)


async def test_a_deletion_that_a_foreign_finalizer_holds_up_still_ends_the_container(
    attacker: Attacker, docker: Docker
) -> None:
    box = await running(attacker, "held", finalizers=["example.com/held"])
    await attacker.request("DELETE", attacker.world.path(box.name))
    await box.until(where=lambda o: names.FINALIZER not in o["metadata"]["finalizers"])
    assert await docker.left(box) == []
    assert await box.secret() is None
    await attacker.request("PATCH", attacker.world.path(box.name), {"metadata": {"finalizers": []}})
    await box.until_gone()


def forged(b: Bystanders, victim_container: str) -> dict[str, Json]:
    """Statuses, by what they pretend."""
    ready = {"type": "Ready", "status": "True", "reason": "Frozen", "lastTransitionTime": PAST}
    return {
        "the victim's container": {"container": {"id": victim_container, "engineId": ""}},
        "the stranger's container": {"container": {"id": b.stranger, "name": b.stranger}},
        "a stop of the victim's": {"pausing": {"containerId": victim_container, "at": PAST}},
        "a pause": {"phase": "PAUSED", "conditions": [ready]},
        "a suspension": {"suspended": {"reason": "Idle", "at": FAR}},
        "a deletion": {"phase": "DELETING"},
        "the victim's Secret": {"sessionApiKeySecretRef": {"name": SECRET, "key": "token"}},
        "a far start": {"container": {"id": "v", "startedAt": FAR, "finishedAt": FAR}},
        "a far stop": {"pausing": {"containerId": "v", "at": "9999-12-31T23:59:59Z"}},
        "many restarts": {"container": {"id": "v", "restartCount": 2**31 - 1}},
        "many conditions": {"conditions": [ready | {"type": f"V{i}"} for i in range(16)]},
    }


async def test_a_forged_status_turns_the_operator_on_nobody(
    forger: Attacker, docker: Docker, bystanders: Bystanders, operator: Operator
) -> None:
    """Each is told before a pause, a resume and a deletion, which then are as they always are."""

    async def live(name: str, what: str, status: Json) -> None:
        box = await running(forger, name, {"onMissing": "Recreate"})
        path = forger.world.path(box.name)
        for act, phase in ((box.pause, "PAUSED"), (box.resume, "RUNNING"), (box.delete, None)):
            answer = await forger.request("PATCH", f"{path}/status", {"status": status})
            assert answer.accepted, f"{what}: {answer.text}"
            await act()
            if phase is not None:
                await box.until(phase)
        await box.until_gone()
        assert await docker.left(box) == [], what

    victim = str(bystanders.victim.status["container"]["id"])
    statuses = forged(bystanders, victim).items()
    await asyncio.gather(
        *(live(f"forged-{i}", what, status) for i, (what, status) in enumerate(statuses))
    )
    await bystanders.are_unchanged()
    assert "internal error" not in operator.words()


async def test_a_status_that_names_another_engine_waits_and_ends_with_the_object(
    forger: Attacker, docker: Docker, operator: Operator
) -> None:
    """It hides the container from the operator for as long as the object lives, no longer."""
    box = await running(forger, "exile")
    path = forger.world.path(box.name)
    await forger.request("PATCH", f"{path}/status", {"status": {"container": {"engineId": "v"}}})
    told = await box.until(
        where=lambda o: condition(o, "EngineReachable").get("reason") == "EngineChanged"
    )
    assert "accepted_engine_ids" in condition(told, "EngineReachable")["message"]
    since = docker.now()
    await box.delete()
    await forger.request("PATCH", path, {"metadata": {"finalizers": None}})
    await box.until_gone()
    await docker.happened(box, "destroy", since)
    assert operator.alive()
