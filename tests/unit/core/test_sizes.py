"""How big a spec may be: bytes count, as execve counts them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import sizes
from controller.core.resources import InvalidResource, SandboxSpec
from controller.core.subject import Subject

WIDE = "\U0001f4e6"  # four bytes


def problem(**spec: Any) -> InvalidResource | None:
    meta = {"name": "a", "uid": "u1", "generation": 1}
    return Subject.read({"metadata": meta, "spec": {"image": "box"} | spec}).problem


def variables(count: int, value: str) -> list[dict[str, str]]:
    return [{"name": f"V{i}", "value": value} for i in range(count)]


@pytest.mark.parametrize(
    "spec",
    [
        {"args": ["v" * sizes.MAX_STRING_BYTES]},
        {"args": ["v" * 131_071] * 2},
        {"env": variables(8, "v" * 32_768)},
        {"env": variables(2, WIDE * 32_000), "args": ["v" * 6_144]},
        {"env": variables(256, "")},
    ],
    ids=["one long argument", "two", "env", "wide env and an argument", "many"],
)
def test_what_fits_is_read(spec: dict[str, Any]) -> None:
    assert problem(**spec) is None


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("spec.args[1]", {"args": ["v", "v" * (sizes.MAX_STRING_BYTES + 1)]}),
        ("spec.args[0]", {"args": [WIDE * 32_768]}),
        ("spec.env[V0]", {"env": variables(1, WIDE * 32_768)}),
        ("spec.env", {"env": variables(3, WIDE * 32_000)}),
        ("spec.env", {"env": variables(8, "v" * 32_768), "args": ["v"]}),
        ("spec.env", {"command": ["v" * 4096] * 63, "args": [WIDE * 2_000]}),
    ],
)
def test_what_is_too_big_is_named_by_its_path(path: str, spec: dict[str, Any]) -> None:
    found = problem(**spec)
    assert found is not None
    assert found.path == path
    assert "bytes" in found.message or "characters" in found.message
    assert len(str(found)) < 400


def test_the_path_of_a_problem_is_short_however_long_a_key_is() -> None:
    with pytest.raises(InvalidResource) as found:
        SandboxSpec.parse({"image": "box", "labels": {"k" * 100_000: 3}}, "spec")
    assert len(found.value.path) <= 256


def test_bytes_are_those_of_utf_8() -> None:
    assert sizes.size("v" + WIDE + "é") == 1 + 4 + 2
    assert sizes.size("\ud800") == 3, "a lone surrogate raises nothing"


def test_memory_counts_values_and_characters() -> None:
    assert sizes.memory(["v"] * 100) > 10_000
    assert sizes.memory({"v": WIDE * 1000}) > 4000
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert sizes.memory(deep) > 10_000_000
    while deep:
        deep = deep[0]
