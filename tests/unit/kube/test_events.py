"""Events: one an item of news, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from controller.core.reasons import Reason
from controller.core.resources import ObjectMeta, Phase
from controller.kube import events
from controller.kube.api import ApiError, ApiUnreachable, KubeApi
from controller.kube.events import EventPoster, News
from controller.workqueue import WorkQueue
from tests.unit.fakes import FakeApi

META = ObjectMeta(name="a", namespace="team", uid="u1")
NOW = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)


def news(reason: Reason = Reason.READY, phase: Phase = Phase.RUNNING, message: str = "m") -> News:
    return News(META, phase, reason, message, NOW)


class Api(FakeApi):
    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.posted = asyncio.Condition()

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        await super().create_event(namespace, event)
        async with self.posted:
            self.posted.notify_all()

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.posted:
            await self.posted.wait_for(met)


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def poster(api: Api) -> AsyncIterator[EventPoster]:
    poster = EventPoster(cast(KubeApi, api), "blue", WorkQueue().calm)
    task = asyncio.create_task(poster.run())
    yield poster
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_event_is_about_the_very_object(api: Api, poster: EventPoster) -> None:
    poster.post(news())
    await api.until(lambda: len(api.events) == 1)
    event = api.events[0]
    assert event["involvedObject"]["uid"] == "u1"
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Ready", "m")
    assert event["metadata"]["namespace"] == "team"
    assert event["reportingInstance"] == "blue"


@pytest.mark.parametrize(
    ("phase", "type_"),
    [
        (Phase.ERROR, "Warning"),
        (Phase.MISSING, "Warning"),
        (Phase.PAUSED, "Normal"),
        (Phase.DELETING, "Normal"),
    ],
)
async def test_what_needs_someone_is_a_warning(
    api: Api, poster: EventPoster, phase: Phase, type_: str
) -> None:
    poster.post(news(phase=phase))
    await api.until(lambda: len(api.events) == 1)
    assert api.events[0]["type"] == type_


async def test_long_messages_fit_and_empty_ones_are_not_empty(
    api: Api, poster: EventPoster
) -> None:
    poster.post(news(message="x" * 5000))
    poster.post(news(message=""))
    await api.until(lambda: len(api.events) == 2)
    assert [len(e["message"]) for e in api.events] == [1024, len("Ready")]


async def test_one_that_is_refused_is_dropped_and_the_next_is_posted(
    api: Api, poster: EventPoster
) -> None:
    api.fail_next("create_event", ApiError("forbidden", 403))
    poster.post(news(Reason.READY))
    poster.post(news(Reason.FROZEN))
    await api.until(lambda: len(api.events) == 1)
    assert api.events[0]["reason"] == "Frozen"


async def test_one_that_got_no_answer_is_tried_again(api: Api, poster: EventPoster) -> None:
    api.fail_next("create_event", ApiUnreachable("no answer"))
    poster.post(news())
    await api.until(lambda: len(api.events) == 1)


async def test_news_waits_while_deletions_are_being_marked(api: Api, poster: EventPoster) -> None:
    calm = asyncio.Event()

    async def wait(at_most_seconds: float, namespace: str) -> None:
        await calm.wait()

    waiting = EventPoster(cast(KubeApi, api), "blue", wait)
    running = asyncio.create_task(waiting.run())
    waiting.post(news())
    poster.post(news(Reason.DELETING))
    await api.until(lambda: len(api.events) == 1)
    assert api.events[0]["reason"] == Reason.DELETING
    calm.set()
    await api.until(lambda: len(api.events) == 2)
    running.cancel()


async def test_a_backlog_forgets_its_oldest(api: Api) -> None:
    poster = EventPoster(cast(KubeApi, api), "blue", WorkQueue().calm)
    for number in range(events._BACKLOG_OF_A_NAMESPACE + 10):
        poster.post(replace(news(), meta=replace_uid(f"u{number}")))
    assert len(poster._backlog) == events._BACKLOG_OF_A_NAMESPACE
    assert next(iter(poster._backlog)).meta.uid == "u10"


async def test_a_backlog_of_all_is_bounded_too(api: Api) -> None:
    poster = EventPoster(cast(KubeApi, api), "blue", WorkQueue().calm)
    for number in range(events._BACKLOG + 10):
        meta = META.model_copy(update={"uid": f"u{number}", "namespace": f"n{number}"})
        poster.post(replace(news(), meta=meta))
    assert len(poster._backlog) == events._BACKLOG


async def test_a_flood_of_one_namespace_holds_up_no_other(api: Api, poster: EventPoster) -> None:
    for number in range(events._BACKLOG):
        poster.post(replace(news(), meta=replace_uid(f"u{number}")))
    other = META.model_copy(update={"uid": "other", "namespace": "other"})
    poster.post(replace(news(), meta=other))
    await api.until(lambda: len(api.events) >= 5)
    assert "other" in [event["metadata"]["namespace"] for event in api.events[:3]]


async def test_one_that_the_api_server_cannot_store_is_dropped(
    api: Api, poster: EventPoster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_RETRY_SECONDS", 0)
    for _ in range(events._REFUSALS):
        api.fail_next("create_event", ApiUnreachable("request is too large", 500))
    poster.post(news(Reason.READY))
    poster.post(news(Reason.FROZEN))
    await api.until(lambda: len(api.events) == 1)
    assert api.events[0]["reason"] == "Frozen"


async def test_one_that_comes_and_goes_leaves_room_for_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    poster = EventPoster(cast(KubeApi, api), "blue", WorkQueue().calm)
    for _ in range(events._BURST * 4):
        poster.post(news())
    poster.post(replace(news(), meta=replace_uid("u2")))
    assert len(poster._backlog) == events._BURST + 1
    monkeypatch.setattr(events, "_REFILL_SECONDS", 1e-9)
    await asyncio.sleep(0)
    poster.post(news())
    assert len(poster._backlog) == events._BURST + 2


async def test_objects_that_were_quiet_for_long_are_forgotten(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_KNOWN", 10)
    monkeypatch.setattr(events, "_REFILL_SECONDS", 1e-9)
    poster = EventPoster(cast(KubeApi, api), "blue", WorkQueue().calm)
    for number in range(100):
        await asyncio.sleep(0)
        poster.post(replace(news(), meta=replace_uid(f"u{number}")))
    assert len(poster._left) <= 12


def replace_uid(uid: str) -> ObjectMeta:
    return META.model_copy(update={"uid": uid})
