"""Writes read from the API server's audit log, each told once."""

import json
from pathlib import Path
from typing import Any

from bench.audit import Audit, Write


def test_what_comes_after_a_mark_is_told(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    _log(tmp_path, verb="create", resource="secrets", name="before", code=201)
    mark = audit.mark()
    _log(tmp_path, verb="patch", resource="sandboxes", subresource="status", name="a", code=200)
    _log(tmp_path, verb="patch", resource="sandboxes", name="a", code=409)
    _log(tmp_path, verb="create", resource="events", name="a.1f", code=201)
    status, refused, event = audit.since(mark)
    assert status == Write("patch", "sandboxes/status", "a", 200)
    assert refused.code == 409
    assert event.is_event


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    with (tmp_path / "audit.log").open("a") as log:
        log.write('{"stage": "Respon')
    assert audit.since(0) == []


def _log(folder: Path, *, code: int, verb: str, **reference: Any) -> None:
    entry = {
        "stage": "ResponseComplete",
        "verb": verb,
        "objectRef": reference,
        "responseStatus": {"code": code},
    }
    with (folder / "audit.log").open("a") as log:
        log.write(json.dumps(entry) + "\n")
