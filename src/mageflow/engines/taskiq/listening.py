"""What a receiver hears: what comes from the broker, and before that what was handed over in this process.

A run that a worker goes on with needs no way through the broker. But it is Taskiq's receiver that has the places for
bodies, the middlewares and the dependencies, whichever receiver it is: so it hears of the run where it hears of all,
as soon as it has a place. While it is given such a message, what it had asked the broker for may come. It is kept for a
moment, and then given back to the broker: another process may have a place.

Whoever is told to stop does, though the driver has lost that it was told: `asyncio.wait_for` of Python 3.11 drops a
cancellation that comes while what it waits for has just ended, and redis-py sends every command through it. A listener
that is cancelled in such a moment goes on to listen; it is cancelled anew until it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from taskiq import AckableMessage, AsyncBroker, BrokerMessage
from taskiq.utils import maybe_awaitable

__all__ = ["Listening"]

logger = logging.getLogger("mageflow.engines.taskiq")

Message = bytes | AckableMessage

_AGAIN = 0.2
"""Seconds between two cancellations of a driver that goes on to listen."""
_UNASKED = 0.2
"""Seconds for which a message that came unasked is kept: the receiver has no place for it yet."""


class Listening:
    """The listener of one broker, in one process.

    Args:
        broker: its method `listen` is replaced on this instance.
    """

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._driver = broker.listen
        self._handed: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._waiting: list[asyncio.Future[None]] = []
        self._listeners = 0
        self._returns: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks weakly
        owner: Any = broker  # a checker would not let a method be replaced
        owner.listen = self.listen

    @classmethod
    def on(cls, broker: AsyncBroker) -> Listening:
        """Give the listener of a broker: the same one to all clients that are made with it."""
        found = getattr(broker.listen, "__self__", None)
        return found if isinstance(found, Listening) else cls(broker)

    @property
    def is_open(self) -> bool:
        """Whether a receiver listens in this process."""
        return self._listeners > 0

    def hand_over(self, message: bytes, unheard: Callable[[], None]) -> None:
        """Let the receiver hear a message next. `unheard` is called if it stops before it has."""
        self._handed.append((message, unheard))
        if self._waiting:
            _wake(self._waiting.pop())

    async def listen(self) -> AsyncGenerator[Message, None]:
        """Give what is to be received, as the broker's own `listen` does."""
        source = _Source(self._driver(), self._give_back)
        self._listeners += 1
        try:
            while not source.is_over:
                if not self._handed and not source.has_come:
                    await self._wait(source)
                if self._handed:
                    yield self._handed.popleft()[0]
                elif source.has_come:
                    try:
                        message = source.take()
                    except StopAsyncIteration:
                        return
                    yield message
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._leave_unheard()
            await source.close()

    async def _wait(self, source: _Source) -> None:
        """Wait for a message from anywhere; one that came while this was cancelled is given as the last one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        source.ask(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            await source.stop()
            if not source.has_come:
                raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            source.waiter = None

    def _leave_unheard(self) -> None:
        while self._handed:
            self._handed.popleft()[1]()

    def _give_back(self, message: Message) -> asyncio.Task[None]:
        """Give a message back to the broker that nobody here can begin."""
        giving = asyncio.create_task(self._send(message))
        self._returns.add(giving)
        giving.add_done_callback(self._end_return)
        return giving

    def _end_return(self, giving: asyncio.Task[None]) -> None:
        self._returns.discard(giving)
        if not giving.cancelled() and (error := giving.exception()) is not None:
            logger.error("a message that came when no more was to be received could not be given back", exc_info=error)

    async def _send(self, message: Message) -> None:
        data = message.data if isinstance(message, AckableMessage) else message
        parsed = self._broker.formatter.loads(data)
        await self._broker.kick(
            BrokerMessage(task_id=parsed.task_id, task_name=parsed.task_name, message=data, labels=parsed.labels)
        )
        if isinstance(message, AckableMessage):
            await maybe_awaitable(message.ack())


class _Source:
    """A broker's own listener. What it was asked for is waited for, while something else may be given."""

    def __init__(
        self, messages: AsyncGenerator[Message, None], give_back: Callable[[Message], asyncio.Task[None]]
    ) -> None:
        self._messages = messages
        self._give_back = give_back
        self._coming: asyncio.Task[Message] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.waiter: asyncio.Future[None] | None = None
        """Who waits for it."""
        self.is_over = False

    @property
    def has_come(self) -> bool:
        return self._coming is not None and self._coming.done()

    def ask(self, waiter: asyncio.Future[None]) -> None:
        """Ask for a message, if none is waited for; the waiter hears of it."""
        self.waiter = waiter
        if self._coming is None:
            self._coming = asyncio.create_task(_next(self._messages), name="mageflow-taskiq-message")
            self._coming.add_done_callback(self._note)

    def take(self) -> Message:
        """Give what has come, or raise what the listener raised."""
        coming, self._coming = self._coming, None
        assert coming is not None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        return coming.result()

    async def stop(self) -> None:
        """Ask for nothing more; a message that comes all the same is still to be taken."""
        self.is_over = True
        while self._coming is not None and not self._coming.done():
            self._coming.cancel()
            await asyncio.wait((self._coming,), timeout=_AGAIN)
        if self._coming is not None and (self._coming.cancelled() or self._coming.exception() is not None):
            self._coming = None

    async def close(self) -> None:
        await self.stop()
        if self.has_come:
            await asyncio.wait((self._give_back(self.take()),))
        await self._messages.aclose()

    def _note(self, coming: asyncio.Task[Message]) -> None:
        if self.waiter is not None:
            _wake(self.waiter)
        elif not self.is_over and not coming.cancelled() and coming.exception() is None:
            self._alarm = coming.get_loop().call_later(_UNASKED, self._leave_to_others)

    def _leave_to_others(self) -> None:
        self._give_back(self.take())


async def _next(messages: AsyncGenerator[Message, None]) -> Message:
    return await anext(messages)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
