"""Who starts the broker in this process, and the worker that lives as long as a process of `taskiq worker`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker

from mageflow.ports.engine import MakeWorker

__all__ = ["Hosting"]


class Hosting:
    """Takes our worker along where the broker is started as a worker's.

    The worker startup event comes too early and the worker shutdown event is not the last word either: a stream's
    group is declared after the former, and what is sent before that is lost. So the worker is entered right after the
    broker's `startup`, and left right before its `shutdown`.

    Args:
        broker: its methods `startup` and `shutdown` are replaced on this instance. Of several clients on one broker the
            last one made is taken along.
    """

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._make_worker: MakeWorker | None = None
        self._startup, self._shutdown = broker.startup, broker.shutdown
        self._worker: AbstractAsyncContextManager[Any] | None = None
        self._started = False
        earlier = getattr(broker.startup, "__self__", None)
        if isinstance(earlier, Hosting):
            self._startup, self._shutdown, self._started = earlier._startup, earlier._shutdown, earlier._started
        self._opened = False
        owner: Any = broker  # a checker would not let a method be replaced
        owner.startup, owner.shutdown = self._start, self._stop

    @property
    def is_hosted(self) -> bool:
        """Whether Taskiq's own receiver runs in this process, and our worker with it."""
        return self._worker is not None

    def attach(self, make_worker: MakeWorker) -> None:
        """Know how a worker is made."""
        self._make_worker = make_worker

    async def open(self) -> None:
        """Start the broker for a worker that the program made, unless it was started."""
        if self._started:
            return
        in_memory = isinstance(self._broker, InMemoryBroker)
        self._opened = not in_memory  # it could not be started again: the program ends it, if it wants to
        self._broker.is_worker_process = not in_memory
        await self._startup()
        self._started = True

    async def aclose(self) -> None:
        """Shut the broker down, if `open` started it."""
        if self._opened:
            self._opened = self._started = False
            await self._shutdown()
            self._broker.is_worker_process = False

    async def _start(self) -> None:
        await self._startup()
        self._started = True
        is_worker = self._broker.is_worker_process or isinstance(self._broker, InMemoryBroker)
        if is_worker and self._worker is None and self._make_worker is not None:
            self._worker = self._make_worker()
            try:
                await self._worker.__aenter__()
            except BaseException:
                self._worker = None
                raise

    async def _stop(self) -> None:
        worker, self._worker = self._worker, None
        try:
            if worker is not None:
                await worker.__aexit__(None, None, None)
        finally:
            self._started = False
            await self._shutdown()
