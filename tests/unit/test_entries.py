"""The cache: which versions, which observations and which engine events are believed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.core.resources import Phase
from controller.core.state import EngineView, Holdings, Run, SecretState, Verb
from controller.core.table import CONTAINER, EXITED, FROZEN, NOW, RUNNING, failed
from controller.engines.base import EngineEvent
from controller.entries import TOMBSTONE_SECONDS, Entries, Entry, InFlight, implied

REASON = Reason.ENGINE_REFUSED
VIEW = EngineView(id="engine-1")


def obj(version: int = 1, generation: int = 1, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "a",
            "namespace": "team",
            "uid": "u1",
            "resourceVersion": str(version),
            "generation": generation,
            **metadata,
        },
        "spec": {"image": "box"},
    }


def entry(*holdings: Holdings) -> Entry:
    found = Entries().update(obj())
    assert found is not None
    for observed in holdings:
        found.observe(observed, 1.0)
    return found


# Versions


async def test_only_newer_versions_are_taken_as_numbers() -> None:
    entries = Entries()
    assert entries.update(obj(9)) is not None
    assert entries.update(obj(10)) is not None
    for echo in (9, 10):
        assert entries.update(obj(echo)) is None


async def test_what_is_gone_stays_gone() -> None:
    entries = Entries()
    entries.update(obj(1))
    entries.remove("u1")
    assert entries.update(obj(2)) is None
    assert len(entries) == 0


async def test_a_tombstone_is_forgotten_when_no_echo_can_come_any_more() -> None:
    entries = Entries()
    entries.update(obj())
    entries.remove("u1")
    entries.prune()
    assert entries.update(obj(2)) is None
    entries._tombstones["u1"] -= TOMBSTONE_SECONDS + 1
    entries.prune()
    assert entries.update(obj(3)) is not None


async def test_of_an_unknown_uid_the_engine_has_nothing_once_it_was_listed() -> None:
    entries = Entries()
    before = entries.update(obj())
    entries.listed = True
    after = entries.update(obj(uid="u2"))
    assert before is not None
    assert after is not None
    assert (before.holdings, after.holdings) == (None, Holdings())


async def test_of_a_claimed_one_that_the_listing_came_before_the_engine_is_asked() -> None:
    entries = Entries()
    entries.listed = True
    found = entries.update(obj(finalizers=[names.FINALIZER]))
    assert found is not None
    assert (found.holdings, found.look) == (None, True)


async def test_a_changed_spec_deserves_a_prompt_attempt() -> None:
    entries = Entries()
    found = entries.update(obj(1))
    assert found is not None
    found.failure = failed(Verb.RUN, REASON)
    entries.update(obj(2, labels={"a": "b"}))
    assert found.failure is not None
    entries.update(obj(3, generation=2))
    assert found.failure is None


@pytest.mark.parametrize(("verb", "kept"), [(Verb.RUN, False), (Verb.CLEAN, True)])
async def test_deletion_waits_for_no_other_backoff_than_its_own(verb: Verb, kept: bool) -> None:
    entries = Entries()
    found = entries.update(obj(1))
    assert found is not None
    found.failure = failed(verb, REASON)
    entries.update(obj(2, deletionTimestamp=NOW.isoformat()))
    assert (found.failure is not None) == kept


async def test_deletion_is_urgent_until_the_status_says_so() -> None:
    entries = Entries()
    gone: dict[str, Any] = {"deletionTimestamp": NOW.isoformat(), "finalizers": [names.FINALIZER]}
    found = entries.update(obj(1, finalizers=[names.FINALIZER]))
    assert found is not None
    assert not found.unmarked
    entries.update(obj(2, **gone))
    assert found.unmarked
    entries.update(obj(3, **gone) | {"status": {"phase": Phase.DELETING}})
    assert not found.unmarked


# Observations


async def test_an_observation_that_began_before_our_effect_was_over_is_refused() -> None:
    found = entry()
    found.affected_at = 5.0
    assert not found.observe(Holdings(RUNNING), 4.9)
    assert found.holdings is None
    assert found.observe(Holdings(RUNNING), 5.0)


async def test_an_older_observation_does_not_replace_a_newer_one() -> None:
    found = entry(Holdings(RUNNING))
    assert not found.observe(Holdings(EXITED), 0.9)
    assert found.holdings == Holdings(RUNNING)


async def test_an_observation_is_fresh_after_our_effects_and_after_deletion_was_seen() -> None:
    found = entry(Holdings(RUNNING))
    assert found.seen(VIEW).fresh
    found.affected_at = 2.0
    assert not found.seen(VIEW).fresh
    found.observe(Holdings(RUNNING), 3.0)
    found.deleting_since = 4.0
    assert not found.seen(VIEW).fresh
    found.observe(Holdings(), 5.0)
    assert found.seen(VIEW).fresh
    found.look = True
    assert not found.seen(VIEW).fresh


async def test_a_secret_counts_as_known_while_its_key_or_a_container_with_it_is_there() -> None:
    found = entry(Holdings())
    found.secret, found.key = SecretState.PRESENT, "key"
    assert found.seen(VIEW).secret is SecretState.PRESENT
    found.key = None
    assert found.seen(VIEW).secret is SecretState.UNKNOWN
    found.observe(Holdings(RUNNING), 2.0)
    assert found.seen(VIEW).secret is SecretState.PRESENT


async def test_the_key_is_in_no_repr() -> None:
    found = entry()
    found.key = "hush"
    assert "hush" not in repr(found)


# Engine events


def event(action: str, container_id: str = "c1") -> EngineEvent:
    return EngineEvent("u1", container_id, action)


@pytest.mark.parametrize(
    ("action", "container", "echo"),
    [
        ("create", CONTAINER, True),
        ("create", None, False),
        ("start", RUNNING, True),
        ("start", CONTAINER, False),
        ("start", EXITED, False),
        ("unpause", RUNNING, True),
        ("unpause", FROZEN, False),
        ("pause", FROZEN, True),
        ("pause", RUNNING, False),
        ("die", EXITED, True),
        ("die", RUNNING, False),
        ("die", None, True),
        ("destroy", None, True),
        ("destroy", EXITED, False),
        ("oom", RUNNING, True),  # the `die` that follows tells
        ("update", RUNNING, False),
    ],
)
def test_an_event_is_an_echo_where_its_effect_is_known(
    action: str, container: Any, echo: bool
) -> None:
    assert implied(event(action), Holdings(container)) == echo


def test_events_of_a_former_container_are_no_news() -> None:
    for action in ("die", "destroy", "stop", "oom"):
        assert implied(event(action, "old"), Holdings(RUNNING))
    assert not implied(event("start", "other"), Holdings(RUNNING))


def test_before_anything_is_known_every_event_is_news() -> None:
    assert not implied(event("die"), None)


async def test_news_asks_for_a_look() -> None:
    found = entry(Holdings(RUNNING))
    assert not found.notice(event("start"))
    assert not found.look
    assert found.notice(event("die"))
    assert found.look
    assert found.holdings == Holdings(RUNNING)


async def test_events_during_an_operation_are_kept_for_its_end() -> None:
    found = entry(Holdings(RUNNING))
    found.in_flight = InFlight(Verb.FREEZE)
    assert not found.notice(event("die"))
    assert found.in_flight.events == [event("die")]
    assert not found.look


async def test_a_death_that_deletion_waits_for_needs_no_look() -> None:
    found = entry(Holdings(RUNNING))
    found.deleting_since = 0.5
    assert found.notice(event("die"))
    assert found.holdings is not None
    assert found.holdings.container == replace(RUNNING, run=Run.EXITED, ports={})
    assert not found.look


async def test_what_is_known_is_offered_to_the_listing_unless_it_is_in_doubt() -> None:
    entries = Entries()
    found = entries.update(obj())
    assert found is not None
    assert entries.known_holdings() == {}
    found.observe(Holdings(RUNNING), 1.0)
    assert entries.known_holdings() == {"u1": Holdings(RUNNING)}
    found.look = True
    assert entries.known_holdings() == {}


async def test_cancelling_ends_a_pull_at_once() -> None:
    flight = InFlight(Verb.RUN)
    flight.pull = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    flight.cancel()
    await asyncio.gather(flight.pull, return_exceptions=True)
    assert flight.cancelled
    assert flight.pull.cancelled()
