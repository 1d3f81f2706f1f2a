"""Receiving what a broker brings in a process that `taskiq worker` has not started."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from taskiq import AckableMessage, AsyncBroker
from taskiq.receiver import Receiver

__all__ = ["receive"]

logger = logging.getLogger("mageflow.engines.taskiq")

_PAUSE = 1.0
"""Seconds after which a broker that broke off is listened to again."""
_PATIENCE = 10.0
"""Seconds that a listener has to end when it was cancelled."""


async def receive(broker: AsyncBroker, concurrency: int) -> None:
    """Listen to the broker until cancelled. What was received by then goes on."""
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="mageflow-taskiq")
    receiver = Receiver(broker, executor=pool, max_async_tasks=concurrency, run_startup=False)
    places = _Places(receiver, concurrency)
    try:
        while True:
            listening = asyncio.create_task(places.fill(broker), name="mageflow-taskiq-listen")
            try:
                await asyncio.wait((listening,))
            finally:
                await _stop(listening)
            error = None if listening.cancelled() else listening.exception()
            logger.error("the broker broke off; it is listened to again in %g s", _PAUSE, exc_info=error)
            await asyncio.sleep(_PAUSE)
    finally:
        pool.shutdown(wait=False)


class _Places:
    """The places for what is received; a message is asked for when one is free.

    Taskiq's receiver has a loop of its own for this, but it ends with a broker that breaks off.
    """

    def __init__(self, receiver: Receiver, count: int) -> None:
        self._receiver = receiver
        self._free = asyncio.Semaphore(count)
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks weakly

    async def fill(self, broker: AsyncBroker) -> None:
        messages = broker.listen()
        try:
            while True:
                await self._free.acquire()
                try:
                    message = await anext(messages)
                except BaseException:
                    self._free.release()
                    raise
                self._begin(message)
        finally:
            await messages.aclose()

    def _begin(self, message: bytes | AckableMessage) -> None:
        task = asyncio.create_task(self._receiver.callback(message))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a message could not be received", exc_info=error)


async def _stop(listening: asyncio.Task[None]) -> None:
    listening.cancel()
    _, late = await asyncio.wait((listening,), timeout=_PATIENCE)
    if late:
        logger.error("the broker's listener does not end; it is left behind")
