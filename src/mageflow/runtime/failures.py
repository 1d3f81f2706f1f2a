"""What is kept of an exception: its type, its message, and its traceback from the body on."""

from __future__ import annotations

import traceback
from collections.abc import Collection

from mageflow.core.records import Failure, RunRecord

__all__ = ["failure_of"]

_LONGEST_TRACEBACK = 20_000


def failure_of(run: RunRecord, error: BaseException, callers: Collection[str]) -> Failure:
    """Give what is kept of an exception that ended an attempt.

    Args:
        run: the run.
        error: the exception.
        callers: files whose frames say nothing to the author of the body: those that called it.
    """
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - it is the user's, and may raise anything
        message = f"(its message cannot be shown: {type(broken).__name__} in __str__)"
    return Failure(
        type=type(error).__name__,
        message=message or repr(type(error)),
        traceback=_trace(error, callers),
        attempt=run.attempt,
    )


def _trace(error: BaseException, callers: Collection[str]) -> str:
    """Give the traceback from the body's own frame on: the frames that called it say nothing to its author."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename in callers:
        frame = frame.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frame))
    except Exception as broken:  # noqa: BLE001 - it prints what is the user's
        return f"(its traceback cannot be shown: {type(broken).__name__})"
    if len(text) > _LONGEST_TRACEBACK:
        half = _LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return text
