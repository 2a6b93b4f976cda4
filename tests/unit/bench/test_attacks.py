"""The loads are bounded in number and in time."""

import asyncio

import pytest

from bench import attacks
from bench.lab import Sizes


async def test_a_storm_makes_no_more_calls_than_its_rate_and_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attacks, "LONGEST_LOAD", 0.2)
    calls: list[tuple[int, str]] = []

    async def call(n: int, name: str) -> None:
        calls.append((n, name))

    async with asyncio.timeout(30):
        await attacks._storm(["a", "b"], 50, call)
    assert 1 <= len(calls) <= 11
    assert calls[:2] == [(0, "a"), (1, "b")][: len(calls)]


def test_ports_are_distinct() -> None:
    made = attacks.ports(attacks.MANY_PORTS)
    assert len({port["containerPort"] for port in made}) == len(made) == attacks.MANY_PORTS
    assert len({port["name"] for port in made}) == len(made)


@pytest.mark.parametrize("sizes", [Sizes(), Sizes.quick()])
def test_the_large_directory_fills_its_folders(sizes: Sizes) -> None:
    assert sizes.attack_files % attacks.FOLDERS == 0
