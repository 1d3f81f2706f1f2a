"""Acknowledging messages of a Redis stream together, where many bodies end at the same time.

taskiq-redis makes a client for each acknowledgement, which costs as much as a command, and sends each by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from taskiq import AsyncBroker

from mageflow.engines.taskiq.sending import is_stream, stream_client

__all__ = ["acknowledge_together"]

_MAKER = "_ack_generator"
"""The method of taskiq-redis' broker that makes what acknowledges a message. It is none that it documents: where there
is no such method, or another one, each message is acknowledged as before."""


def acknowledge_together(broker: AsyncBroker) -> None:
    """Let a stream broker acknowledge what ends together by one command; the method is replaced on this instance."""
    if is_stream(broker, _MAKER):
        setattr(broker, _MAKER, _Acknowledging(broker).of)


class _Acknowledging:
    def __init__(self, broker: AsyncBroker) -> None:
        self._broker: Any = broker
        self._client: Any = None
        self._waiting: list[tuple[str, Any, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    def of(self, id: Any, queue_name: str) -> Callable[[], Awaitable[None]]:
        """Give what acknowledges a message."""
        return partial(self._acknowledge, queue_name, id)

    async def _acknowledge(self, stream: str, message: Any) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((stream, message, done))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="mageflow-taskiq-acknowledge")
        await done

    async def _send_all(self) -> None:
        """Send what waits; what comes meanwhile waits for the next turn, and goes together."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await self._send(batch)
                except Exception as error:  # noqa: BLE001 - each of them hears of it, as from a command of its own
                    for _, _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                for _, _, done in batch:
                    if not done.done():
                        done.set_result(None)
        finally:
            self._sending = None
            for _, _, done in self._waiting:
                done.cancel()

    async def _send(self, batch: list[tuple[str, Any, asyncio.Future[None]]]) -> None:
        if self._client is None:
            self._client = stream_client(self._broker)
        streams: dict[str, list[Any]] = {}
        for stream, message, _ in batch:
            streams.setdefault(stream, []).append(message)
        for stream, messages in streams.items():
            await self._client.xack(stream, self._broker.consumer_group_name, *messages)
