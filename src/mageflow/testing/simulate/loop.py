"""Virtual time: an event loop that never waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

from mageflow.testing.clock import ManualClock

__all__ = ["Standstill", "VirtualClock", "VirtualLoop"]

_Given = TypeVarTuple("_Given")

_BUSY = 200_000
"""So many turns without a moment of virtual time passing are a loop that spins."""


class Standstill(Exception):
    """Virtual time cannot go on: everybody waits for somebody else, or somebody never waits at all."""


class _Jump(selectors.SelectSelector):
    """A selector without files: to wait is to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Standstill("nothing is scheduled any more: everybody waits for somebody else")
        if timeout > 0:
            self.now += timeout
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > _BUSY:
                raise Standstill(f"no virtual time has passed in {_BUSY} turns of the event loop: something spins")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing is left to do."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def call_soon_threadsafe(
        self, callback: Callable[[*_Given], object], *args: *_Given, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)  # there is one thread, and no file to wake it by


class VirtualClock(ManualClock):
    """A store's clock that goes with the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._begin = super().now()
        self._loop = loop

    def now(self) -> float:
        return self._begin + self._loop.time()
