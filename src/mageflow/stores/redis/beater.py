"""Beats on a connection of their own, in an event loop of their own: no other loop holds them up."""

from __future__ import annotations

import asyncio

from redis.exceptions import ResponseError

from mageflow.stores.redis import scripts
from mageflow.stores.redis.faults import translated
from mageflow.stores.redis.link import Link
from mageflow.stores.redis.settings import Settings

__all__ = ["RedisBeater"]


class RedisBeater:
    """Adds to one worker's beat, in the thread that calls it.

    Args:
        settings: how to reach the server.
        location: of the server, for messages.
        space: what the names of all keys begin with.
        worker: the key of the worker's record.
    """

    def __init__(self, settings: Settings, location: str, space: str, worker: str) -> None:
        self._settings = settings
        self._location = location
        self._command = scripts.beat(space, worker)
        self._opened: tuple[asyncio.Runner, Link] | None = None

    def beat(self) -> None:
        if self._opened is None:
            self._opened = asyncio.Runner(), Link(self._settings, self._location)
        runner, link = self._opened
        runner.run(self._beat(link))

    async def _beat(self, link: Link) -> None:
        (answer,) = await link.send([self._command])
        if isinstance(answer, ResponseError):
            await link.reload()
            raise translated(answer, self._location) from answer

    def close(self) -> None:
        if self._opened is not None:
            runner, link = self._opened
            self._opened = None
            with runner:
                runner.run(link.close())
