"""What the service does on any API server: run on the fake one and on a real one.

A subclass is made where a fixture `world` says which.
"""

import asyncio
from datetime import datetime

import pytest

from controller.client import (
    ExposedUrl,
    InvalidPageId,
    SandboxConflict,
    SandboxFailed,
    SandboxInfo,
    SandboxNotFound,
    SandboxStatus,
    SandboxTimeout,
)
from controller.client.ids import object_name
from controller.core.names import ID_ANNOTATION, RESUME_REQUESTED_AT
from tests.unit.client.world import IMAGE, KEY, World

ODD_IDS = ["", "Plain", "id-x", "a" * 53, "a b/c?d&e", "ünï-☃", "Long id " * 20, "5"]
DEADLINE = 20.0
"""Seconds until a wait that should have ended counts as hung."""


class StartContract:
    async def test_a_new_sandbox_is_starting_and_has_no_key(self, world: World) -> None:
        info = await world.service.start_sandbox(created_by_user_id="alice")
        assert info.status is SandboxStatus.STARTING
        assert info.session_api_key is None
        assert info.exposed_urls is None
        assert info.created_by_user_id == "alice"
        assert info.sandbox_spec_id == IMAGE
        assert await world.service.get_sandbox(info.id) == info

    async def test_ids_that_are_not_given_differ(self, world: World) -> None:
        first, second = [await world.service.start_sandbox() for _ in range(2)]
        assert first.id != second.id

    async def test_fields_given_win_over_the_default_spec(self, world: World) -> None:
        await world.service.start_sandbox(
            "example.org/agent:2",
            "mine",
            {"A": "new"},
            spec={"env": [{"name": "A", "value": "old"}, {"name": "B", "value": "b"}]},
        )
        spec = (await world.obj("mine"))["spec"]
        assert spec["image"] == "example.org/agent:2"
        assert spec["env"] == [{"name": "B", "value": "b"}, {"name": "A", "value": "new"}]
        assert spec["ports"][0]["containerPort"] == 8000

    @pytest.mark.parametrize("sandbox_id", ODD_IDS)
    async def test_any_id_works_with_every_verb(self, world: World, sandbox_id: str) -> None:
        service = world.service
        assert (await service.start_sandbox(sandbox_id=sandbox_id)).id == sandbox_id
        name = object_name(sandbox_id)
        await world.claimed(name)
        found = await service.get_sandbox(sandbox_id)
        assert found is not None
        assert found.id == sandbox_id
        assert (await service.search_sandboxes()).items == [found]
        assert await service.batch_get_sandboxes([sandbox_id]) == [found]
        assert await service.pause_sandbox(sandbox_id)
        assert await service.resume_sandbox(sandbox_id)
        await world.running(name)
        async with asyncio.timeout(DEADLINE):
            running = await service.wait_for_sandbox_running(sandbox_id)
        assert running.id == sandbox_id
        assert await service.get_sandbox_by_session_api_key(KEY) == running
        assert await service.delete_sandbox(sandbox_id)

    async def test_starting_again_gives_the_same_sandbox(self, world: World) -> None:
        first = await world.service.start_sandbox(sandbox_id="x", created_by_user_id="alice")
        again = await world.service.start_sandbox(sandbox_id="x", created_by_user_id="alice")
        assert again == first

    async def test_another_user_s_id_is_taken(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x", created_by_user_id="alice")
        with pytest.raises(SandboxConflict, match="another user"):
            await world.service.start_sandbox(sandbox_id="x", created_by_user_id="bob")

    async def test_another_image_is_a_conflict(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        with pytest.raises(SandboxConflict, match="another image"):
            await world.service.start_sandbox("example.org/agent:2", "x")

    async def test_an_id_is_not_free_until_its_deletion_is_done(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.claimed("x")
        await world.service.delete_sandbox("x")
        with pytest.raises(SandboxConflict, match="being deleted"):
            await world.service.start_sandbox(sandbox_id="x")
        await world.released("x")
        assert (await world.service.start_sandbox(sandbox_id="x")).id == "x"

    async def test_an_object_of_another_id_under_the_name_is_not_it(self, world: World) -> None:
        """As where 32 bytes of one id are the SHA-256 of another, or somebody forged it."""
        long_id = "long " * 20
        name = object_name(long_id)
        await world.applied(name, annotations={ID_ANNOTATION: "somebody else's"})
        await world.running(name)
        service = world.service
        assert await service.get_sandbox(long_id) is None
        assert await service.batch_get_sandboxes([long_id]) == [None]
        assert await service.get_sandbox_by_session_api_key(KEY) is None
        assert not await service.pause_sandbox(long_id)
        assert not await service.resume_sandbox(long_id)
        assert not await service.delete_sandbox(long_id)
        with pytest.raises(SandboxNotFound):
            await service.wait_for_sandbox_running(long_id)
        with pytest.raises(SandboxConflict):
            await service.start_sandbox(sandbox_id=long_id)


class ReadContract:
    async def test_an_unknown_id_is_none(self, world: World) -> None:
        assert await world.service.get_sandbox("nobody") is None

    async def test_what_runs_has_its_key_and_urls(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.running("x")
        info = await world.service.get_sandbox("x")
        assert info is not None
        assert info.status is SandboxStatus.RUNNING
        assert info.session_api_key == KEY
        url = ExposedUrl(name="AGENT_SERVER", url="http://127.0.0.1:32768", port=32768)
        assert info.exposed_urls == [url]
        assert KEY not in repr(info)
        assert KEY not in str(info)

    @pytest.mark.parametrize(
        ("phase", "told"),
        [("STARTING", False), ("PAUSED", False), ("MISSING", False), ("ERROR", True)],
    )
    async def test_the_key_by_phase(self, world: World, phase: str, told: bool) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.keyed("x")
        await world.told("x", phase)
        info = await world.service.get_sandbox("x")
        assert info is not None
        assert info.status.value == phase
        assert (info.session_api_key == KEY) is told
        assert (info.session_api_key is None) is not told

    async def test_a_key_that_is_not_there_is_none(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.told("x", "RUNNING", sessionApiKeySecretRef={"name": "gone", "key": "k"})
        info = await world.service.get_sandbox("x")
        assert info is not None
        assert info.session_api_key is None

    async def test_found_by_its_key_while_starting_too(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="other")
        await world.service.start_sandbox(sandbox_id="x")
        await world.running("other", "another-key-of-more-than-32-characters")
        await world.keyed("x")
        info = await world.service.get_sandbox_by_session_api_key(KEY)
        assert info is not None
        assert info.id == "x"
        assert info.session_api_key is None

    @pytest.mark.parametrize("key", ["", "wrong", "ключ", "\ud800"])
    async def test_a_key_of_nobody_finds_nothing(self, world: World, key: str) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.running("x")
        assert await world.service.get_sandbox_by_session_api_key(key) is None

    async def test_a_label_without_the_key_finds_nothing(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.keyed("x", "the-real-key-of-more-than-32-characters", hash_of=KEY)
        await world.told("x", "RUNNING")
        assert await world.service.get_sandbox_by_session_api_key(KEY) is None

    async def test_what_is_being_deleted_is_in_no_read(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.claimed("x")
        await world.running("x")
        await world.service.delete_sandbox("x")  # its phase is RUNNING still
        assert await _reads(world) == [None, None, None, []]
        await world.told("x", "DELETING")
        assert await _reads(world) == [None, None, None, []]

    async def test_a_batch_keeps_its_order(self, world: World) -> None:
        """With and without the name label, twice, and unknown."""
        for sandbox_id in ("a", "B", "c"):
            await world.service.start_sandbox(sandbox_id=sandbox_id)
        await world.claimed("a")
        found = await world.service.batch_get_sandboxes(["c", "none", "a", "B", "None", "a"])
        assert [info and info.id for info in found] == ["c", None, "a", "B", None, "a"]

    async def test_an_empty_batch(self, world: World) -> None:
        assert await world.service.batch_get_sandboxes([]) == []


async def _reads(world: World) -> list[object]:
    return [
        await world.service.get_sandbox("x"),
        (await world.service.batch_get_sandboxes(["x"]))[0],
        await world.service.get_sandbox_by_session_api_key(KEY),
        (await world.service.search_sandboxes()).items,
    ]


class SearchContract:
    async def test_pages_hold_everything_once(self, world: World) -> None:
        for number in range(5):
            await world.service.start_sandbox(sandbox_id=f"s{number}")
        assert [[i.id for i in page] for page in await _pages(world, 2)] == [
            ["s0", "s1"],
            ["s2", "s3"],
            ["s4"],
        ]

    async def test_a_page_is_filled_past_what_is_being_deleted(self, world: World) -> None:
        for number in range(6):
            await world.service.start_sandbox(sandbox_id=f"s{number}")
        for name, phase in (("s0", "RUNNING"), ("s1", "DELETING"), ("s3", "DELETING")):
            await world.claimed(name)
            await world.service.delete_sandbox(name)
            await world.told(name, phase)
        page = await world.service.search_sandboxes(limit=2)
        assert [info.id for info in page.items] == ["s2", "s4"]
        rest = await world.service.search_sandboxes(page.next_page_id, limit=2)
        assert [info.id for info in rest.items] == ["s5"]
        assert rest.next_page_id is None

    async def test_by_user(self, world: World) -> None:
        odd = "a,b=c\\d!=e"
        for number, user in enumerate((odd, "alice", None, odd)):
            await world.service.start_sandbox(sandbox_id=f"s{number}", created_by_user_id=user)
        page = await world.service.search_sandboxes(created_by_user_id=odd)
        assert [(info.id, info.created_by_user_id) for info in page.items] == [
            ("s0", odd),
            ("s3", odd),
        ]

    async def test_an_object_that_no_id_leads_to_is_left_out(self, world: World) -> None:
        await world.applied("id-not-base32")
        await world.applied("a" * 60)
        await world.applied("plain")
        page = await world.service.search_sandboxes()
        assert [info.id for info in page.items] == ["plain"]

    @pytest.mark.parametrize("page_id", ["", "x", "WyJhIl0=", "WyJ+fiIsICJhIl0=", "☃"])
    async def test_a_page_id_of_others_is_refused(self, world: World, page_id: str) -> None:
        with pytest.raises(InvalidPageId):
            await world.service.search_sandboxes(page_id)

    async def test_a_limit_below_one_is_refused(self, world: World) -> None:
        with pytest.raises(ValueError, match="limit"):
            await world.service.search_sandboxes(limit=0)


async def _pages(world: World, limit: int) -> list[list[SandboxInfo]]:
    pages, page_id = [], None
    while True:
        page = await world.service.search_sandboxes(page_id, limit)
        pages.append(page.items)
        page_id = page.next_page_id
        if page_id is None:
            return pages


class WriteContract:
    async def test_pause_and_resume_set_the_wish(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        assert await world.service.pause_sandbox("x")
        assert (await world.obj("x"))["spec"]["operatingMode"] == "Paused"
        assert await world.service.resume_sandbox("x")
        assert (await world.obj("x"))["spec"]["operatingMode"] == "Running"

    async def test_a_resume_is_newer_than_the_suspension(self, world: World) -> None:
        """Also where the operator's clock is ahead."""
        at = "2999-01-01T00:00:00.123456Z"
        await world.service.start_sandbox(sandbox_id="x")
        await world.told("x", "PAUSED", suspended={"reason": "Idle", "at": at})
        assert await world.service.resume_sandbox("x")
        asked = (await world.obj("x"))["metadata"]["annotations"][RESUME_REQUESTED_AT]
        assert datetime.fromisoformat(asked) > datetime.fromisoformat(at)

    async def test_what_does_not_exist_is_false(self, world: World) -> None:
        assert not await world.service.pause_sandbox("x")
        assert not await world.service.resume_sandbox("x")
        assert not await world.service.delete_sandbox("x")

    async def test_delete_returns_before_the_operator_has_done_anything(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.claimed("x")
        assert await world.service.delete_sandbox("x")
        assert await world.service.delete_sandbox("x")
        assert not await world.service.pause_sandbox("x")
        assert not await world.service.resume_sandbox("x")
        await world.released("x")
        assert not await world.service.delete_sandbox("x")


class WaitContract:
    async def test_what_runs_already(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.running("x")
        assert (await _wait(world)).session_api_key == KEY

    async def test_it_comes_to_run(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        waiting = asyncio.create_task(_wait(world))
        await world.claimed("x")
        await world.told("x", "STARTING")
        await world.running("x")
        info = await waiting
        assert info.status is SandboxStatus.RUNNING
        assert info.session_api_key == KEY

    async def test_an_error_ends_it_with_the_reason(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        waiting = asyncio.create_task(_wait(world))
        await world.failed("x", "ImageNotFound", "there is no such image")
        with pytest.raises(SandboxFailed, match="there is no such image") as caught:
            await waiting
        assert caught.value.reason == "ImageNotFound"
        assert caught.value.status is SandboxStatus.ERROR

    async def test_an_error_from_before_the_resume_does_not_count(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.service.pause_sandbox("x")
        await world.failed("x", "Exited", "it exited while paused", observedGeneration=2)
        await world.service.resume_sandbox("x")
        waiting = asyncio.create_task(_wait(world))
        await world.keyed("x")
        await world.told("x", "RUNNING", observedGeneration=3)
        assert (await waiting).status is SandboxStatus.RUNNING

    async def test_a_deletion_ends_it(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.claimed("x")
        waiting = asyncio.create_task(_wait(world))
        await world.service.delete_sandbox("x")
        with pytest.raises(SandboxNotFound, match="delet"):
            await waiting

    async def test_an_object_that_vanishes_ends_it(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        waiting = asyncio.create_task(_wait(world))
        await world.told("x", "STARTING")
        await world.service.delete_sandbox("x")
        with pytest.raises(SandboxNotFound):
            await waiting

    async def test_an_unknown_one_is_not_waited_for(self, world: World) -> None:
        with pytest.raises(SandboxNotFound, match="does not exist"):
            await _wait(world)

    async def test_a_timeout_tells_the_status(self, world: World) -> None:
        await world.service.start_sandbox(sandbox_id="x")
        await world.told("x", "PAUSED")
        with pytest.raises(SandboxTimeout, match="PAUSED") as caught:
            await world.service.wait_for_sandbox_running("x", timeout=0.3)
        assert isinstance(caught.value, TimeoutError)


async def _wait(world: World) -> SandboxInfo:
    return await world.service.wait_for_sandbox_running("x", timeout=DEADLINE)


class ClientContract(StartContract, ReadContract, SearchContract, WriteContract, WaitContract):
    """All of it."""
