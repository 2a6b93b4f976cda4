"""Logging: one line an entry, and nothing of what libraries would tell."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import uvloop

from controller import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers = handlers
    sys.excepthook, threading.excepthook = hooks
    root.setLevel(level)
    for name in ("controller", "kopf"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logging.getLogger("controller.x").info("two\nlines of %s", "text")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"]) == ("info", "controller.x")
    assert entry["message"] == "two lines of text"


def test_json_holds_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("controller.x").exception("failed")
    assert "ValueError" in json.loads(capsys.readouterr().err)["traceback"]


def _fail(key: str) -> None:
    try:
        dict[str, str]()[key]
    except KeyError:
        try:
            int(key)
        except ValueError as error:
            raise ExceptionGroup(f"of {key}", [error, RuntimeError(key)]) from error


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_traceback_tells_places_and_no_values(
    form: Literal["plain", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug", form)
    key = "hunter2-hunter2"
    try:
        _fail(key)
    except ExceptionGroup as error:
        logging.getLogger("controller.x").exception("failed")
        logging.getLogger("asyncio").error("failed", exc_info=error)
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=_fail, args=[key])
    thread.start()
    thread.join()
    told = capsys.readouterr().err
    assert "hunter2" not in told
    for what in ("KeyError", "ValueError", "ExceptionGroup", "RuntimeError"):
        assert told.count(f"builtins.{what}") >= 4, what
    assert told.count("in _fail") >= 4 * 3
    assert "int(key)" in told, "the place, as it is written"


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


def test_errors_that_cause_each_other_are_told_once() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert logs.where(first).count("ValueError") == 1


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_asyncio_tells_of_lost_errors_holds_no_values(
    make_loop: Callable[[], asyncio.AbstractEventLoop], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug", "plain")
    planted = "-".join(("a", "planted", "value"))  # a traceback shows the lines of the source

    def throw(value: str) -> None:
        raise KeyError(value)

    async def fail() -> None:
        throw(planted)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.lost)
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()
        loop.call_soon(throw, planted)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    told = capsys.readouterr().err
    assert "Task exception was never retrieved" in told
    assert "Exception in callback" in told
    assert told.count("builtins.KeyError") == 2
    assert planted not in told
