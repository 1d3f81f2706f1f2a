"""Listening to a broker in such a way that whoever is told to stop does, though the driver has lost that it was told.

`asyncio.wait_for` of Python 3.11 drops a cancellation that comes while what it waits for has just ended; redis-py
sends every command through it. A listener that is cancelled in such a moment goes on to listen, and Taskiq's receiver,
which cancels it once, waits for it until a message comes: on an idle queue for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from taskiq import AckableMessage, AsyncBroker

__all__ = ["listen_attentively"]

_AGAIN = 0.2
"""Seconds between two looks whether a task that waits for a message was cancelled, and waits all the same."""


def listen_attentively(broker: AsyncBroker) -> None:
    """Let the listener of a broker end when it is cancelled; its method `listen` is replaced on this instance."""
    driver = broker.listen
    if getattr(driver, "is_attentive", False):
        return

    async def listen() -> AsyncGenerator[bytes | AckableMessage, None]:
        messages, repeater = driver(), _Repeater()
        try:
            while True:
                repeater.waiting = asyncio.current_task()
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    return
                finally:
                    repeater.waiting = None
                yield message
        finally:
            repeater.end()
            await messages.aclose()

    owner: Any = broker  # a checker would not let a method be replaced
    attentive: Any = listen
    attentive.is_attentive = True
    owner.listen = attentive


class _Repeater:
    """Cancels anew what was cancelled and waits all the same. It costs a message two assignments."""

    def __init__(self) -> None:
        self.waiting: asyncio.Task[object] | None = None
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(_AGAIN, self._look)

    def _look(self) -> None:
        if self.waiting is not None and self.waiting.cancelling():
            self.waiting.cancel()
        self._next = self._loop.call_later(_AGAIN, self._look)

    def end(self) -> None:
        self._next.cancel()
