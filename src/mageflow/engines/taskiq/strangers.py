"""Runs of tasks that this process does not know: Taskiq's receiver would acknowledge their messages, and forget them.

While workers of an older release are there, every second message of a new task may come to one of them. A message of
ours is therefore given a task that hands the run back, and a worker that knows it gets it a moment later. Messages that
are Taskiq's own have the fate that Taskiq gives them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, BrokerMessage, TaskiqMessage
from taskiq.abc.formatter import TaskiqFormatter

from mageflow.engines.taskiq.crossing import RUN_LABEL, crossed

__all__ = ["take_in_strangers"]

_read: ContextVar[list[str] | None] = ContextVar("mageflow_taskiq_read", default=None)
"""The name of the task of the run that was just read, until it was looked up."""


def take_in_strangers(broker: AsyncBroker) -> None:
    """Let the broker find a task for every run; its formatter and its `find_task` are replaced on this instance."""
    find, strangers = broker.find_task, dict[str, AsyncTaskiqDecoratedTask[Any, Any]]()

    def find_task(task_name: str) -> AsyncTaskiqDecoratedTask[Any, Any] | None:
        found, read = find(task_name), _read.get()
        is_runs = read is not None and bool(read) and read.pop() == task_name
        if is_runs and found is None:
            return strangers.setdefault(task_name, _stranger(broker, task_name))
        return found

    owner: Any = broker  # a checker would not let a method be replaced
    owner.find_task = find_task
    broker.formatter = _Reading(broker.formatter)


class _Reading(TaskiqFormatter):
    """Notes what it has read, for the look-up that follows it."""

    def __init__(self, formatter: TaskiqFormatter) -> None:
        self._formatter = formatter

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        return self._formatter.dumps(message)

    def loads(self, message: bytes) -> TaskiqMessage:
        loaded = self._formatter.loads(message)
        _read.set([loaded.task_name] if RUN_LABEL in loaded.labels else None)
        return loaded


def _stranger(broker: AsyncBroker, name: str) -> AsyncTaskiqDecoratedTask[Any, Any]:
    async def unknown() -> None:
        """Nothing calls it: what is behind `crossed` is only reached by messages that carry no run."""

    return AsyncTaskiqDecoratedTask[Any, Any](broker, name, crossed(name, unknown), labels={})
