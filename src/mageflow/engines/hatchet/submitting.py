"""Handing rows to Hatchet: in bulk, by name, and as no child of what runs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from hatchet_sdk import Hatchet, TriggerWorkflowOptions, WorkflowRunTriggerConfig

from mageflow.engines.hatchet.envelope import Envelope
from mageflow.ports.engine import Refused, Submission, WhyRefused

__all__ = ["LIMIT", "Submitter"]

logger = logging.getLogger("mageflow.hatchet")

T = TypeVar("T")

LIMIT = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of an input: Hatchet takes 4 MiB of everything that a submit says of a run."""
_THREADS = 5
"""As many calls as the relay has under way, and one for cancels."""
_LOOKED_AT = 100
"""Names are looked up by a search that gives near ones too."""


class Submitter:
    """Submits rows by the blocking calls of the SDK, in threads of its own.

    The awaitable ones share a lock among all event loops of a process, and some calls of the SDK wait for it. A bulk
    call returns when the server has sent the last of its runs to a worker, which may be seconds.

    Args:
        hatchet: the client as the user gave it.
    """

    def __init__(self, hatchet: Hatchet) -> None:
        self._hatchet = hatchet
        self._threads: ThreadPoolExecutor | None = None
        self._known: set[str] = set()
        self._bulk: Any = None

    async def submit(self, submissions: Sequence[Submission]) -> list[Refused]:
        """Submit rows, and give those that Hatchet would drop, or refuse at each try."""
        return await self._call(lambda: self._submit(submissions))

    async def cancel(self, ref: str) -> None:
        """Cancel a run of Hatchet."""
        await self._call(lambda: self._hatchet.runs.cancel(ref))

    def know(self, names: Sequence[str]) -> None:
        """Take it that a worker of this process has registered these names."""
        self._known.update(names)

    def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    async def _call(self, call: Callable[[], T]) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="mageflow-hatchet")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, contextvars.Context().run, call)

    def _submit(self, submissions: Sequence[Submission]) -> list[Refused]:
        refused: list[Refused] = []
        items: list[WorkflowRunTriggerConfig] = []
        for each in submissions:
            problem = self._problem(each)
            if problem is not None:
                refused.append(problem)
                continue
            message: Any = msgspec.json.decode(each.message) if each.message is not None else {}
            text = Envelope(each.row.run, message).to_json()
            if len(text.encode()) > LIMIT:
                refused.append(_too_large(each, len(text)))
                continue
            options = TriggerWorkflowOptions(priority=each.row.priority)
            items.append(WorkflowRunTriggerConfig(workflow_name=each.row.task, input=text, options=options))
        if items:
            self._all_names().run_many(items, wait_for_result=False)
        return refused

    def _all_names(self) -> Any:
        """Give a workflow to submit by. Its name says nothing, each item has its own; it is registered nowhere."""
        if self._bulk is None:
            self._bulk = self._hatchet.workflow(name="mageflow-submit")
        return self._bulk

    def _problem(self, submission: Submission) -> Refused | None:
        name = submission.row.task
        if name in self._known:
            return None
        if not self._is_registered(name):
            text = f"Hatchet knows no task {name!r}; it will when a worker that has it is started"
            return Refused(submission.row, WhyRefused.UNKNOWN_TASK, text)
        self._known.add(name)
        return None

    def _is_registered(self, name: str) -> bool:
        """Whether Hatchet knows a name. It takes a submit of one that it does not know, and drops it."""
        full = self._hatchet.config.apply_namespace(name)
        try:
            found = self._hatchet.workflows.list(workflow_name=full, limit=_LOOKED_AT)
        except Exception as error:  # noqa: BLE001 - the search goes another way than submits do, and may be closed
            logger.warning("Hatchet could not be asked whether it knows the task %r (%s); taken for known", name, error)
            return True
        return any(row.name == full for row in found.rows or ())


def _too_large(submission: Submission, size: int) -> Refused:
    text = (
        f"the message of task {submission.row.task!r} has {size} bytes, and Hatchet takes {LIMIT}: an expression of "
        "the task reads input.…, so that Hatchet must be given it. Pass a reference to the data instead"
    )
    return Refused(submission.row, WhyRefused.UNFIT, text)
