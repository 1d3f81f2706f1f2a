"""What a worker logs of the attempts that it makes.

Levels are chosen so that a log does not drown. At WARNING, which a program that configured nothing sees on stderr too,
it has what somebody must act on: a run that failed for good. At INFO it has what did not go as it should, an attempt
that another one follows. Beginnings and successes are DEBUG.
"""

from __future__ import annotations

import logging
from typing import Any

from mageflow.core.records import RunRecord
from mageflow.core.status import RunStatus
from mageflow.runtime.quotes import without_quotes
from mageflow.wording import printable

__all__ = ["Logbook"]

logger = logging.getLogger("mageflow.runs")

_LONGEST_LINE = 500


class Logbook:
    """Logs the beginning and the end of attempts.

    Args:
        messages: whether to log what may hold users' data: messages, results, and failures in full.
    """

    def __init__(self, *, messages: bool = False) -> None:
        self._messages = messages

    def begin(self, run: RunRecord) -> None:
        """Log that an attempt begins."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("run %s of %r begins, attempt %d", run.key, run.task, run.attempt, extra=_fields(run))

    def end(self, run: RunRecord, after: RunRecord) -> None:
        """Log what the attempt `run` came to: `after` is the run as it was committed."""
        level = _LEVELS.get(after.status, logging.INFO)
        if after.status is RunStatus.FAILED and _failed_now(run, after):
            level = logging.ERROR
        if not logger.isEnabledFor(level):
            return
        ended_at = after.ended_at if after.status.is_terminal else after.waits_since
        seconds = max(0.0, (ended_at or 0.0) - (run.started_at or 0.0))
        extra = _fields(run) | {"status": after.status.value, "seconds": round(seconds, 6)}
        if self._messages:
            extra |= _contents(after)
        took = f"attempt {run.attempt}, {seconds:.3f} s"
        logger.log(level, "run %s of %r %s (%s)", run.key, run.task, self._said(run, after), took, extra=extra)

    def _said(self, run: RunRecord, after: RunRecord) -> str:
        if _failed_now(run, after) and after.failure is not None:
            failure = after.failure
            why = f"{failure.type}: {failure.message if self._messages else _told(after)}"
            if after.status is RunStatus.FAILED:
                return f"failed: {why}"
            pause = f"in {after.due_at - (after.waits_since or after.due_at):.1f} s"
            held = after.status is RunStatus.SUSPENDED
            return f"failed and is {'held' if held else f'tried again {pause}'}: {why}"
        return _SAID.get(after.status, "is handed back")


_LEVELS = {RunStatus.SUCCEEDED: logging.DEBUG}
_SAID = {
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "was cancelled",
    RunStatus.INTERRUPTED: "was interrupted",
    RunStatus.SUSPENDED: "is held",
}


def _told(run: RunRecord) -> str:
    """Give what may be told of a failure's text: its first line, without what that quotes of the message.

    What follows the first line, as in Pydantic's errors, often quotes more than values.
    """
    assert run.failure is not None
    first = run.failure.message.partition("\n")[0]
    return printable(without_quotes(first, run.message if run.message is not None else run.sent)[:_LONGEST_LINE])


def _failed_now(run: RunRecord, after: RunRecord) -> bool:
    return after.failures > run.failures and after.status is not RunStatus.SUCCEEDED


def _fields(run: RunRecord) -> dict[str, Any]:
    return {"run_id": run.key, "task_name": run.task, "attempt": run.attempt}


def _contents(run: RunRecord) -> dict[str, Any]:
    contents: dict[str, Any] = {}
    if run.message is not None:
        contents["run_message"] = bytes(run.message).decode()
    if run.result is not None:
        contents["run_result"] = bytes(run.result).decode()
    if run.failure is not None:
        contents["run_traceback"] = run.failure.traceback
    return contents
