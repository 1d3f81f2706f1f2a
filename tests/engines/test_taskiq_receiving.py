"""Listening: it ends when it is told to, whatever the driver loses, and goes on when the broker breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from taskiq import AsyncBroker, BrokerMessage
from taskiq.receiver import Receiver

from mageflow import Mageflow
from mageflow.engines.taskiq import receiving


class Broken(AsyncBroker):
    """A broker whose driver loses the first cancellation, as redis-py does at times, and which breaks off at first."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.breaks = 1
        self.lost = 0
        self.listened = asyncio.Event()

    async def kick(self, message: BrokerMessage) -> None:
        self.queue.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        if self.breaks:
            self.breaks -= 1
            raise ConnectionError("the server went away")
        while True:
            self.listened.set()
            try:
                yield await self.queue.get()
            except asyncio.CancelledError:
                self.lost += 1
                if self.lost > 1:
                    raise


async def test_a_worker_ends_though_the_driver_loses_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_PAUSE", 0.01)
    broker = Broken()
    mage = Mageflow(broker, "memory://")

    @mage.task
    async def work() -> int:
        return 1

    async with asyncio.timeout(20), mage, mage.worker():
        assert await (await mage.sign(work)).run() == 1
    assert broker.lost > 1
    assert broker.breaks == 0


async def test_a_receiver_of_taskiqs_own_ends_though_the_driver_loses_a_cancellation() -> None:
    """It cancels its listener once, and waits for it: on an idle queue that was for ever."""
    broker = Broken()
    broker.breaks = 0
    Mageflow(broker, "memory://")
    told = asyncio.Event()
    receiving = asyncio.create_task(Receiver(broker, max_async_tasks=1, run_startup=False).listen(told))
    await broker.listened.wait()
    told.set()
    async with asyncio.timeout(20):
        await receiving
    assert broker.lost > 1


async def test_a_message_that_comes_while_a_listener_is_told_to_end_is_not_lost() -> None:
    """Where the driver has lost the cancellation, what it brings is given to whoever waits."""
    broker = Broken()
    broker.breaks = 0
    Mageflow(broker, "memory://")
    messages = broker.listen()
    waiting = asyncio.create_task(anext(messages))
    await broker.listened.wait()
    waiting.cancel()
    broker.queue.put_nowait(b"late")
    assert await waiting == b"late"
    await messages.aclose()
