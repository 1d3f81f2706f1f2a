"""Where a message of ours leaves Taskiq's way: before the body, after Taskiq has resolved what it injects.

A message of ours carries a run's id as a label and no arguments. A middleware sees the label and notes it in the
context of the delivery; the task's function stands behind a wrapper that takes the note, once, and has the run
executed in the place of the function. Without a note the wrapper is the function: calls that are Taskiq's own, and the
calls of one body by another, are what they were.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError

__all__ = ["RUN_LABEL", "Crossing", "crossed"]

RUN_LABEL = "mageflow_run"

Bring = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
"""Executes the run of a task, by its name and id, with what Taskiq injects, and gives what Taskiq is told."""


class _Note:
    """That the delivery under way is a run's."""

    __slots__ = ("bring", "run", "taken", "task")

    def __init__(self, task: str, run: str, bring: Bring) -> None:
        self.task = task
        self.run = run
        self.bring = bring
        self.taken = False


_note: ContextVar[_Note | None] = ContextVar("mageflow_taskiq_note", default=None)


class Crossing(TaskiqMiddleware):
    """Notes which deliveries are runs, and keeps their outcome from Taskiq's result backend: it is in the store.

    Args:
        bring: executes a run.
    """

    def __init__(self, bring: Bring) -> None:
        super().__init__()
        self._bring = bring

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        run = message.labels.get(RUN_LABEL)
        _note.set(_Note(message.task_name, str(run), self._bring) if run is not None else None)
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        if RUN_LABEL in message.labels:
            result.error = NoResultError()


def crossed(name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give what stands in the place of a task's function."""
    if inspect.iscoroutinefunction(fn):

        @wraps(fn)
        async def begin(*args: Any, **kwargs: Any) -> Any:
            note = _take(name)
            return await (fn(*args, **kwargs) if note is None else note.bring(name, note.run, kwargs))

        return begin

    @wraps(fn)
    def begin_sync(*args: Any, **kwargs: Any) -> Any:
        note = _take(name)
        # The receiver calls this in a thread and awaits what is given on its loop: runs need no thread of Taskiq's.
        return fn(*args, **kwargs) if note is None else note.bring(name, note.run, kwargs)

    return begin_sync


def _take(name: str) -> _Note | None:
    note = _note.get()
    if note is None or note.taken or note.task != name:
        return None
    note.taken = True
    return note
