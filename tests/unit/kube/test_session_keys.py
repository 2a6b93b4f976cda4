"""The generated Secret: ours by its UID label, and never anyone else's."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime
from typing import cast

import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.core.resources import ObjectMeta
from controller.kube import session_keys
from controller.kube.api import Forbidden, KubeApi
from controller.kube.session_keys import KeyRefused
from tests.unit.fakes import NAMESPACE, FakeApi

META = ObjectMeta(name="a", namespace=NAMESPACE, uid="u1")
NAME = names.secret_name("a")
KEY = "k" * 43


@pytest.fixture
def fake() -> FakeApi:
    return FakeApi(lambda: datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def api(fake: FakeApi) -> KubeApi:
    return cast(KubeApi, fake)


def test_keys_are_long_random_and_printable() -> None:
    keys = {session_keys.generate() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 43 and key.isascii() and key.isprintable() for key in keys)


async def test_stored_it_carries_the_uid_and_is_found(fake: FakeApi, api: KubeApi) -> None:
    stored = await session_keys.store(api, META, KEY)
    assert await session_keys.find(api, META) == stored
    secret = fake.secrets[NAMESPACE, NAME]
    assert secret["metadata"]["labels"][names.UID_LABEL] == "u1"
    assert b64decode(secret["data"][names.SECRET_KEY]).decode() == stored.key == KEY
    assert KEY not in repr(stored)


async def test_one_that_an_earlier_attempt_stored_is_kept(fake: FakeApi, api: KubeApi) -> None:
    await session_keys.store(api, META, KEY)
    assert (await session_keys.store(api, META, "l" * 43)).key == KEY


@pytest.mark.parametrize("labels", [{}, {names.UID_LABEL: "another"}])
async def test_one_of_that_name_that_is_not_ours(
    fake: FakeApi, api: KubeApi, labels: dict[str, str]
) -> None:
    theirs = fake.put_secret(NAME, {names.SECRET_KEY: "aHVzaA=="}, labels)
    for attempt in (session_keys.find(api, META), session_keys.store(api, META, KEY)):
        with pytest.raises(KeyRefused) as refused:
            await attempt
        assert refused.value.reason is Reason.SECRET_NAME_TAKEN
        assert "hush" not in str(refused.value)
    await session_keys.delete(api, META, None)
    assert fake.secrets == {(NAMESPACE, NAME): theirs}


async def test_deleting_names_the_uid(fake: FakeApi, api: KubeApi) -> None:
    old = await session_keys.store(api, META, KEY)
    del fake.secrets[NAMESPACE, NAME]
    theirs = fake.put_secret(NAME, {})
    await session_keys.delete(api, META, old.uid)
    assert fake.secrets == {(NAMESPACE, NAME): theirs}


async def test_one_of_ours_that_took_the_place_of_another_is_deleted(
    fake: FakeApi, api: KubeApi
) -> None:
    """Someone restored it from a backup: it has a UID of its own."""
    old = await session_keys.store(api, META, KEY)
    fake.put_secret(NAME, {}, {names.UID_LABEL: META.uid})
    await session_keys.delete(api, META, old.uid)
    assert fake.secrets == {}


async def test_deleting_what_is_gone_succeeds(api: KubeApi) -> None:
    await session_keys.delete(api, META, None)
    await session_keys.delete(api, META, "gone")


async def test_a_namespace_that_is_being_deleted_is_told(fake: FakeApi, api: KubeApi) -> None:
    fake.terminating.add(NAMESPACE)
    with pytest.raises(KeyRefused) as refused:
        await session_keys.store(api, META, KEY)
    assert refused.value.reason is Reason.NAMESPACE_TERMINATING


async def test_any_other_refusal_is_an_error(fake: FakeApi, api: KubeApi) -> None:
    fake.fail_next("create_secret", Forbidden("exceeded quota", 403))
    with pytest.raises(Forbidden):
        await session_keys.store(api, META, KEY)
