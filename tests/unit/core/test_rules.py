"""What the settings allow, per namespace: nothing beyond the container unless it is listed."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.resources import SandboxSpec
from controller.core.rules import Rules
from controller.core.state import Limits

PORT = [{"name": "x", "containerPort": 80, "hostPort": 8080}]


def refused(rules: Rules, namespace: str = "team", **spec: Any) -> str | None:
    refusal = rules.refuse(namespace, SandboxSpec.parse({"image": "ghcr.io/org/box:1", **spec}))
    return refusal.path if refusal else None


@pytest.mark.parametrize(
    ("patterns", "path"),
    [
        ({"*": ("*",)}, None),
        ({"*": ("ghcr.io/org/*",)}, None),
        ({"team": ("ghcr.io/org/*",)}, None),
        ({"other": ("*",)}, "spec.image"),
        ({"*": ("ghcr.io/other/*",)}, "spec.image"),
        ({"*": ("ghcr.io/org",)}, "spec.image"),
        ({"*": ("org/box:1",)}, "spec.image"),
        ({"*": ("GHCR.io/org/*",)}, "spec.image"),
        ({}, "spec.image"),
    ],
)
def test_images(patterns: dict[str, tuple[str, ...]], path: str | None) -> None:
    assert refused(Rules(allowed_images=patterns)) == path


@pytest.mark.parametrize(
    ("runtimes", "path"),
    [
        ({}, "spec.security.runtime"),
        ({"other": ("runsc",)}, "spec.security.runtime"),
        ({"team": ("kata",)}, "spec.security.runtime"),
        ({"team": ("runsc",)}, None),
        ({"*": ("runsc",)}, None),
    ],
)
def test_runtimes(runtimes: dict[str, tuple[str, ...]], path: str | None) -> None:
    assert refused(Rules(allowed_runtimes=runtimes), security={"runtime": "runsc"}) == path
    assert refused(Rules(allowed_runtimes=runtimes)) is None


@pytest.mark.parametrize(
    ("ports", "path"),
    [
        ({}, "spec.ports[x].hostPort"),
        ({"team": (80,)}, "spec.ports[x].hostPort"),
        ({"other": (8080,)}, "spec.ports[x].hostPort"),
        ({"team": (8080,)}, None),
        ({"*": (8080,)}, None),
    ],
)
def test_host_ports(ports: dict[str, tuple[int, ...]], path: str | None) -> None:
    assert refused(Rules(allowed_host_ports=ports), ports=PORT) == path


@pytest.mark.parametrize(
    ("patterns", "path"),
    [
        ({}, "spec.labels[traefik.enable]"),
        ({"other": ("*",)}, "spec.labels[traefik.enable]"),
        ({"*": ("team.example/*",)}, "spec.labels[traefik.enable]"),
        ({"team": ("traefik.*",)}, None),
        ({"*": ("*",)}, None),
    ],
)
def test_labels(patterns: dict[str, tuple[str, ...]], path: str | None) -> None:
    rules = Rules(allowed_labels=patterns)
    assert refused(rules, labels={"traefik.enable": "true"}) == path
    assert refused(rules) is None


def test_a_refusal_names_the_value_and_the_setting() -> None:
    refusal = Rules().refuse("team", SandboxSpec.parse({"image": "box", "ports": PORT}))
    assert refusal is not None
    assert "8080" in refusal.message
    assert "allowed_host_ports" in refusal.message


def test_defaults_fill_what_the_spec_leaves_out() -> None:
    rules = Rules(default_limits=Limits(1000, 1 << 30, 512))
    spec = SandboxSpec.parse({"image": "box", "resources": {"limits": {"memory": "2Gi"}}})
    assert rules.limits(spec) == Limits(1000, 2 << 30, 512)
    assert Rules().limits(spec) == Limits(None, 2 << 30, None)
