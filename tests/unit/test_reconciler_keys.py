"""The session key on its way: made, stored, handed over, written again, and never told."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from typing import Any

import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.engines.base import EngineRefused, EngineUnreachable
from controller.kube.api import ApiError, Forbidden, Invalid
from tests.unit.fakes import NAMESPACE, Operator
from tests.unit.test_reconciler import environment, up

SECRET = (NAMESPACE, "a-session-key")


async def test_a_secret_that_is_not_ours_is_neither_read_nor_touched(operator: Operator) -> None:
    taken = operator.api.put_secret(SECRET[1], {"session-api-key": "bWluZQ=="})
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("ERROR", "SecretNameTaken")
    assert operator.containers == 0
    operator.api.writes.clear()
    await operator.restart()
    assert operator.api.writes == []
    operator.api.delete()
    await operator.settle()
    assert operator.api.secrets == {SECRET: taken}


async def test_a_name_that_becomes_free_is_taken(operator: Operator) -> None:
    operator.api.put_secret(SECRET[1], {})
    operator.api.create()
    await operator.settle()
    del operator.api.secrets[SECRET]
    await operator.advance(3)
    assert operator.told() == ("RUNNING", "Ready")


async def test_a_secret_that_vanished_is_written_again_with_the_same_key(
    operator: Operator,
) -> None:
    await up(operator)
    key = operator.key()
    del operator.api.secrets[SECRET]
    for _ in range(6):
        await operator.resync()
    assert operator.key() == key
    assert operator.api.writes == ["create secret"]


async def test_a_key_that_waits_for_its_container_is_not_stored_again_and_again(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.api.create(operatingMode="Paused")
    await operator.settle()
    assert operator.told() == ("PAUSED", "NotStarted")
    asked: list[object] = []
    store = operator.api.create_secret

    async def create_secret(*arguments: Any) -> dict[str, Any]:
        asked.append(arguments)
        return await store(*arguments)

    monkeypatch.setattr(operator.api, "create_secret", create_secret)
    for _ in range(6):
        await operator.resync()
    assert asked == []
    key = operator.key()
    del operator.api.secrets[SECRET]
    for _ in range(6):
        await operator.resync()
    assert len(asked) == 1
    assert operator.key() == key


async def test_a_secret_that_was_emptied_is_told(operator: Operator) -> None:
    await up(operator)
    operator.api.secrets[SECRET]["data"] = {}
    for _ in range(6):
        await operator.resync()
    assert operator.told() == ("ERROR", "SecretNotFound")
    del operator.api.secrets[SECRET]
    await operator.advance(3)
    assert operator.told() == ("RUNNING", "Ready")
    assert environment(operator)["OH_SESSION_API_KEYS_0"] == b64decode(operator.key()).decode()


@pytest.mark.parametrize("error", [Forbidden("exceeded quota", 403), Invalid("denied", 422)])
async def test_a_secret_that_the_api_server_refuses_is_told(
    operator: Operator, error: ApiError
) -> None:
    """A quota, an admission policy: it waits, and says for what."""
    operator.api.fail_next("create_secret", error)
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("STARTING", "ApiRefused")
    assert str(error) in operator.api.get()["status"]["conditions"][0]["message"]
    assert operator.containers == 0
    written = len(operator.api.writes)
    operator.api.fail_next("create_secret", error)
    await operator.advance(3)
    assert len(operator.api.writes) == written
    operator.api.fail_next("create_secret", error)
    await operator.restart()
    assert operator.told() == ("STARTING", "ApiRefused")
    await operator.advance(3)
    assert operator.told() == ("RUNNING", "Ready")
    label = operator.api.get()["metadata"]["labels"][names.KEY_HASH_LABEL]
    assert label == names.key_hash(b64decode(operator.key()).decode())


async def test_in_a_terminating_namespace_nothing_is_created(operator: Operator) -> None:
    operator.api.terminating.add(NAMESPACE)
    operator.api.create("a")
    operator.api.create("b", sessionKey={"mode": "None"})
    await operator.settle()
    assert operator.told("a")[1] == operator.told("b")[1] == "NamespaceTerminating"
    assert (operator.containers, operator.api.secrets) == (0, {})
    operator.api.delete("a")
    operator.api.delete("b")
    await operator.settle()
    assert operator.api.sandboxes == {}


async def test_a_users_key_is_waited_for_and_labelled(operator: Operator) -> None:
    ref = {"mode": "SecretRef", "secretRef": {"name": "mine", "key": "k"}}
    operator.api.create(sessionKey=ref)
    await operator.settle()
    assert operator.told() == ("STARTING", "SecretNotFound")
    operator.api.put_secret("mine", {"k": b64encode(b"short").decode()})
    await operator.advance(31)
    assert operator.told() == ("ERROR", "SessionKeyTooShort")
    key = "k" * 32
    operator.api.put_secret("mine", {"k": b64encode(key.encode()).decode()})
    await operator.advance(31)
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.api.get()["metadata"]["labels"][names.KEY_HASH_LABEL] == names.key_hash(key)
    operator.api.delete()
    await operator.settle()
    assert (NAMESPACE, "mine") in operator.api.secrets


async def test_no_secret_is_ever_logged(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    operator.api.put_secret("token", {"t": b64encode(b"hush-hush").decode()})
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "token", "key": "t"}}}]
    operator.host.fail_next("start", EngineRefused(Reason.START_FAILED, "no"))
    operator.host.lose_answer_next("create")
    operator.api.create(env=env)
    await operator.settle()
    for _ in range(3):
        await operator.advance(31)
    assert operator.told() == ("RUNNING", "Ready")
    spec = operator.host.of(operator.uid()).spec
    key = b64decode(operator.key()).decode()
    assert spec.env == {"T": "hush-hush", "OH_SESSION_API_KEYS_0": key}
    shown = caplog.text + repr(operator.entry()) + repr(spec)
    shown += "".join(map(str, operator.api.events)) + str(operator.api.get())
    assert key not in shown
    assert "hush-hush" not in shown


REF = {"mode": "SecretRef", "secretRef": {"name": "mine", "key": "k"}}
KEY = "k" * 32


async def late(operator: Operator) -> None:
    """The user's key comes after the claim, which would have labelled its hash."""
    operator.api.create(sessionKey=REF)
    await operator.settle()
    assert operator.told() == ("STARTING", "SecretNotFound")
    operator.api.put_secret("mine", {"k": b64encode(KEY.encode()).decode()})


async def labelled_at_rest(operator: Operator) -> None:
    await operator.resync()
    await operator.advance(60)
    assert operator.told() == ("RUNNING", "Ready")
    labels = operator.api.get()["metadata"]["labels"]
    assert labels.get(names.KEY_HASH_LABEL) == names.key_hash(KEY)
    operator.api.writes.clear()
    operator.host.calls.clear()
    for _ in range(6):
        await operator.resync()
    assert operator.api.writes == []
    assert "environment" not in operator.host.calls


async def test_a_late_key_is_labelled_though_the_answer_was_lost(operator: Operator) -> None:
    await late(operator)
    operator.host.lose_answer_next("create")
    await operator.advance(31)
    await operator.advance(31)
    await labelled_at_rest(operator)


async def test_a_late_key_is_labelled_though_the_operator_was_killed(operator: Operator) -> None:
    await late(operator)
    operator.host.gate("start")
    await operator.advance(31)
    assert operator.containers == 1
    await operator.kill()
    operator.host.gates.clear()
    operator.host.fail_next("environment", EngineUnreachable("no answer"))
    await operator.start()
    await operator.advance(31)
    await labelled_at_rest(operator)


async def test_a_key_that_is_labelled_costs_a_restart_nothing(operator: Operator) -> None:
    operator.api.put_secret("mine", {"k": b64encode(KEY.encode()).decode()})
    await up(operator, sessionKey=REF)
    operator.host.calls.clear()
    await operator.restart()
    assert "environment" not in operator.host.calls
    await labelled_at_rest(operator)


async def test_claimed_again_it_keeps_its_key(operator: Operator) -> None:
    """kubectl replace, Argo CD's Replace=true: finalizers and labels go."""
    await up(operator)
    key = operator.key()
    operator.api.annotate(finalizers=None, labels=None)
    await operator.settle()
    meta = operator.api.get()["metadata"]
    assert meta["finalizers"] == [names.FINALIZER]
    assert meta["labels"][names.KEY_HASH_LABEL] == names.key_hash(b64decode(key).decode())
    assert operator.key() == key


async def test_claimed_again_and_made_anew_it_has_the_key_of_its_secret(
    operator: Operator,
) -> None:
    await up(operator, onMissing="Recreate")
    operator.api.annotate(finalizers=None)
    await operator.settle()
    operator.host.external_remove(operator.uid())
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    stored = b64decode(operator.key()).decode()
    assert environment(operator)["OH_SESSION_API_KEYS_0"] == stored


async def test_unclaimed_while_the_operator_was_away_its_container_is_found(
    operator: Operator,
) -> None:
    await up(operator)
    await operator.kill()
    operator.api.annotate(finalizers=None)
    posted = len(operator.api.events)
    await operator.start(engine_first=True)
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.api.events[posted:] == []


async def test_a_users_secret_that_may_not_be_read_is_told(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get_secret(*_: Any) -> Any:
        raise Forbidden("secrets is forbidden", 403, "Forbidden")

    monkeypatch.setattr(operator.api, "get_secret", get_secret)
    operator.api.create(sessionKey=REF)
    await operator.settle()
    assert operator.told() == ("STARTING", "ApiRefused")
    assert operator.api.get()["metadata"]["finalizers"] == [names.FINALIZER]


async def test_a_key_that_was_edited_is_labelled_once(operator: Operator) -> None:
    await up(operator)
    edited = "n" * 43
    operator.api.secrets[SECRET]["data"][names.SECRET_KEY] = b64encode(edited.encode()).decode()
    for _ in range(6):
        await operator.resync()
    labels = operator.api.get()["metadata"]["labels"]
    assert labels[names.KEY_HASH_LABEL] == names.key_hash(edited)
    assert operator.api.writes == ["metadata"]
    for _ in range(11):
        await operator.resync()
    assert operator.api.writes == ["metadata"]
