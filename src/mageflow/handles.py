"""What a caller holds of a run: look, wait, stop, try again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar, cast

import msgspec

from mageflow.config import SwarmConfig
from mageflow.core.members import Form
from mageflow.core.options import DEFAULT_PRIORITY
from mageflow.core.records import Control, RunRecord
from mageflow.core.status import RunStatus
from mageflow.drawing import Drawing, draw_run
from mageflow.errors import MageflowError, OptionError, RunCancelledError, RunFailedError, RunNotFoundError
from mageflow.models.message import Outcome, TaskFailure
from mageflow.models.run import Progress, RunInfo
from mageflow.ports.store import Filter, Page
from mageflow.runtime.gathering import failure_fields
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.shapes import load_result
from mageflow.runtime.transaction import refuse_to_wait

__all__ = ["RunHandle", "RunPage", "progress_of"]

R = TypeVar("R")


def _status_at(record: RunRecord, now: float) -> RunStatus:
    """Give the status that a person should see: a scheduled run whose time has come is queued."""
    if record.status is RunStatus.SCHEDULED and record.due_at <= now:
        return RunStatus.QUEUED
    return record.status


class RunHandle(Generic[R]):
    """One run: its id, and what can be asked of it.

    Every question reads the store, but for `seen`: that is the run as it was when the handle last read it.
    """

    def __init__(self, kernel: Kernel, record: RunRecord, now: float | None = None) -> None:
        self._kernel = kernel
        self._record = record
        self._now = now if now is not None else record.created_at

    @property
    def id(self) -> str:
        """The run's id."""
        return self._record.key

    @property
    def workflow_run_id(self) -> str:
        """The run's id, under Hatchet's name."""
        return self._record.key

    @property
    def task_name(self) -> str:
        """The name of the task that it runs."""
        return self._record.task

    @property
    def created_at(self) -> datetime:
        """When it was started."""
        return datetime.fromtimestamp(self._record.created_at, UTC)

    def __repr__(self) -> str:
        return f"<RunHandle {self.id} of {self.task_name!r}>"

    @property
    def seen(self) -> RunInfo:
        """The run as it was when this handle last read it."""
        return _info(self._record, self._now)

    async def info(self) -> RunInfo:
        """Read the run and give all that there is to see of it.

        Raises:
            RunNotFoundError: if it has expired.
        """
        await self._read()
        return self.seen

    async def _read(self) -> RunRecord:
        found = await self._kernel.run(self.id)
        if found is None:
            raise RunNotFoundError(
                f"the run {self.id} is gone: finished runs are kept for ttl_when_sign_done, 3 hours unless set",
                run_id=self.id,
            )
        self._record = found
        self._now = await self._kernel.store.now()
        return found

    async def status(self) -> RunStatus:
        """Give the run's status now."""
        await self._read()
        return _status_at(self._record, self._now)

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the end and give what the task returned.

        Args:
            timeout: seconds to wait; None: as long as it takes.

        Raises:
            RunFailedError: the run failed; its `failure` says why.
            RunCancelledError: the run was cancelled.
            TimeoutError: it has not ended in time; the run goes on.
        """
        refuse_to_wait(self._kernel.store, self.id)
        ended = await self._kernel.waiting.ended(self.id, timeout)
        if ended.status is RunStatus.CANCELLED:
            raise RunCancelledError(f"run {self.id} of task {ended.task!r} was cancelled", run_id=self.id)
        if ended.status is RunStatus.FAILED:
            failure = TaskFailure(**await self._kernel.gathering.failure(ended))
            raise RunFailedError(
                f"run {self.id} of task {ended.task!r} failed: {failure.type}: {failure.message}",
                run_id=self.id,
                failure=failure,
            )
        return cast(R, await self._kernel.gathering.value(ended, self._read_value))

    async def aio_result(self) -> R:
        """Wait for the end and give what the task returned: Hatchet's name for `result()`."""
        return await self.result()

    async def outcome(self, timeout: float | None = None) -> Outcome[R]:
        """Wait for the end and give its `Outcome`, whichever it is.

        Raises:
            TimeoutError: it has not ended in `timeout` seconds; the run goes on.
        """
        refuse_to_wait(self._kernel.store, self.id)
        ended = await self._kernel.waiting.ended(self.id, timeout)
        fields = await self._kernel.gathering.outcome(ended, self._read_value)
        value = fields.pop("value")
        outcome = Outcome[Any](**fields)
        outcome.value = value
        return cast("Outcome[R]", outcome)

    def _read_value(self, ended: RunRecord) -> Any:
        """Give a task's result as its return annotation has it, where the task is known here and it fits."""
        if ended.result is None:
            return None
        task = self._kernel.registry.find(ended.task)
        if task is None:
            return msgspec.json.decode(ended.result)
        return load_result(bytes(ended.result), task.body.returns)

    async def events(self) -> AsyncGenerator[RunInfo]:
        """Give the run as it is now, and again after each change that is seen, until it has ended.

        Changes that follow each other at once may be seen as one; the last one that is given is the end.

        Raises:
            RunNotFoundError: the run has expired.
        """
        refuse_to_wait(self._kernel.store, self.id)
        async with aclosing(self._kernel.waiting.changes(self.id)) as changes:
            async for record in changes:
                yield _info(record, await self._kernel.store.now())

    async def settled(self, timeout: float | None = None) -> None:
        """Wait until this run and all that it caused have ended: its callbacks, their callbacks, and so on.

        Raises:
            TimeoutError: that has not come in `timeout` seconds.
        """
        refuse_to_wait(self._kernel.store, self.id)
        await self._kernel.waiting.settled(await self._read(), timeout)

    async def caused(self, *, limit: int = 50, cursor: str | None = None) -> RunPage:
        """List the runs that the end of this one started, its callbacks', newest first.

        Args:
            limit: how many at most.
            cursor: where to go on: the `cursor` of the page before.
        """
        self._kernel.check_open()
        page = await self._kernel.store.query(Filter(cause=self.id), limit=limit, cursor=cursor)
        return RunPage.of(self._kernel, page, await self._kernel.store.now())

    async def cancel(self) -> None:
        """Cancel the run and all that it leads to. Done callbacks fire; success and error callbacks do not.

        A run that has ended stays as it is; what it caused is cancelled. Repeating it changes nothing.
        """
        await self._kernel.control_run(self.id, Control.CANCEL)

    async def suspend(self) -> None:
        """Hold what has not begun: this run, or, where it runs or has ended, what follows it."""
        await self._kernel.control_run(self.id, Control.SUSPEND)

    async def interrupt(self) -> None:
        """Hold what has not begun and stop what runs; a stopped body runs again from its beginning on `resume`."""
        await self._kernel.control_run(self.id, Control.INTERRUPT)

    async def resume(self, *, max_concurrency: int | None = None) -> None:
        """Let what was suspended or interrupted go on. Nothing that succeeded runs again.

        Args:
            max_concurrency: of a swarm: how many of its members may be live at once from now on.

        Raises:
            OptionError: this is no run of a swarm, or no such window is possible.
        """
        if max_concurrency is not None:
            if self._record.form is not Form.SWARM:
                raise OptionError(
                    f"max_concurrency= is for swarms, and run {self.id} is one of the {self._record.form} "
                    f"{self.task_name!r}",
                    option="max_concurrency",
                )
            await self._kernel.membership.resize_run(
                self.id, SwarmConfig(max_concurrency=max_concurrency).max_concurrency
            )
        await self._kernel.control_run(self.id, Control.NONE)

    async def draw(self) -> Drawing:
        """Draw the run, its members and its callbacks, as they are now; `print` it, or take its `svg`.

        It is bounded: what is left out is named in it.
        """
        self._kernel.check_open()
        return await draw_run(self._kernel, self.id)

    async def retry(self) -> RunHandle[R]:
        """Start the ended run anew, with the message it received; give the new run.

        Asked twice, it gives the same new run twice.

        Raises:
            MageflowError: the run has not ended.
            SignatureNotFoundError: it never received its message, and the signature to make it from is gone.
        """
        again = await self._kernel.retry(self.id)
        if again is None:
            status = await self.status()
            if status.is_terminal:
                await self._kernel.require_signature(self._record.signature)
            raise MageflowError(f"run {self.id} is {status}; only a run that has ended can be tried again")
        return RunHandle(self._kernel, again)


class RunPage(list[RunHandle[Any]]):
    """Some runs, and the `cursor` where `find_runs` goes on; None: there are no more."""

    cursor: str | None = None

    @classmethod
    def of(cls, kernel: Kernel, page: Page, now: float) -> Self:
        """Give the handles of a page of records."""
        handles = cls(RunHandle(kernel, record, now) for record in page.records if isinstance(record, RunRecord))
        handles.cursor = page.cursor
        return handles


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _json(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


def progress_of(record: RunRecord) -> Progress | None:
    """Count the members of a chain's or swarm's run; None for a task's."""
    tally = record.tally
    if tally is None:
        return None
    return Progress(
        total=tally.total,
        waiting=tally.total - tally.made,
        running=tally.live,
        succeeded=tally.succeeded,
        failed=tally.failed,
        cancelled=tally.cancelled,
        closed=tally.closed,
    )


def _info(record: RunRecord, now: float) -> RunInfo:
    return RunInfo(
        id=record.key,
        task_name=record.task,
        status=_status_at(record, now),
        signature=record.signature,
        attempts=record.attempt,
        retries=record.options.retries or 0,
        priority=record.options.priority or DEFAULT_PRIORITY,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        due_at=datetime.fromtimestamp(record.due_at, UTC),
        started_at=_time(record.started_at),
        ended_at=_time(record.ended_at),
        expires_at=_time(record.expires_at),
        message=_json(record.message if record.message is not None else record.sent),
        result=_json(record.result),
        failure=TaskFailure(**failure_fields(record)) if record.failure is not None else None,
        control=record.control.value,
        worker=record.worker,
        kind=record.form.value,
        progress=progress_of(record),
        parent=record.parent,
        place=record.place,
        cause=record.cause,
        root=record.root,
        success_callbacks=list(record.on_success),
        error_callbacks=list(record.on_error),
        done_callbacks=list(record.on_done),
    )
