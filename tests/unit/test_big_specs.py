"""Sandboxes too big to be kept: what a container is made of is read again when it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from controller.core import names
from controller.core.resources import SandboxSpec
from controller.core.subject import lighten
from tests.unit.fakes import NAMESPACE, FakeApi, Obj, Operator

BIG = {
    "args": ["sh", "-c", "v" * 30_000],
    "env": [{"name": "V", "value": "v" * 30_000}],
    "sessionKey": {"mode": "None"},
}


class LightApi(FakeApi):
    """Answers and tells what KubeApi and kopf's part hand on: all but the whole one, lightened."""

    async def list_sandboxes(self, namespace: str | None = None) -> list[Obj]:
        return [_lightened(obj) for obj in await super().list_sandboxes(namespace)]

    async def get_sandbox(self, namespace: str, name: str) -> Obj:
        return _lightened(await super().get_sandbox(namespace, name))

    async def patch_metadata(self, *given: Any) -> Obj:
        return _lightened(await super().patch_metadata(*given))

    async def patch_status(self, *given: Any) -> Obj:
        return _lightened(await super().patch_status(*given))

    def _tell(self, type_: str, obj: Obj) -> None:
        self.changed.set()
        for watcher in self.watchers:
            light = _lightened({**obj, "metadata": dict(obj["metadata"])})
            asyncio.get_running_loop().call_soon(watcher, type_, light)


def _lightened(obj: Obj) -> Obj:
    lighten(obj)
    return obj


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    operator = Operator()
    operator.api = LightApi(operator.clock)
    await operator.start()
    yield operator
    await operator.kill()


def spec_of(operator: Operator) -> Any:
    return operator.host.of(operator.uid()).spec


async def test_a_container_gets_all_of_a_big_spec(operator: Operator) -> None:
    operator.api.create(**cast(Any, BIG))
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.entry().subject.light
    assert len(spec_of(operator).env["V"]) == 30_000
    assert len(spec_of(operator).args[2]) == 30_000
    assert operator.api.reads.count("get_whole_sandbox") == 1
    whole = operator.api.get()["spec"]
    assert spec_of(operator).spec_hash == SandboxSpec.parse(whole).spec_hash()


async def test_a_small_one_costs_no_request_more(operator: Operator) -> None:
    operator.api.create(env=[{"name": "V", "value": "v"}])
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert "get_whole_sandbox" not in operator.api.reads


async def test_one_that_is_changed_meanwhile_is_made_of_what_is_known(operator: Operator) -> None:
    read, changes = operator.api.get_whole_sandbox, iter([True])

    async def changed_before(namespace: str, name: str) -> Obj:
        if next(changes, False):
            operator.watching = False  # the event of the change comes late
            operator.api.change(args=["v" * 40_000])
        return await read(namespace, name)

    operator.api.get_whole_sandbox = changed_before  # type: ignore[method-assign]
    operator.api.create(**cast(Any, BIG))
    await operator.settle()
    # The status that shows the failed attempt is answered with the newer spec.
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.api.reads.count("get_whole_sandbox") == 2
    assert spec_of(operator).args == ("v" * 40_000,)
    assert spec_of(operator).spec_hash == SandboxSpec.parse(operator.api.get()["spec"]).spec_hash()


@pytest.mark.parametrize("after", ["deletion", "restart"])
async def test_it_pauses_resumes_and_goes_as_others_do(operator: Operator, after: str) -> None:
    operator.api.create(**cast(Any, BIG))
    await operator.settle()
    operator.api.change(operatingMode="Paused")
    await operator.settle()
    assert operator.told()[0] == "PAUSED"
    if after == "restart":
        await operator.restart()
        operator.api.change(operatingMode="Running")
        await operator.settle()
        assert operator.told() == ("RUNNING", "Ready")
        assert operator.containers == 1
    operator.api.delete()
    await operator.until(lambda: not operator.exists())
    assert operator.containers == 0


async def test_others_finalizers_stay_however_many_they_are(operator: Operator) -> None:
    others = [f"v.example/{i:v>60}" for i in range(200)]
    operator.api.create(**cast(Any, BIG))
    operator.api.annotate(finalizers=others)
    await operator.settle()
    stored = operator.api.get()["metadata"]["finalizers"]
    assert stored[: len(others)] == others
    assert stored[-1] == names.FINALIZER
    assert operator.entry().subject.metadata.finalizers == (names.FINALIZER,)
    operator.api.delete()
    await operator.until(
        lambda: names.FINALIZER not in operator.api.get()["metadata"].get("finalizers", [])
    )
    assert operator.api.get()["metadata"]["finalizers"] == others
    assert operator.containers == 0


async def test_an_environment_that_is_too_much_is_refused_by_its_field(operator: Operator) -> None:
    operator.api.put_secret("s", {"K": "dmFs" * 100_000})
    operator.api.create(envFrom=[{"secretRef": {"name": "s"}}])
    await operator.settle()
    assert operator.told() == ("ERROR", "InvalidSpec")
    conditions = operator.api.get()["status"]["conditions"]
    assert any("spec.envFrom[0]" in c["message"] for c in conditions)
    assert (NAMESPACE, "a") in operator.api.sandboxes
