"""Logging: one line an entry, plain or JSON, to standard error.

kopf and the HTTP libraries are kept to warnings: at their debug level they log whole objects and
headers, which may hold keys. That holds at every level of ours. A traceback tells types and places
and leaves the exceptions' texts out: a KeyError's is the key, a ValueError's often the value. What
is safe to tell of an error that is expected, the one who logs it puts into the message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, Literal

from controller.core.plaintext import one_line


class _Discreet(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        # Names of objects are others' words, and one entry is one line.
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return where(ei[1])


class _Json(_Discreet):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage()),
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
        else _Discreet("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("controller").setLevel(level.upper())
    logging.getLogger("kopf").setLevel(logging.ERROR)
    # It logs what a credential plugin wrote to its standard error.
    logging.getLogger("kubernetes").setLevel(logging.CRITICAL)
    sys.excepthook = _uncaught
    threading.excepthook = lambda end: _uncaught(end.exc_type, end.exc_value, end.exc_traceback)


def lost(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: asyncio's own quotes the exception, and arguments."""
    error = context.get("exception")
    message = str(context.get("message", "")).partition("(")[0].partition("<")[0].strip()
    logging.getLogger("asyncio").error(
        "%s", message, exc_info=error if isinstance(error, BaseException) else None
    )


def where(error: BaseException | None) -> str:
    """Types and places of an exception and of what caused it, the cause first; no texts."""
    chain: list[str] = []
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = "".join(traceback.format_tb(error.__traceback__))
        chain.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}")
        chain += (f"with {where(e)}" for e in getattr(error, "exceptions", ()))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nled to\n".join(reversed(chain))


def _uncaught(
    kind: type[BaseException], error: BaseException | None, frames: TracebackType | None
) -> None:
    if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        logging.getLogger("controller").critical("uncaught", exc_info=(kind, error, frames))
