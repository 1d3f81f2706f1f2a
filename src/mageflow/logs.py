"""Logs that say which run they are about: a filter and formatters for `logging`, and a set-up in one call.

mageflow itself never configures logging; its loggers are below `mageflow`.
"""

from __future__ import annotations

import logging
import os
import sys
from copy import copy
from json import dumps
from typing import IO, Any

from mageflow.errors import ConfigurationError, near
from mageflow.runtime.context import running
from mageflow.wording import iso

__all__ = ["JsonFormatter", "RunContextFilter", "TextFormatter", "configure", "for_stream"]

_FIELDS = ("run_id", "task_name", "attempt")
_OWN = frozenset({*vars(logging.makeLogRecord({})), *_FIELDS, "message", "asctime"})
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class RunContextFilter(logging.Filter):
    """Gives each record `run_id`, `task_name` and `attempt` of the run whose body is executing; None outside of one.

    Add it to a handler: a logger's own filters do not see what comes from loggers below it. What a record carries
    already stands.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        run = running.get()
        if not hasattr(record, "run_id"):
            record.run_id = run.id if run is not None else None
            record.task_name = run.task_name if run is not None else None
            record.attempt = run.attempt if run is not None else None
        return True


class TextFormatter(logging.Formatter):
    """A line for people, with the run behind it: `… INFO    app: sent  [send_email run_01k80r…, attempt 1]`.

    Args:
        color: whether levels are coloured and what is beside the message is dimmed, as a terminal shows it.
    """

    def __init__(self, *, color: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._color = color

    def formatMessage(self, record: logging.LogRecord) -> str:
        if self._color:
            record = copy(record)  # other handlers see it too
            style = _STYLES.get(record.levelno, "")
            record.levelname = f"{style}{record.levelname:<7}{_PLAIN if style else ''}"
        line = super().formatMessage(record)
        run_id, task_name, attempt = (getattr(record, name, None) for name in _FIELDS)
        if run_id is None or run_id in line:  # as in the lines of mageflow itself
            return line
        about = f"[{task_name} {run_id}, attempt {attempt}]"
        return f"{line}  {_DIM}{about}{_PLAIN}" if self._color else f"{line}  {about}"


_PLAIN, _DIM = "\x1b[0m", "\x1b[2m"
_STYLES = {
    logging.DEBUG: _DIM,
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}


def for_stream(stream: IO[str]) -> TextFormatter:
    """Give the formatter for a stream: with colours on a terminal, unless the environment sets NO_COLOR."""
    return TextFormatter(color=stream.isatty() and not os.environ.get("NO_COLOR"))


class JsonFormatter(logging.Formatter):
    """A JSON object a line: `time` (ISO 8601, UTC), `level`, `logger`, `message`; of a run `run_id`, `task_name` and
    `attempt`; what the call gave as `extra=`; `exception`, the traceback, where there is one.

    A value that has no JSON form is written as its `str`.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": iso(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        entry |= {name: value for name, value in vars(record).items() if name not in _OWN and name not in entry}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return dumps(entry, ensure_ascii=False, default=str)


class _Handler(logging.StreamHandler[Any]):
    """What `configure` put up: a later call replaces it."""


def configure(level: int | str = "INFO", *, json: bool = False, stream: IO[str] | None = None) -> None:
    """Log to stderr, with the run that a record is about, from all loggers of the program.

    Handlers that others have put up stay; another call replaces what this one did.

    Args:
        level: of the root logger: a name or a number of `logging`.
        json: a JSON object a line, instead of a line for people (with colours, on a terminal).
        stream: where to write instead of stderr.

    Raises:
        ConfigurationError: there is no such level.
    """
    named = level.upper() if isinstance(level, str) else level
    if isinstance(named, str) and named not in _LEVELS:
        raise ConfigurationError(f"level={level!r} does not exist{near(named, _LEVELS)}; give one of {_LEVELS}")
    out: IO[str] = stream if stream is not None else sys.stderr
    handler = _Handler(out)
    handler.setFormatter(JsonFormatter() if json else for_stream(out))
    handler.addFilter(RunContextFilter())
    root = logging.getLogger()
    for present in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(present)
    root.addHandler(handler)
    root.setLevel(named)
