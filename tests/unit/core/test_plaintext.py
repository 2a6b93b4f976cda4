"""Nothing hidden is shown: not in a message, a column or a status, nor let in by the schema."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import re2

from controller.core import names
from controller.core.crd import sandbox_schema
from controller.core.decide import decide
from controller.core.plaintext import NOT_HIDDEN, SEEN, in_url, one_line, visible
from controller.core.resources import InvalidResource, SandboxSpec, SandboxStatus
from controller.core.rules import Rules
from controller.core.subject import Subject
from controller.core.table import NOW, RUNNING, seen

HIDDEN = {
    *"\x00\n\x1b\x7f\x85\x9b\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u180f\u200b\u200d",
    *"\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\u206f\u2800\u3164\ufe00\ufe0f\ufeff",
    *"\uffa0\ufff9\ufffe\ue000\U000e0001\U000e007f\U000e0100\U000e01ef\U000f0000\U0010ffff\u0378",
}
SHOWN = "aZ0-é-ν-漢字-한-ा-😀-€-“”-"


def hidden(text: str) -> list[str]:
    """Independent of the code: categories of Unicode, and what it says to draw as nothing."""
    return [
        c for c in text if c in HIDDEN or unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"
    ]


def strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from strings(inner)
        case list() | tuple():
            for inner in value:
                yield from strings(inner)


@pytest.mark.parametrize("character", sorted(HIDDEN | {"\ud800"}), ids=ascii)
def test_what_is_hidden_shows(character: str) -> None:
    assert visible(f"a{character}b") in ("a\ufffdb", "a b")
    assert one_line(f"a{character}b") in ("a\ufffdb", "a b")
    assert in_url(f"/a{character}b").isascii()


def test_what_can_be_seen_stays() -> None:
    assert visible(SHOWN) == one_line(SHOWN) == in_url(SHOWN) == SHOWN


def test_no_code_point_at_all_is_shown_hidden() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert hidden(visible(everything)) == []


def test_the_schemas_patterns_let_nothing_in_that_would_be_replaced() -> None:
    both = re2.compile(SEEN), re2.compile(NOT_HIDDEN)
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        character = chr(code)
        accepted = all(pattern.fullmatch(character) for pattern in both)
        if unicodedata.category(character) == "Cn":
            continue  # newer tables know more of them
        assert bool(accepted) == (visible(character) == character), hex(code)


def test_a_message_is_bounded_however_long_it_was() -> None:
    assert one_line("x" * 100, 10) == "xxxxxxxxx…"
    assert len(one_line("\u202e" * 10**6)) == 8192
    assert one_line(" a\r\n\tb  c ") == "a b c"


def nodes(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, schema
    for name, node in schema.get("properties", {}).items():
        yield from nodes(node, f"{path}.{name}")
    for inside in ("items", "additionalProperties"):
        if inside in schema:
            yield from nodes(schema[inside], f"{path}[]")


DATA = {"spec.command[]", "spec.args[]", "spec.env[].value"}
"""What is passed on to the container as it is, and is shown to nobody."""
_ROOT = sandbox_schema()["properties"]
TEXTS = [
    (path, node)
    for part in ("spec", "status")
    for path, node in nodes(_ROOT[part], part)
    if (node.get("type") == "string" or node.get("x-kubernetes-int-or-string"))
    and "enum" not in node
    and node.get("format") != "date-time"
]


@pytest.mark.parametrize(("path", "node"), TEXTS, ids=[path for path, _ in TEXTS])
def test_every_text_of_the_schema_refuses_what_is_hidden(path: str, node: Any) -> None:
    if path in DATA:
        return
    patterns = [entry["pattern"] for entry in (node, *node.get("allOf", ())) if "pattern" in entry]
    assert patterns, path
    every = [re2.compile(pattern) for pattern in patterns]
    for character in HIDDEN - ({"\ufffe", "\u0378", "\U0010ffff"} if "status" in path else set()):
        for text in (character, f"a{character}b", f"/a{character}b", f"/{character}"):
            assert not all(pattern.search(text) for pattern in every), (path, ascii(text))


FIELDS: list[dict[str, Any]] = [
    {"createdByUserId": "aXb"},
    {"labels": {"k": "aXb"}},
    {"workingDir": "/aXb"},
    {"volumes": [{"name": "v", "mountPath": "/aXb", "managed": {}}]},
    {"ports": [{"name": "P", "containerPort": 1, "path": "/aXb"}]},
    {"readiness": {"httpGet": {"path": "/aXb", "port": 1}}},
    {"readiness": {"httpGet": {"path": "/", "port": "aXb"}}},
]


def filled(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value.replace("X", text)
    if isinstance(value, dict):
        return {key: filled(inner, text) for key, inner in value.items()}
    return [filled(inner, text) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_the_live_check_refuses_what_the_schema_does(field: dict[str, Any]) -> None:
    SandboxSpec.parse({"image": "i"} | filled(field, ""))
    for character in HIDDEN - {"\u0378"}:
        with pytest.raises(InvalidResource) as refused:
            SandboxSpec.parse({"image": "i"} | filled(field, character))
        assert not hidden(str(refused.value))


EVIL = "a\u202eb\u200bc\ufe0fd"


def test_a_stored_or_forged_status_loses_what_is_hidden() -> None:
    condition = {
        "status": "True",
        "reason": "Ready",
        "message": EVIL,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    forged = {
        "phase": "RUNNING",
        "sandboxSpecId": EVIL,
        "createdByUserId": EVIL,
        "exposedUrls": [{"name": "P", "url": f"http://{EVIL}", "port": 1}],
        "container": {"id": EVIL, "engineId": EVIL, "name": EVIL, "imageId": EVIL, "reason": EVIL},
        "suspended": {"reason": EVIL, "at": "2026-01-01T00:00:00Z"},
        "pausing": {"containerId": EVIL, "at": "2026-01-01T00:00:00Z"},
        "conditions": [condition | {"type": t} for t in ("Ready", "EngineReachable", "Foreign")],
    }
    read = SandboxStatus.parse(forged)
    assert read.container is not None, "that it existed must not be forgotten"
    subject = Subject.read(
        {
            "metadata": {"name": "n", "uid": "u", "finalizers": [names.FINALIZER]},
            "spec": {"image": "i"},
            "status": forged,
        }
    )
    unseen = replace(seen(None), holdings=None)
    for look in (seen(None), seen(RUNNING), unseen):
        for deleted in (None, NOW):
            meta = subject.metadata.model_copy(update={"deletion_timestamp": deleted})
            status = decide(replace(subject, metadata=meta), look, Rules(), NOW).status
            assert [t for t in strings(status.manifest()) if hidden(t)] == []
            again = decide(
                replace(subject, metadata=meta, status=status), look, Rules(), NOW
            ).status
            assert [t for t in strings(again.manifest()) if hidden(t)] == []


def test_what_is_clean_is_not_copied() -> None:
    status = SandboxStatus.parse({"phase": "RUNNING", "createdByUserId": "é b"})
    subject = Subject.read({"metadata": {"name": "n", "uid": "u"}, "spec": {"image": "i"}})
    assert decide(replace(subject, status=status), seen(None), Rules(), NOW).status is status
