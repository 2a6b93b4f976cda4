"""A container's environment: Kubernetes' order, and names for what is missing."""

from __future__ import annotations

import tracemalloc
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from controller.core.reasons import Reason
from controller.core.resources import SandboxSpec
from controller.kube.api import ApiUnreachable, KubeApi
from controller.kube.environment import Environment, NotThere, resolve, session_key_of_user
from tests.unit.fakes import NAMESPACE, FakeApi


@pytest.fixture
def api() -> FakeApi:
    api = FakeApi(lambda: datetime(2026, 1, 1, tzinfo=UTC))
    api.put_secret("s", {"A": coded("secret-a"), "B": coded("secret-b")})
    api.config_maps[NAMESPACE, "c"] = {"data": {"B": "config-b", "C": "config-c"}}
    return api


def coded(text: str) -> str:
    return b64encode(text.encode()).decode()


async def environment(api: FakeApi, key: str | None = None, **spec: Any) -> Environment:
    parsed = SandboxSpec.parse({"image": "box", **spec})
    return await resolve(cast(KubeApi, api), NAMESPACE, parsed, key)


def ref(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


SECRET, CONFIG = {"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}


async def test_later_sources_win_and_env_wins_over_them(api: FakeApi) -> None:
    found = await environment(api, envFrom=[SECRET, CONFIG])
    assert found.variables == {"A": "secret-a", "B": "config-b", "C": "config-c"}
    found = await environment(api, envFrom=[CONFIG, SECRET], env=[{"name": "A", "value": "own"}])
    assert found.variables == {"A": "own", "B": "secret-b", "C": "config-c"}


async def test_prefixes_and_single_entries(api: FakeApi) -> None:
    prefixed = {"prefix": "P_", **CONFIG}
    found = await environment(api, envFrom=[prefixed], env=[{"name": "X", **ref("s", "A")}])
    assert found.variables == {"P_B": "config-b", "P_C": "config-c", "X": "secret-a"}


async def test_the_session_key_wins_under_all_its_names(api: FakeApi) -> None:
    found = await environment(
        api,
        key="k" * 43,
        env=[{"name": "KEY", "value": "mine"}],
        sessionKey={"envNames": ["KEY", "KEY_2"]},
    )
    assert found.variables == {"KEY": "k" * 43, "KEY_2": "k" * 43}
    assert found.key == "k" * 43
    assert "kkk" not in repr(found)


@pytest.mark.parametrize(
    ("spec", "reason", "named"),
    [
        ({"env": [{"name": "X", **ref("no", "A")}]}, Reason.SECRET_NOT_FOUND, "spec.env[X]"),
        ({"env": [{"name": "X", **ref("s", "no")}]}, Reason.SECRET_NOT_FOUND, "under key no"),
        ({"envFrom": [{"secretRef": {"name": "no"}}]}, Reason.SECRET_NOT_FOUND, "spec.envFrom[0]"),
        ({"envFrom": [{"configMapRef": {"name": "no"}}]}, Reason.CONFIG_MAP_NOT_FOUND, "ConfigMap"),
    ],
)
async def test_what_is_missing_is_named(
    api: FakeApi, spec: dict[str, Any], reason: Reason, named: str
) -> None:
    with pytest.raises(NotThere) as missing:
        await environment(api, **spec)
    assert missing.value.reason is reason
    assert named in missing.value.message
    assert "secret-" not in str(missing.value)


async def test_what_is_optional_may_be_missing(api: FakeApi) -> None:
    found = await environment(
        api,
        env=[{"name": "X", **ref("no", "A", optional=True)}],
        envFrom=[
            {"secretRef": {"name": "no", "optional": True}},
            {"configMapRef": {"name": "no", "optional": True}},
        ],
    )
    assert found.variables == {}


async def test_each_secret_is_read_once(api: FakeApi) -> None:
    await environment(api, envFrom=[SECRET], env=[{"name": "X", **ref("s", "A")}])
    assert api.reads == ["get_secret"]


async def test_what_is_no_text_is_no_variable(api: FakeApi) -> None:
    api.put_secret("s", {"A": "not base64!", "B": b64encode(b"\xff").decode(), "C": coded("c")})
    assert (await environment(api, envFrom=[SECRET])).variables == {"C": "c"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [("short", Reason.SESSION_KEY_TOO_SHORT), (None, Reason.SECRET_NOT_FOUND)],
)
async def test_a_users_key_that_cannot_be_used(
    api: FakeApi, value: str | None, reason: Reason
) -> None:
    api.put_secret("mine", {} if value is None else {"session-api-key": coded(value)})
    spec: dict[str, Any] = {"sessionKey": {"mode": "SecretRef", "secretRef": {"name": "mine"}}}
    with pytest.raises(NotThere) as refused:
        await environment(api, **spec)
    assert refused.value.reason is reason
    assert "short" not in str(refused.value).replace("shorter", "")
    parsed = SandboxSpec.parse({"image": "box", **spec})
    assert await session_key_of_user(cast(KubeApi, api), NAMESPACE, parsed) is None


async def test_an_api_server_that_is_away_is_not_a_missing_secret(api: FakeApi) -> None:
    api.down = True
    with pytest.raises(ApiUnreachable):
        await environment(api, envFrom=[{"secretRef": {"name": "s", "optional": True}}])


# How much may come


def full(count: int, value: str) -> dict[str, str]:
    return {f"K{i}": coded(value) for i in range(count)}


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ({"s": full(1, "v" * 1_000_000)}, "spec.envFrom[0]"),
        ({"s": full(1, "v" * 131_071)}, "spec.envFrom[0]"),
        ({"s": full(3, "v" * 100_000)}, "spec.envFrom[0]"),
        ({"s": full(4097, "")}, "spec.envFrom[0]"),
        ({"a": full(2, "v" * 100_000), "b": full(1, "v" * 100_000)}, "spec.envFrom[1]"),
        ({"a": full(3000, ""), "b": full(3000, "")}, "spec.envFrom[1]"),
        ({"a": full(1000, "v" * 250), "b": full(1000, "v" * 10)}, "spec.envFrom[1]"),
    ],
)
async def test_too_much_is_refused_by_name_and_nothing_more_is_read(
    api: FakeApi, sources: dict[str, dict[str, str]], named: str
) -> None:
    for name, data in sources.items():
        api.put_secret(name, data)
    api.put_secret("last", {})
    refs = [{"secretRef": {"name": name}} for name in [*sources, "last"]]
    with pytest.raises(NotThere) as refused:
        await environment(api, envFrom=refs)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert refused.value.message.startswith(f"{named}: ")
    assert len(api.reads) == len(sources)
    assert "vvv" not in refused.value.message


async def test_prefixes_multiply_what_counts(api: FakeApi) -> None:
    api.put_secret("s", full(300, ""))
    sources = [{"prefix": f"P{i}_", "secretRef": {"name": "s"}} for i in range(16)]
    with pytest.raises(NotThere) as refused:
        await environment(api, envFrom=sources)
    assert "spec.envFrom[13]" in refused.value.message
    assert api.reads == ["get_secret"]


async def test_long_prefixes_count(api: FakeApi) -> None:
    api.put_secret("s", full(1000, ""))
    sources = [{"prefix": "P" * 253, "secretRef": {"name": "s"}}] * 2
    with pytest.raises(NotThere) as refused:
        await environment(api, envFrom=sources)
    assert "spec.envFrom[1]" in refused.value.message


async def test_config_maps_count_too(api: FakeApi) -> None:
    api.config_maps[NAMESPACE, "c"] = {"data": {"K": "\U0001f4e6" * 40_000}}
    with pytest.raises(NotThere) as refused:
        await environment(api, envFrom=[CONFIG])
    assert "spec.envFrom[0]" in refused.value.message
    assert refused.value.reason is Reason.INVALID_SPEC


async def test_the_specs_own_counts_beside_it(api: FakeApi) -> None:
    api.put_secret("s", full(1, "v" * 100_000))
    with pytest.raises(NotThere):
        await environment(api, envFrom=[SECRET], args=["v" * 100_000, "v" * 70_000])


async def test_a_small_key_of_a_big_secret_is_taken(api: FakeApi) -> None:
    api.put_secret("s", {"A": coded("small"), "B": coded("v" * 1_000_000)})
    found = await environment(api, env=[{"name": "X", **ref("s", "A")}])
    assert found.variables == {"X": "small"}
    with pytest.raises(NotThere) as refused:
        await environment(api, env=[{"name": "X", **ref("s", "B")}])
    assert "spec.env[X].valueFrom.secretKeyRef" in refused.value.message
    assert refused.value.reason is Reason.INVALID_SPEC


async def test_many_small_keys_of_many_big_secrets_are_taken(api: FakeApi) -> None:
    for i in range(32):
        api.put_secret(f"s{i}", {"A": coded("small"), "B": coded("v" * 100_000)})
    env = [{"name": f"X{i}", **ref(f"s{i % 32}", "A")} for i in range(128)]
    tracemalloc.start()
    try:
        found = await environment(api, env=env)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.variables) == 128
    assert len(api.reads) == 32
    assert peak < 1_000_000


async def test_a_session_key_that_no_header_can_carry(api: FakeApi) -> None:
    api.put_secret("mine", {"session-api-key": coded("v" * 100_000)})
    spec: dict[str, Any] = {"sessionKey": {"mode": "SecretRef", "secretRef": {"name": "mine"}}}
    with pytest.raises(NotThere) as refused:
        await environment(api, **spec)
    assert "spec.sessionKey.secretRef" in refused.value.message
