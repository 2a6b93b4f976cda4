"""Any text is an id: its object's name is valid, and reads back."""

import base64
import hashlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.client.ids import annotations_of, id_of, object_name
from controller.core.names import ID_ANNOTATION

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""As the CRD's rule on metadata.name says."""


@pytest.mark.parametrize("sandbox_id", ["a", "5", "a-b", "0f" * 26, "id", "idle"])
def test_a_short_dns_label_is_the_name(sandbox_id: str) -> None:
    assert object_name(sandbox_id) == sandbox_id
    assert annotations_of(sandbox_id) == {}


@pytest.mark.parametrize(
    ("sandbox_id", "name"),
    [
        ("Abc", "id-ifrgg"),
        ("abc\n", "id-mfrggcq"),
        ("id-abc", "id-nfsc2ylcmm"),
        ("-", "id-fu"),
        ("é", "id-youq"),
        ("A" * 37, "id-" + base64.b32encode(b"A" * 37).decode().rstrip("=").lower()),
    ],
)
def test_any_other_is_base32(sandbox_id: str, name: str) -> None:
    assert object_name(sandbox_id) == name
    assert annotations_of(sandbox_id) == {}


@pytest.mark.parametrize("sandbox_id", ["", "a" * 53, "A" * 38, "é" * 19])
def test_what_is_too_long_is_its_sha_256(sandbox_id: str) -> None:
    digest = hashlib.sha256(sandbox_id.encode()).digest()
    assert object_name(sandbox_id) == "id-" + base64.b32encode(digest).decode().strip("=").lower()
    assert annotations_of(sandbox_id) == {ID_ANNOTATION: sandbox_id}


@given(st.text(max_size=100))
@example("id-")
@example("a" * 52)
@example("a" * 53)
@example("A" * 37)
@example("A" * 38)
def test_an_id_comes_back_from_its_object(sandbox_id: str) -> None:
    name = object_name(sandbox_id)
    assert NAME.fullmatch(name)
    assert id_of(name, annotations_of(sandbox_id)) == sandbox_id


@given(st.text(), st.text())
def test_two_ids_never_read_as_one(one: str, other: str) -> None:
    found = id_of(object_name(one), annotations_of(one))
    assert (found == other) == (one == other)


@given(st.from_regex(NAME, fullmatch=True), st.none() | st.text())
def test_an_id_that_is_read_leads_to_the_object(name: str, noted: str | None) -> None:
    found = id_of(name, {} if noted is None else {ID_ANNOTATION: noted})
    assert found is None or object_name(found) == name


@pytest.mark.parametrize("name", ["id-", "id-not-base32", "id-mzxw6", "id-ifrggA", "a" * 53])
def test_an_object_named_outside_the_rule_has_no_id(name: str) -> None:
    assert id_of(name, {}) is None


def test_a_forged_annotation_is_not_believed() -> None:
    assert id_of(object_name("a" * 60), {ID_ANNOTATION: "b" * 60}) is None
    assert id_of("plain", {ID_ANNOTATION: "other"}) is None


def test_what_is_no_text_finds_nothing_and_does_not_fail() -> None:
    assert NAME.fullmatch(object_name("\ud800"))
