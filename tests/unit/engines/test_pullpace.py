"""When a pull is too slow: on a clock of its own, over the lines that Docker sends."""

from __future__ import annotations

from typing import Any

import pytest

from controller.engines.pullpace import (
    CONTENDED_BYTES,
    CONTENDED_SECONDS,
    LEAST_BYTES,
    SILENT_SECONDS,
    STUCK_SECONDS,
    WINDOW_SECONDS,
    Pace,
)


def line(status: str, layer: str = "a", current: int | None = None) -> dict[str, Any]:
    detail = {} if current is None else {"current": current, "total": 10**9}
    return {"status": status, "progressDetail": detail, "id": layer}


class Pull:
    """A pull second by second."""

    def __init__(self, tenant: str = "a") -> None:
        self.pace = Pace(tenant, 0)
        self.now = 0.0
        self.others: list[Pace] = []

    def lines(self, status: str, layers: str = "a", current: int | None = None) -> None:
        for layer in layers:
            self.pace.line(line(status, layer, current), self.now)

    def passes(self, seconds: float) -> str | None:
        for _ in range(int(seconds)):
            self.now += 1
            fault = self.pace.fault(self.now, self.others)
            if fault is not None:
                return fault
        return None

    def downloads(self, rate: float, seconds: int, layer: str = "a") -> str | None:
        for second in range(1, seconds + 1):
            self.lines("Downloading", layer, int(rate * second))
            fault = self.passes(1)
            if fault is not None:
                return fault
        return None


@pytest.fixture
def pull() -> Pull:
    pull = Pull()
    pull.lines("Pulling fs layer")
    return pull


def waiting(tenant: str, since: float = 0) -> Pace:
    pace = Pace(tenant, since)
    pace.line(line("Pulling fs layer"), since)
    pace.line(line("Waiting"), since)
    return pace


def test_a_registry_that_says_nothing_is_given_up() -> None:
    pull = Pull()
    pull.pace.line({"status": "Pulling from x", "id": "1"}, 0)
    pull.pace.line({"status": "Status: x"}, 0)
    assert pull.passes(SILENT_SECONDS - 1) is None
    assert "did not answer" in (pull.passes(1) or "")


def test_a_layer_of_which_nothing_comes_is_given_up(pull: Pull) -> None:
    assert pull.passes(WINDOW_SECONDS - 1) is None
    assert "less than 512 KiB in 30 s" in (pull.passes(1) or "")


def test_one_that_trickles_is_given_up_and_one_that_moves_is_not(pull: Pull) -> None:
    assert pull.downloads(1.2 * LEAST_BYTES / WINDOW_SECONDS, 900) is None
    assert pull.downloads(0.8 * LEAST_BYTES / WINDOW_SECONDS, 900, "b") is not None


def test_one_that_moved_and_stands_is_given_up(pull: Pull) -> None:
    assert pull.downloads(10**7, 100) is None
    assert pull.passes(WINDOW_SECONDS + 1) is not None


def test_a_layer_that_begins_anew_moves_no_fewer_bytes_than_none(pull: Pull) -> None:
    for _ in range(100):
        pull.lines("Downloading", current=300 << 10)
        pull.lines("Retrying in 5 seconds")
        assert pull.passes(5) is None


def test_layers_that_end_just_in_time_are_no_fresh_start(pull: Pull) -> None:
    """Each trickles for less than the window, and dockerd is silent in between."""
    for layer in "abcdefgh":
        pull.lines("Downloading", layer, 10)
        fault = pull.passes(WINDOW_SECONDS - 1)
        if fault is not None:
            break
        pull.lines("Download complete", layer)
        pull.lines("Waiting", "z")
        pull.passes(2)
    assert fault is not None
    assert layer == "b"


def test_many_small_layers_are_no_slow_pull(pull: Pull) -> None:
    for number in range(100):
        pull.pace.line(line("Pulling fs layer", str(number)), pull.now)
        pull.pace.line(line("Download complete", str(number)), pull.now)
        pull.lines("Downloading", "big", 0)
        assert pull.passes(3) is None


def test_what_extracts_takes_its_time(pull: Pull) -> None:
    pull.lines("Download complete")
    assert pull.passes(1000) is None
    for current in range(100):
        pull.lines("Extracting", current=current)
        pull.lines("Downloading", "b", 1)
        assert pull.passes(20) is None, "the disk is busy"
    assert pull.passes(WINDOW_SECONDS + 1) is not None


def test_one_that_waits_for_others_may_wait(pull: Pull) -> None:
    other = Pull("b")
    other.lines("Downloading")
    pull.others = [other.pace]
    pull.lines("Waiting")
    assert pull.passes(1000) is None


def test_one_that_waits_for_nobody_is_stuck(pull: Pull) -> None:
    pull.lines("Waiting")
    assert pull.passes(STUCK_SECONDS - 1) is None
    assert pull.passes(1) is not None


def test_sooner_where_its_own_layers_have_come_before(pull: Pull) -> None:
    pull.lines("Download complete")
    pull.lines("Waiting", "b")
    assert pull.passes(WINDOW_SECONDS - 1) is None
    assert pull.passes(1) is not None


@pytest.mark.parametrize(("tenant", "given_up"), [("b", True), ("a", False)])
def test_the_rate_is_higher_while_another_tenant_waits(
    pull: Pull, tenant: str, given_up: bool
) -> None:
    pull.others = [waiting(tenant)]
    rate = 0.8 * CONTENDED_BYTES / CONTENDED_SECONDS
    fault = pull.downloads(rate, 100)
    assert (fault is not None) == given_up
    if given_up:
        assert "while other images waited" in (fault or "")


def test_a_fast_pull_is_left_alone_whoever_waits(pull: Pull) -> None:
    pull.others = [waiting("b")]
    assert pull.downloads(1.2 * CONTENDED_BYTES / CONTENDED_SECONDS, 900) is None


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"id": 7, "status": "Downloading"},
        {"id": "a", "status": None},
        {"id": "a", "status": "Downloading", "progressDetail": None},
        {"id": "a", "status": "Downloading", "progressDetail": {"current": "many"}},
        {"id": "a", "status": "Something new"},
    ],
)
def test_odd_lines_do_no_harm(pull: Pull, odd: dict[str, Any]) -> None:
    pull.pace.line(odd, 1)
    assert pull.passes(1) is None
