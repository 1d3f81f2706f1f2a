"""Receiving what a broker brings in a process that `taskiq worker` has not started."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from taskiq import AsyncBroker
from taskiq.receiver import Receiver

__all__ = ["receive"]

logger = logging.getLogger("mageflow.engines.taskiq")

_PAUSE = 1.0
"""Seconds after which a broker that broke off is listened to again."""


async def receive(broker: AsyncBroker, concurrency: int) -> None:
    """Listen to the broker until cancelled. What was received by then goes on."""
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="mageflow-taskiq")
    receiver = Receiver(broker, executor=pool, max_async_tasks=concurrency, run_startup=False)
    try:
        while not _is_cancelled():
            try:
                await receiver.listen(asyncio.Event())
            except Exception:  # whatever a broker's driver raises, the next connection may be well again
                logger.exception("the broker broke off; it is listened to again in %g s", _PAUSE)
            if not _is_cancelled():
                await asyncio.sleep(_PAUSE)
        raise asyncio.CancelledError
    finally:
        pool.shutdown(wait=False)


def _is_cancelled() -> bool:
    """Whether this task was cancelled, though Taskiq's receiver may have swallowed the exception."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
