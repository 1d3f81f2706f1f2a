"""The embedded engine: the outbox is the queue, and the worker's own process executes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mageflow.core.replies import ClaimReply
from mageflow.ports.engine import Capabilities, Engine, Handler, Refused, Submission

__all__ = ["LocalEngine"]

_LOOK_EVERY = 0.5
"""Seconds between two looks at the outbox, where nothing rang: rows that another process put ring nothing."""


class LocalEngine(Engine):
    """Executes runs where the worker is. Nothing is submitted: workers pull rows when they have free slots."""

    name = "local"
    capabilities = Capabilities(pulls=True, priorities=True, delays=True, hears_cancel=True)

    def route(self, task: str) -> str:
        return self.name

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        """Do nothing: a row is pulled from where it is."""
        return ()

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        """Pull and execute until cancelled; bodies that run then are the handler's to stop."""
        slots = _Slots(handler, concurrency)
        unwatch = handler.watch(slots.ring)
        try:
            await slots.fill()
        finally:
            unwatch()


class _Slots:
    """The places for bodies, and the pulls that fill them."""

    def __init__(self, handler: Handler, count: int) -> None:
        self._handler = handler
        self._free = count
        self._rung = asyncio.Event()
        self._was_all = False
        """Whether the last pull has brought all that was due."""
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks weakly

    def ring(self) -> None:
        self._rung.set()

    async def fill(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._rung.clear()
            wait = _LOOK_EVERY
            if self._free:
                asked = self._free
                pulled = await self._handler.pull(asked)
                for claimed in pulled.claimed:
                    self._begin(claimed)
                self._was_all = len(pulled.claimed) < asked
                if not self._was_all:
                    continue
                if pulled.wait is not None:
                    wait = min(wait, pulled.wait)
            if not self._rung.is_set():
                alarm = loop.call_later(wait, self._rung.set)
                await self._rung.wait()
                alarm.cancel()

    def _begin(self, claimed: ClaimReply) -> None:
        self._free -= 1
        task = asyncio.create_task(self._execute(claimed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, claimed: ClaimReply) -> None:
        """Execute a run in a place, and what it makes due, until there is something else for the place."""
        has_place = True

        def ended() -> bool:
            nonlocal has_place
            if self._was_all and not self._rung.is_set():
                return True
            has_place = False
            self._leave_place()
            return False

        try:
            await self._handler.execute(claimed, ended)
        finally:
            if has_place:
                self._leave_place()

    def _leave_place(self) -> None:
        self._free += 1
        self._rung.set()
