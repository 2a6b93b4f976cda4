"""constraints.txt pins all that is installed: what `make audit` looks at is what runs."""

from __future__ import annotations

import re
from importlib.metadata import distributions

from dev.cluster import CHECKOUT

NOT_OURS = {"pip", "setuptools", "wheel", "sandbox-operator"}
"""What venv itself brings, and the project."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_installed_package_is_pinned_at_its_version() -> None:
    lines = (CHECKOUT / "constraints.txt").read_text().split()
    pinned = {
        canonical(name): version for name, _, version in (line.partition("==") for line in lines)
    }
    installed = {canonical(d.metadata["Name"]): d.version for d in distributions()}
    ours = {name: version for name, version in installed.items() if name not in NOT_OURS}
    assert {name: pinned.get(name) for name in ours} == ours
