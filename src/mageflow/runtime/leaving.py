"""Rows of a route that only another process can submit: they are put back, and it gets its turn.

An engine that needs the message of a task is to be given it by a process that has the task. Which relay of a route is
given a row is chance; and a store may give a row along with the commit that puts it, to the very process that puts it
back. So this one does not listen for a moment, and what comes back all the same, because nobody else is there, is kept
for longer and longer before it is put back again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Generator

from mageflow.core.events import Reroute
from mageflow.core.replies import EndReply
from mageflow.ports.store import Store
from mageflow.runtime.transact import Transactor

__all__ = ["Leaving", "Lookout"]

logger = logging.getLogger("mageflow.runtime")

_THEIR_TURN = 0.1
"""Seconds for which this process is given nothing, after it has put rows back."""
_FIRST_PAUSE = 0.2
"""Seconds for which a row is kept that came back."""
_LONGEST_PAUSE = 5.0
_REMEMBERED = 5000
"""Runs of which it is known that they were put back lately."""


class Lookout:
    """Hears of the rows of one route, until it ends.

    Args:
        store: where the rows are.
        route: theirs.
    """

    def __init__(self, store: Store, route: str) -> None:
        self._store = store
        self._route = route
        self._rung = asyncio.Event()
        self._here = asyncio.Event()
        self._here.set()
        self._ended = False
        self._unwatch = store.watch_route(route, self._rung.set)

    async def wait(self, seconds: float | None) -> None:
        """Wait until it rings, but no longer than this; and then until it does not stand aside."""
        if seconds is not None:
            alarm = asyncio.get_running_loop().call_later(seconds, self._rung.set)
            await self._rung.wait()
            alarm.cancel()
        await self._here.wait()
        self._rung.clear()

    @contextlib.contextmanager
    def aside(self) -> Generator[None]:
        """Neither hear of rows nor be given any, meanwhile."""
        self._unwatch()
        self._here.clear()
        try:
            yield
        finally:
            if not self._ended:
                self._unwatch = self._store.watch_route(self._route, self._rung.set)
                self._here.set()
                self._rung.set()  # what was put meanwhile has rung for others only

    def end(self) -> None:
        """Hear of nothing any more."""
        self._ended = True
        if self._here.is_set():
            self._unwatch()


class Leaving:
    """Puts rows back for others.

    Args:
        transactor: commits.
        lookout: of their route.
    """

    def __init__(self, transactor: Transactor, lookout: Lookout) -> None:
        self._tx = transactor
        self._lookout = lookout
        self._fresh: dict[str, None] = {}
        self._kept: dict[str, None] = {}
        self._lately: dict[str, None] = {}
        self._pause = _FIRST_PAUSE
        self._again_at: float | None = None
        self._wake = asyncio.Event()

    def leave(self, runs: Collection[str]) -> None:
        """Let others have the rows of these runs: at once, or later where they were put back in vain."""
        back = [run for run in runs if run in self._lately]
        self._kept.update(dict.fromkeys(back))
        self._fresh.update(dict.fromkeys(run for run in runs if run not in self._lately))
        for run in runs:
            self._lately.pop(run, None)
            self._lately[run] = None
        while len(self._lately) > _REMEMBERED:
            del self._lately[next(iter(self._lately))]
        if back and self._again_at is None:
            self._again_at = asyncio.get_running_loop().time() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        elif not self._kept:
            self._pause = _FIRST_PAUSE
        self._wake.set()

    async def put_back_always(self) -> None:
        """Put back what was left; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._again_at):
                    await self._wake.wait()
            self._wake.clear()
            runs, self._fresh = self._fresh, {}
            if self._again_at is not None and loop.time() >= self._again_at:
                runs |= self._kept
                self._kept, self._again_at = {}, None
            if runs:
                await self._put_back(runs)

    async def _put_back(self, runs: Collection[str]) -> None:
        events = [Reroute(run=run, given=True, token=self._tx.token()) for run in runs]
        try:
            with self._lookout.aside():
                await asyncio.gather(*(self._tx.commit(EndReply, (event.run,), event) for event in events))
                await asyncio.sleep(_THEIR_TURN)
        except Exception:  # they were given: the store gives them again, to whoever asks then
            logger.exception("rows that others can submit could not be put back; they are due again later")
