"""Whether a text repeats a secret."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest

from controller.core.discretion import MIN_LENGTH, repeats

AWKWARD = 'a"b&c<d>\\e\nf=g/h i+jé\u2028'


@pytest.mark.parametrize("value", ["only-letters-and-hyphens_1", AWKWARD])
@pytest.mark.parametrize(
    "written",
    [
        str,
        repr,
        json.dumps,
        lambda value: json.dumps({"Env": [f"A={value}"]}),
        lambda value: json.dumps(json.dumps(value, ensure_ascii=False)),
        lambda value: (
            json.dumps(value, ensure_ascii=False)
            .replace("&", "\\u0026")
            .replace("<", "\\u003c")
            .replace(">", "\\u003e")
            .replace("\u2028", "\\u2028")
        ),
        quote,
        lambda value: urlencode({"key": value}),
        lambda value: b64encode(value.encode()).decode(),
        lambda value: urlsafe_b64encode(value.encode()).decode(),
        lambda value: " ".join(value.split()),
    ],
)
def test_it_is_found_however_it_is_written(value: str, written: Callable[[str], str]) -> None:
    assert repeats(f"refused: {written(value)} is not allowed", {"another", value})


def test_a_long_piece_is_found_whatever_was_done_to_the_rest() -> None:
    assert repeats('["A=a long\\\\\\nkey0123456789ab"]', {"a long\nkey0123456789ab"})
    assert not repeats("the key is too long", {"a long\nkey0123456789ab"})


def test_what_is_not_there_is_not_found() -> None:
    assert not repeats("refused: the image is not there", {"a-long-secret", "another"})
    assert not repeats("", {"a-long-secret"})
    assert not repeats("anything", ())


def test_what_is_in_many_texts_by_chance_is_none() -> None:
    assert not repeats("port 8000 is in use", {"8000", "", "in"})
    assert repeats("x" * MIN_LENGTH, {"x" * MIN_LENGTH})
