"""Listening in a process of one's own: it ends when it is told to, and goes on when the broker breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from taskiq import AsyncBroker, BrokerMessage

from mageflow import Mageflow
from mageflow.engines.taskiq import receiving


class Broken(AsyncBroker):
    """A broker whose driver loses the first cancellation, as redis-py does at times, and which breaks off at first."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.breaks = 1
        self.lost = 0

    async def kick(self, message: BrokerMessage) -> None:
        self.queue.put_nowait(message.message)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        if self.breaks:
            self.breaks -= 1
            raise ConnectionError("the server went away")
        while True:
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
