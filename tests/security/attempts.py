"""A hostile manifest: what it tries, and what must become of it.

REFUSED  the API server says 4xx, whether it is asked to be strict or not
PRUNED   strict, it says 400; else it drops the field, and what is made is harmless
DROPPED  strict, it says 400; else it drops the field, and refuses what is left
HARMLESS it is made, and can do no more than any other
TOLD     it is accepted, never runs, and a condition says why
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tests.integration.operator import Json
from tests.security.attacker import manifest
from tests.security.bystanders import Bystanders


class Outcome(Enum):
    REFUSED = auto()
    PRUNED = auto()
    DROPPED = auto()
    HARMLESS = auto()
    TOLD = auto()


REFUSED, PRUNED, DROPPED = Outcome.REFUSED, Outcome.PRUNED, Outcome.DROPPED
HARMLESS, TOLD = Outcome.HARMLESS, Outcome.TOLD


@dataclass(frozen=True)
class Attempt:
    """One manifest. `words` must occur in the refusal, or in the condition's message."""

    title: str
    outcome: Outcome
    words: str
    make: Callable[[str, Bystanders], Json | str]
    """Of its name, and those who are attacked."""


def spec(title: str, outcome: Outcome, words: str = "", **fields: Any) -> Attempt:
    """An attempt by fields of spec. `...` leaves a field out."""
    return Attempt(title, outcome, words, lambda name, _: manifest(name, fields))


def metadata(title: str, outcome: Outcome, words: str = "", **fields: Any) -> Attempt:
    """An attempt by fields of metadata."""
    return Attempt(title, outcome, words, lambda name, _: manifest(name, {}, **fields))


def volume(**fields: Any) -> Json:
    return {"volumes": [{"name": "v", "mountPath": "/v"} | fields]}


def mount(path: str) -> Json:
    return volume(mountPath=path, managed={})


def port(**fields: Any) -> Json:
    return {"ports": [{"name": "V", "containerPort": 8000} | fields]}


def variable(**fields: Any) -> Json:
    return {"env": [{"name": "V"} | fields]}


def probe(**fields: Any) -> Json:
    # Without a command, busybox serves on 8000.
    return port() | {"command": ..., "readiness": {"httpGet": {"port": "V"} | fields}}


def limit(**fields: Any) -> Json:
    return {"resources": {"limits": fields}}
