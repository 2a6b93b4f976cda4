"""Logging: one line an entry, plain or JSON, to standard error.

kopf and the HTTP libraries are kept to warnings: at their debug level they log whole objects and
headers, which may hold keys. That holds at every level of ours.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure(level: str, form: Literal["plain", "json"]) -> None:
    """Set up the process's logging. `level` is a name out of `logging`, lower case."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Json()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("controller").setLevel(level.upper())
    logging.getLogger("kopf").setLevel(logging.ERROR)
