"""What is told of a noisy neighbour: targets where the engine can, docker-py's factor where not."""

from dataclasses import replace

import pytest

from bench.attacks import Phase
from bench.figures import OWN_QUIET
from bench.neighbours import Lives, attack_rows, calm_rows, slowdown, summary

CALM = Lives(
    create=[0.3] * 20,
    mark=[0.01] * 20,
    gone=[0.2] * 20,
    pull=[0.5] * 5,
    others_create=[0.2] * 20,
    others_remove=[0.1] * 20,
    others_pull=[0.4] * 5,
)
LOAD = Phase("load", about="of a kind")


@pytest.mark.parametrize(("create", "met"), [(0.9, True), (0.91, False)])
def test_a_create_is_held_to_three_times_calm(create: float, met: bool) -> None:
    row = attack_rows(LOAD, CALM, replace(CALM, create=[create] * 5, pull=[]))[0]
    assert row.target == "p95 <= 3 x"
    assert row.met is met
    assert row.beside == OWN_QUIET
    assert row.relative
    assert row.note.startswith("of a kind; worst")


def test_one_long_wait_among_many_short_ones_counts() -> None:
    row = attack_rows(LOAD, CALM, replace(CALM, create=[22.0] + [0.3] * 15))[0]
    assert row.met is False
    assert "worst 22000 ms, 16 samples" in row.note


def test_where_the_engine_cannot_docker_py_is_compared_with() -> None:
    under = replace(CALM, create=[2.4] * 5, others_create=[0.8] * 5)
    row = attack_rows(LOAD, CALM, under)[0]
    assert row.met is None
    assert row.target == ""
    assert "p95 4.00 x its calm" in row.note
    assert "the engine is the limit: 2.00 x docker-py's factor" in row.note


def test_a_mark_is_held_to_its_bound_whatever_the_engine_can() -> None:
    under = replace(CALM, mark=[0.01] * 9 + [0.06], others_create=[9.0])
    assert attack_rows(LOAD, CALM, under)[1].met is False
    assert attack_rows(LOAD, CALM, CALM)[1].met is True
    assert summary([CALM, under]).met is False


def test_what_was_not_measured_misses_its_targets_and_is_not_drawn() -> None:
    create, mark, gone = attack_rows(LOAD, CALM, Lives())
    assert (create.met, mark.met, gone.met) == (False, False, None)
    assert "not measured" in create.note
    assert create.ratio is None
    assert not create.curve


def test_pulls_have_a_row_where_there_were_any() -> None:
    rows = attack_rows(LOAD, CALM, replace(CALM, pull=[1.0], others_pull=[1.0]))
    assert [row.what for row in rows] == [
        "load: create",
        "load: deletionTimestamp to DELETING",
        "load: delete until gone",
        "load: create and pull",
    ]
    assert rows[-1].met is True
    assert "only 1 samples" in rows[-1].note


def test_calm_stands_beside_docker_py() -> None:
    create = calm_rows(CALM)[0]
    assert create.ratio == pytest.approx(1.5)
    assert create.met is None


def test_calm_spans_are_one() -> None:
    both = CALM + Lives(create=[0.6])
    assert both.create == [*CALM.create, 0.6]
    assert both.others_pull == CALM.others_pull
    assert slowdown([0.6], both.create) == pytest.approx(2.0)
