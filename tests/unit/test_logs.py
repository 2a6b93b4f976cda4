"""Logging: one line an entry, and nothing of what libraries would tell."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from controller import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name in ("controller", "kopf"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logging.getLogger("controller.x").info("two\nlines of %s", "text")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"]) == ("info", "controller.x")
    assert entry["message"] == "two\nlines of text"


def test_json_holds_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("controller.x").exception("failed")
    assert "ValueError: why" in json.loads(capsys.readouterr().err)["traceback"]


def test_plain_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "plain")
    logging.getLogger("controller.x").info("hidden")
    logging.getLogger("controller.x").warning("shown")
    out, err = capsys.readouterr()
    assert (out, "hidden" in err, "shown" in err) == ("", False, True)


@pytest.mark.parametrize("library", ["kopf", "aiohttp", "docker", "kubernetes", "urllib3"])
def test_libraries_tell_no_details_at_any_level(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At debug they log headers and whole objects: keys among them."""
    logs.configure("debug", "plain")
    logging.getLogger(f"{library}.deep.inside").debug("Authorization: Bearer hush")
    logging.getLogger(library).info("hush")
    assert capsys.readouterr().err == ""
