"""controller.client on a real API server: its contract, and what only a real one can show.

The operator does not run: the test writes status, labels and Secret as it would.
"""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from controller.client import (
    KubernetesSandboxService,
    SandboxForbidden,
    SandboxPage,
    SandboxRefused,
    SandboxUnavailable,
)
from controller.client.connection import connect
from controller.client.paging import Place
from controller.core.names import GROUP, PLURAL
from dev.apiserver import ControlPlane
from dev.binaries import ensure_binaries
from dev.cluster import install_crds
from tests.unit.client.contract import ClientContract
from tests.unit.client.world import KEY, World, world_of


@asynccontextmanager
async def _world(cluster: ControlPlane) -> AsyncIterator[World]:
    """Each has a namespace of its own."""
    namespace = f"client-{uuid4().hex[:12]}"
    client = await connect(cluster.kubeconfig)
    async with client, world_of(client, namespace) as world:
        await world.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        yield world


@pytest.fixture
async def world(cluster: ControlPlane) -> AsyncIterator[World]:
    async with _world(cluster) as world:
        yield world


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One whose API server may be stopped without a word to other tests."""
    cluster = ControlPlane(tmp_path_factory.mktemp("own-cluster"), ensure_binaries())
    cluster.start()
    install_crds(cluster.kubeconfig)
    yield cluster
    cluster.stop()


class TestOnARealApiServer(ClientContract):
    """The fixture `world` is the one above."""


async def test_an_invalid_spec_is_refused_with_the_field_s_path(world: World) -> None:
    with pytest.raises(SandboxRefused, match=r"spec\.ports\[0\]\.containerPort") as caught:
        await world.service.start_sandbox(
            spec={"ports": [{"name": "AGENT_SERVER", "containerPort": 70000}]}
        )
    assert caught.value.status == 422


async def test_an_unknown_field_is_refused(world: World) -> None:
    with pytest.raises(SandboxRefused, match=r"spec\.imag"):
        await world.service.start_sandbox(spec={"imag": "x"})


async def test_a_refused_variable_s_value_is_not_repeated(world: World) -> None:
    secret = "hunter2" * 5000
    with pytest.raises(SandboxRefused, match=r"spec\.env\[0\]\.value") as caught:
        await world.service.start_sandbox(extra_env={"PASSWORD": secret})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SandboxRefused, match=r"spec\.env\[0\]\.name") as caught:
        await world.service.start_sandbox(extra_env={"no name": "hunter2"})
    assert "hunter2" not in str(caught.value)


async def test_a_namespace_that_does_not_exist(cluster: ControlPlane) -> None:
    spec = {"image": "x"}
    async with KubernetesSandboxService(
        "nowhere", kubeconfig=cluster.kubeconfig, default_spec=spec
    ) as service:
        with pytest.raises(SandboxRefused, match="nowhere"):
            await service.start_sandbox()


async def test_who_may_not_read_secrets_sees_all_but_the_key(
    world: World, cluster: ControlPlane
) -> None:
    await _may(world, "bob", [{"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["*"]}])
    await world.service.start_sandbox(sandbox_id="x")
    await world.running("x")
    config = cluster.kubeconfig_for("bob")
    async with KubernetesSandboxService(world.namespace, kubeconfig=config) as service:
        page = await service.search_sandboxes()
        waited = await service.wait_for_sandbox_running("x", timeout=20)
        assert page.items == [waited]
        assert waited.session_api_key is None
        assert waited.exposed_urls
        with pytest.raises(SandboxForbidden, match="secrets"):
            await service.get_sandbox_by_session_api_key(KEY)


async def test_who_may_nothing_is_told_so(world: World, cluster: ControlPlane) -> None:
    config = cluster.kubeconfig_for("mallory")
    async with KubernetesSandboxService(world.namespace, kubeconfig=config) as service:
        with pytest.raises(SandboxForbidden, match=f"cannot list.*{PLURAL}"):
            await service.search_sandboxes()
        with pytest.raises(SandboxForbidden):
            await service.wait_for_sandbox_running("x", timeout=20)


async def test_a_search_goes_on_over_a_compaction(own_cluster: ControlPlane) -> None:
    """etcd forgets the version the first page was of; the API server answers 410."""
    async with _world(own_cluster) as world:
        for number in range(5):
            await world.service.start_sandbox(sandbox_id=f"s{number}")
        page = await world.service.search_sandboxes(limit=2)
        await world.service.delete_sandbox("s3")
        await world.service.start_sandbox(sandbox_id="s5")
        # An API server may answer from its snapshot of the old version; a new one has none.
        _compact(own_cluster, int((await world.obj("s5"))["metadata"]["resourceVersion"]))
        own_cluster.restart_apiserver()
        with pytest.raises(ValueError, match="Expired"):
            await world.call("GET", f"{world.path()}?continue={_token(page)}")
        rest = await world.service.search_sandboxes(page.next_page_id, limit=10)
    assert [info.id for info in page.items + rest.items] == ["s0", "s1", "s2", "s4", "s5"]


async def test_a_wait_outlives_the_api_server(own_cluster: ControlPlane) -> None:
    async with _world(own_cluster) as world:
        await world.service.start_sandbox(sandbox_id="x")
        waiting = asyncio.create_task(world.service.wait_for_sandbox_running("x", timeout=60))
        await world.claimed("x")
        own_cluster.stop_apiserver()
        with pytest.raises(SandboxUnavailable):
            await world.service.pause_sandbox("x")
        own_cluster.restart_apiserver()
        assert await world.service.get_sandbox("x") is not None
        await world.running("x")
        assert (await waiting).session_api_key == KEY


async def _may(world: World, user: str, rules: list[dict[str, Any]]) -> None:
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}"
    await world.call("POST", f"{base}/roles", {"metadata": {"name": user}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding = {"metadata": {"name": user}, "roleRef": role, "subjects": [subject]}
    await world.call("POST", f"{base}/rolebindings", binding)


def _compact(cluster: ControlPlane, revision: int) -> None:
    """By etcd's JSON gateway."""
    etcd = json.loads((cluster.directory / "ports.json").read_text())[0]
    body = json.dumps({"revision": str(revision), "physical": True}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{etcd}/v3/kv/compaction", body)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        assert answer.status == 200


def _token(page: SandboxPage) -> str:
    return quote(Place.parse(page.next_page_id).token)
