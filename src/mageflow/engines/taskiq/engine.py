"""The Taskiq engine: a broker carries runs to Taskiq's receivers, which hand them to the worker of their process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, InMemoryBroker
from taskiq.exceptions import UnknownTaskError

from mageflow.core.options import Options
from mageflow.core.records import OutboxRow, RunRecord
from mageflow.core.status import RunStatus
from mageflow.engines.taskiq.acknowledging import acknowledge_together
from mageflow.engines.taskiq.crossing import Crossing, crossed
from mageflow.engines.taskiq.going_on import GoingOn
from mageflow.engines.taskiq.hosting import Hosting
from mageflow.engines.taskiq.labels import labels_of, read_options, retried_exceptions
from mageflow.engines.taskiq.listening import Listening
from mageflow.engines.taskiq.receiving import receive
from mageflow.engines.taskiq.registering import register_on
from mageflow.engines.taskiq.sending import Sending
from mageflow.engines.taskiq.strangers import take_in_strangers
from mageflow.errors import MageflowError
from mageflow.ports.engine import (
    Capabilities,
    Declared,
    Delivered,
    Engine,
    Found,
    Handler,
    Inject,
    MakeWorker,
    Refused,
    Reported,
    Submission,
    WhyRefused,
)

__all__ = ["AttemptFailedError", "NotServedError", "TaskiqEngine"]

logger = logging.getLogger("mageflow.engines.taskiq")

_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between two tries to send: the outbox gives a row again much later."""
_LONGEST_PREVIEW = 4096
"""Bytes of a result that Taskiq's middlewares are shown."""


class AttemptFailedError(MageflowError):
    """What Taskiq is told of an attempt that failed; whether there is another one is decided by the run's options."""


class NotServedError(MageflowError):
    """A run was delivered to a process in which no worker of mageflow runs."""


class TaskiqEngine(Engine):
    """Carries runs on one broker.

    Args:
        broker: any Taskiq broker. It gets a middleware, and its `startup` and `shutdown` take our worker along in the
            processes of `taskiq worker`.
    """

    name = "taskiq"
    capabilities = Capabilities(pulls=False, priorities=False, delays=False, hears_cancel=False)

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._route = _route_of(broker)
        self._handlers: list[Handler] = []
        self._leaving: Handler | None = None
        """The one that has left last: it holds back what still comes."""
        self._crossed: set[str] = set()
        self._deliveries: set[asyncio.Task[Delivered]] = set()  # the event loop itself holds tasks weakly
        self._hosting = Hosting(broker)
        self._sending = Sending(broker)
        self._going_on = GoingOn(broker, Listening.on(broker), self._sending)
        crossing = Crossing(self._bring)
        crossing.set_broker(broker)
        # The last to see an outcome, so that all others see an honest one; in the place of an earlier client's.
        broker.middlewares[:] = [crossing, *(each for each in broker.middlewares if not isinstance(each, Crossing))]
        take_in_strangers(broker)
        acknowledge_together(broker)

    def route(self, task: str) -> str:
        return self._route

    # Tasks

    def attach(self, make_worker: MakeWorker) -> None:
        self._hosting.attach(make_worker)

    def read_options(self, native: Mapping[str, Any]) -> Options:
        return read_options(self._broker, labels_of(native))

    def register(self, task: Declared, handle: Any) -> Any:
        """Register a task on the broker, under its own name; `handle.native` is Taskiq's task, with its `.kiq`."""
        labels = labels_of(task.native)
        handle.native = register_on(self._broker, task.name, crossed(task.name, task.fn), labels)
        self._crossed.add(task.name)
        self._going_on.learn(task.name)
        return handle

    def discover(self) -> Sequence[Found]:
        """Give the functions that were registered on the broker itself; from here on their runs come to us."""
        found: list[Found] = []
        for name, task in self._broker.get_all_tasks().items():
            if name not in self._crossed:
                self._crossed.add(name)
                self._going_on.learn(name)
                found.append(self._take_over(task))
        return found

    def _take_over(self, task: AsyncTaskiqDecoratedTask[Any, Any]) -> Found:
        fn = task.original_func
        task.original_func = crossed(task.task_name, fn)
        return Found(
            name=task.task_name,
            fn=fn,
            handle=task,
            options=read_options(self._broker, task.labels),
            retry_on=retried_exceptions(self._broker, task.labels),
        )

    # Life in a process

    async def open(self) -> None:
        """Start the broker, unless it was: what is sent on a stream before that is lost."""
        await self._hosting.open()

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        """Receive here, or let Taskiq's own receiver bring what comes."""
        self._handlers.append(handler)
        try:
            if self._hosting.is_hosted or isinstance(self._broker, InMemoryBroker):
                await asyncio.get_running_loop().create_future()
            else:
                await receive(self._broker, concurrency)
        finally:
            self._handlers.remove(handler)
            self._leaving = handler
            self._going_on.forget(handler)

    async def aclose(self) -> None:
        self._leaving = None
        await self._hosting.aclose()

    # Runs

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        """Send a message for each row; what the broker does not take is tried again for some seconds.

        Raises:
            SendTaskError: the broker is out of reach.
        """
        left: Sequence[Submission] = submissions
        refused: list[Refused] = []
        for pause in (*_PAUSES, None):
            errors = await self._sending.send([each.row for each in left])
            refused += [_unknown(left[place].row) for place, error in errors.items() if _is_unknown(error)]
            left = [left[place] for place, error in errors.items() if not _is_unknown(error)]
            if not left:
                break
            error = next(error for error in errors.values() if not _is_unknown(error))
            if pause is None:
                raise error
            logger.warning("the broker did not take %d runs (%r); tried again in %g s", len(left), error, pause)
            await asyncio.sleep(pause)
        return refused

    async def _bring(self, task: str, run: str, injected: Mapping[str, Any]) -> Any:
        """Have a delivered run executed by this process's worker, and give what Taskiq is told.

        Raises:
            AttemptFailedError: the attempt failed.
            NotServedError: there is no worker; the outbox delivers again.
        """
        handler = self._handlers[-1] if self._handlers else self._leaving
        if handler is None:
            raise NotServedError(
                f"run {run} came to a process without a worker of mageflow; start it with `taskiq worker` on the "
                "broker that the client was made with, or enter mage.worker()"
            )
        inject = _giving(injected) if injected else None
        delivery = asyncio.create_task(self._going_on.deliver(handler, task, run, inject))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        return _told(await asyncio.shield(delivery))


def _giving(injected: Mapping[str, Any]) -> Inject:
    @contextlib.asynccontextmanager
    async def give(message: Any, frozen: Raw) -> AsyncGenerator[Mapping[str, Any]]:
        yield injected  # resolved before the body by the receiver, which closes it afterwards

    return give


def _told(delivered: Delivered) -> Any:
    """Give the value that Taskiq's middlewares see.

    Raises:
        AttemptFailedError: the attempt failed, or the run had.
    """
    run = delivered.run
    match delivered.reported:
        case Reported.SUCCEEDED:
            return _preview(run)
        case Reported.ENDED if run is None or run.status is RunStatus.SUCCEEDED:
            return _preview(run)
        case Reported.FAILED | Reported.ENDED:
            failure = run.failure if run is not None else None
            key = run.key if run is not None else "?"
            said = f"{failure.type}: {failure.message}" if failure is not None else str(run.status if run else "")
            raise AttemptFailedError(f"run {key}: {said}")
        case Reported.DUPLICATE | Reported.HELD_BACK:
            return {"mageflow": delivered.reported.value}


def _preview(run: RunRecord | None) -> Any:
    if run is None or run.result is None or len(run.result) > _LONGEST_PREVIEW:
        return None
    return msgspec.json.decode(run.result)


def _is_unknown(error: Exception) -> bool:
    return isinstance(error.__cause__, UnknownTaskError)


def _unknown(row: OutboxRow) -> Refused:
    return Refused(row, WhyRefused.UNKNOWN_TASK, f"the broker knows no task {row.task!r}")


def _route_of(broker: AsyncBroker) -> str:
    """Give the route of all runs on this broker, the same in every process: Taskiq's brokers name their queue thus."""
    for attribute in ("queue_name", "subject", "queue"):
        queue = getattr(broker, attribute, None)
        if isinstance(queue, str) and queue:
            return f"taskiq:{queue}"
    return "taskiq"
