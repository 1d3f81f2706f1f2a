"""Beating from outside the event loop: a loop that is busy for a while is no dead worker, one that stands still is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from mageflow.errors import MageflowError
from mageflow.ports.store import Beater

__all__ = ["Heart"]

logger = logging.getLogger("mageflow.runtime")


class Heart:
    """Beats for one worker in a thread of its own, for as long as the event loop moves.

    The observing of others stays in the loop. A body that keeps the whole interpreter (in C, without letting go of its
    lock) stops this thread too: then the worker seems dead after the lease.

    Args:
        beater: makes what beats for a worker's key; all its methods are called in the thread.
        every: seconds between two beats.
        max_stall: seconds for which the loop may stand still, before the beats stop until it moves again.
    """

    def __init__(self, beater: Callable[[str], Beater], *, every: float, max_stall: float) -> None:
        self._beater = beater
        self._every = every
        self._max_stall = max_stall
        self._turns = 0

    async def beat(self, worker: str) -> None:
        """Beat for `worker` until cancelled."""
        over = threading.Event()
        # `loop.time` reads the machine's monotonic clock, and may be called from any thread.
        arguments = (worker, over, asyncio.get_running_loop().time)
        thread = threading.Thread(target=self._beat, args=arguments, name="mageflow-heart", daemon=True)
        thread.start()
        try:
            while True:
                self._turns += 1
                await asyncio.sleep(min(self._every, self._max_stall) / 2)
        finally:
            over.set()
            await asyncio.to_thread(thread.join)

    def _beat(self, worker: str, over: threading.Event, monotonic: Callable[[], float]) -> None:
        beater = self._beater(worker)
        seen, moved, stalled = self._turns, monotonic(), False
        try:
            while not over.wait(self._every):
                now = monotonic()
                if self._turns != seen:
                    if stalled:
                        logger.warning("the event loop of worker %s moves again, after %.1f s", worker, now - moved)
                    seen, moved, stalled = self._turns, now, False
                elif now - moved > self._max_stall:
                    if not stalled:
                        logger.error(
                            "the event loop of worker %s has stood still for %.1f s: a body blocks it. Its beats stop, "
                            "and other workers take its runs back; make that body a plain def, which runs in a thread",
                            worker,
                            now - moved,
                        )
                    stalled = True
                    continue
                try:
                    beater.beat()
                except MageflowError as error:
                    logger.warning("worker %s could not beat (%s); it tries again in %g s", worker, error, self._every)
        finally:
            beater.close()
