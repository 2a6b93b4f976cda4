"""The search for planted secrets finds them: without this, finding none would say nothing."""

from __future__ import annotations

import json
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest

from tests.integration.planted import Search, plant

VALUES = [plant("a key"), secrets.token_urlsafe(32)]


@pytest.mark.parametrize("value", VALUES, ids=["awkward", "plain"])
@pytest.mark.parametrize(
    "hide",
    [
        str,
        repr,
        quote,
        quote_plus,
        json.dumps,
        lambda value: json.dumps({"Env": [f"A={value}"]}),
        lambda value: json.dumps(json.dumps({"Env": [f"A={value}"]})),
        lambda value: json.dumps({"Env": [value]}, ensure_ascii=False),
        lambda value: urlencode({"token": value}),
        lambda value: b64encode(value.encode()).decode(),
        lambda value: b64encode(f"A={value}&".encode()).decode(),
        lambda value: b64encode(f"AB={value}".encode()).decode(),
        lambda value: urlsafe_b64encode(f"user:{value}".encode()).decode().rstrip("="),
        lambda value: value.encode().hex(),
        lambda value: value[::-1],
        lambda value: value[: len(value) // 2],
        lambda value: value[len(value) // 2 :],
        lambda value: str(value.encode()),
    ],
)
def test_it_finds_a_secret_in_every_form(value: str, hide: Callable[[str], str]) -> None:
    other = Search({"other": plant("other")})
    text = f"2026-01-01 INFO create failed: {hide(value)}: no\n" * 2
    found = Search({"it": value}).found(text)
    assert found, text
    assert all(what.startswith("it, ") for what in found)
    assert other.found(text) == set()


@pytest.mark.parametrize("value", VALUES, ids=["awkward", "plain"])
def test_it_finds_none_where_none_is(value: str) -> None:
    search = Search({"it": value})
    assert search.found("") == set()
    assert search.found("a key of the user in Secret it, users-key, 0123456789abcdef") == set()
    assert search.found(plant("a key") + secrets.token_urlsafe(32)) == set()
