"""Hearing of other processes' commits: a subscription to the channels of what is watched here.

Channels are subscribed to a moment after a watch begins, many at once: most watches of a worker end sooner, and cost
nothing. Whoever watches is then rung once, as what happened before was not heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import redis.asyncio

from mageflow.stores.redis.faults import LOST, translated
from mageflow.stores.redis.link import close_pool, pause, stop
from mageflow.stores.redis.settings import Settings
from mageflow.stores.watching import Rings, Watchers, ring_out

__all__ = ["Bell"]

logger = logging.getLogger("mageflow.store")

_GATHERING = 0.02
"""Seconds for which watches are gathered before they are subscribed to."""


class Bell:
    """The subscription of one event loop.

    Args:
        settings: how to reach the server.
        location: of the server, for logs.
        space: what the names of all channels begin with.
        sender: the mark of notices that are this process's own, of which it knows already.
        watchers: who is rung.
        heard: is told of each route of which rows were put elsewhere, before anybody is rung.
    """

    def __init__(
        self,
        settings: Settings,
        location: str,
        space: str,
        sender: str,
        watchers: Watchers,
        heard: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._location = location
        self._prefix = f"{space}c:".encode()
        self._sender = sender.encode()
        self._watchers = watchers
        self._heard = heard
        self._wanted: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def want(self, channels: Collection[str]) -> Callable[[], None]:
        """Hear of these channels (`k` and a record, `t` and a root, `r` and a route); returns what ends that."""
        self._wanted.update(channels)
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._hear_always())

        def end() -> None:
            self._wanted.subtract(channels)
            for channel in channels:
                if self._wanted[channel] <= 0:
                    del self._wanted[channel]
            self._changed.set()

        return end

    async def close(self) -> None:
        """Hear no more."""
        task, self._task = self._task, None
        await stop(task)

    async def _hear_always(self) -> None:
        tries = 0
        while True:
            try:
                await self._settle()
                async with contextlib.AsyncExitStack() as stack:
                    pool = self._settings.pool(waits_long=True)
                    stack.push_async_callback(close_pool, pool)
                    client: Any = redis.asyncio.Redis(connection_pool=pool)
                    subscription: Any = client.pubsub()
                    stack.push_async_callback(subscription.aclose)
                    await self._hear(subscription)
            except (*LOST, redis.RedisError) as error:
                told = translated(error, self._location)
                logger.debug("%s; changes are looked for instead, until it answers", told)
            await pause(tries, 2.0)
            tries = min(tries + 1, 10)

    async def _settle(self) -> None:
        """Wait until there is something to subscribe to, and a moment more."""
        while not self._wanted:
            self._changed.clear()
            await self._changed.wait()
        await asyncio.sleep(_GATHERING)

    async def _hear(self, subscription: Any) -> None:
        """Subscribe to what is watched, and pass on what is heard, until the connection breaks."""
        heard: set[str] = set()
        await self._subscribe(subscription, heard)
        listening = asyncio.create_task(self._listen(subscription))
        changing: asyncio.Task[Any] = asyncio.create_task(self._changed.wait())
        try:
            while True:
                await asyncio.wait((listening, changing), return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    listening.result()
                    return
                await asyncio.sleep(_GATHERING)
                await self._subscribe(subscription, heard)
                changing = asyncio.create_task(self._changed.wait())
        finally:
            await stop(listening)
            await stop(changing)

    async def _subscribe(self, subscription: Any, heard: set[str]) -> None:
        self._changed.clear()
        wanted = set(self._wanted)
        if gone := heard - wanted:
            await subscription.unsubscribe(*(self._prefix + channel.encode() for channel in sorted(gone)))
        if fresh := wanted - heard or ({""} if not heard else set()):  # a subscription to nothing hears nothing
            await subscription.subscribe(*(self._prefix + channel.encode() for channel in sorted(fresh)))
        heard.clear()
        heard.update(wanted or {""})

    async def _listen(self, subscription: Any) -> None:
        while True:
            message = await subscription.get_message(timeout=None)
            if message is None:
                continue
            channel = message["channel"].removeprefix(self._prefix).decode()
            if message["type"] == "subscribe" or (message["type"] == "message" and message["data"] != self._sender):
                self._ring(channel)

    def _ring(self, channel: str) -> None:
        kind, name = channel[:1], {channel[1:]}
        if kind == "r":
            self._heard(channel[1:])
        rings: Rings = {}
        nothing: set[str] = set()
        self._watchers.collect_unread(
            name if kind == "k" else nothing, name if kind == "t" else nothing, name if kind == "r" else nothing, rings
        )
        ring_out(rings)
