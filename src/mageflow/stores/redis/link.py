"""A connection, and the batches that go over it one after another: each is sent at once and answered at once."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from mageflow.errors import StoreError, StoreUnavailableError
from mageflow.ports.clock import SystemEntropy
from mageflow.stores.redis.faults import LOST, translated
from mageflow.stores.redis.scripts import Command, script_loads
from mageflow.stores.redis.settings import Settings

__all__ = ["Line", "Link", "close_pool", "pause", "stop"]

_PATIENCE = 3.0
"""Seconds for which a read is tried again; who waits longer is told, and may ask again."""
_RELOADS = 5

_chance = SystemEntropy()


async def pause(tries: int, longest: float = 0.5) -> None:
    """Wait a moment before the next try, longer with each."""
    await asyncio.sleep(min(longest, 0.01 * 2**tries) * (0.5 + _chance.jitter() / 2))


async def stop(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task, and wait until it has ended.

    A cancellation that meets the end of one of the driver's sends is lost (`asyncio.wait_for` before Python 3.12).
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


async def close_pool(pool: Any) -> None:
    """Let go of a pool's connections, and of those to the sentinels that find its server."""
    await pool.disconnect()
    manager = getattr(pool, "sentinel_manager", None)
    for client in manager.sentinels if manager is not None else ():
        await client.aclose()


class Link:
    """One connection to the server, made when it is needed and made anew when it broke.

    Args:
        settings: how to reach the server.
        location: of the server, for messages.
    """

    def __init__(self, settings: Settings, location: str) -> None:
        self.location = location
        self._settings = settings
        self._pool: Any = None
        self._connection: Any = None

    async def _connect(self) -> Any:
        connection = self._connection
        if connection is None:
            self._pool = self._settings.pool()
            connection = self._connection = self._pool.make_connection()
        if not connection.is_connected:
            await connection.connect()
            await self._exchange(connection, script_loads())
        return connection

    @staticmethod
    async def _exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
        await connection.send_packed_command(connection.pack_commands(commands))
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip; an answer may be a `ResponseError`.

        Raises:
            StoreUnavailableError: the connection broke; what was done of them is unknown.
            StoreError: the server refuses this user, or every connection.
        """
        try:
            return await self._exchange(await self._connect(), commands)
        except LOST as error:
            await self._drop()
            raise translated(error, self.location) from error
        except ResponseError as error:
            await self._drop()
            raise translated(error, self.location) from error
        except BaseException:
            await self._drop()
            raise

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands that change nothing: again where the connection breaks, or the scripts were flushed.

        Raises:
            StoreUnavailableError: the server cannot be reached.
            StoreError: it refused one of them.
        """
        begun = time.perf_counter()
        tries = 0
        while True:
            try:
                answers = await self.send(commands)
                errors = [answer for answer in answers if isinstance(answer, ResponseError)]
                if not errors:
                    return answers
                if isinstance(errors[0], NoScriptError) and tries < _RELOADS:
                    await self.send(script_loads())
                    tries += 1
                    continue
                raise translated(errors[0], self.location) from errors[0]
            except StoreUnavailableError:
                if time.perf_counter() - begun > _PATIENCE:
                    raise
            await pause(tries)
            tries += 1

    async def reload(self) -> None:
        """Give the scripts to a server that has lost them."""
        await self.send(script_loads())

    async def _drop(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Let go of the connection; the next use makes another."""
        connection, pool = self._connection, self._pool
        self._connection = self._pool = None
        if connection is not None:
            await connection.disconnect()
            await close_pool(pool)


class _Question:
    __slots__ = ("commands", "future", "is_write")

    def __init__(self, commands: Sequence[Command], future: Future[list[Any]], is_write: bool) -> None:
        self.commands = commands
        self.future = future
        self.is_write = is_write


class Line:
    """A link whose callers share its round trips: what waits goes together.

    Args:
        link: where they go; nobody else uses it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: list[_Question] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, *commands: Command, is_write: bool = False) -> list[Any]:
        """Send commands and give their answers.

        Args:
            commands: what to send.
            is_write: whether they change something; they are then sent once, and never again.

        Raises:
            StoreUnavailableError: the server cannot be reached; whether a write was done is unknown.
            StoreError: it refused one of them.
        """
        question = _Question(commands, asyncio.get_running_loop().create_future(), is_write)
        self._waiting.append(question)
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        return await question.future

    async def _serve(self) -> None:
        batch: list[_Question] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._answer([each for each in batch if not each.future.cancelled()])
        finally:
            self._task = None
            left = StoreUnavailableError(f"{self._link.location}: the store was closed meanwhile; ask again")
            for question in (*batch, *self._waiting):
                if not question.future.done():
                    question.future.set_exception(left)
            self._waiting = []

    async def _answer(self, batch: list[_Question]) -> None:
        reads = [each for each in batch if not each.is_write]
        writes = [each for each in batch if each.is_write]
        if reads:
            await self._together(reads)
        for question in writes:
            await self._alone(question)

    async def _together(self, reads: list[_Question]) -> None:
        try:
            answers = await self._link.read([command for each in reads for command in each.commands])
        except StoreUnavailableError as error:
            for question in reads:
                _fail(question.future, error)
        except StoreError as error:
            if len(reads) == 1:
                _fail(reads[0].future, error)
                return
            for question in reads:  # one of them is refused, the others are not to suffer
                await self._together([question])
        else:
            for question in reads:
                own, answers = answers[: len(question.commands)], answers[len(question.commands) :]
                _give(question.future, own)

    async def _alone(self, question: _Question) -> None:
        try:
            reloads = 0
            while True:
                answers = await self._link.send(question.commands)
                errors = [answer for answer in answers if isinstance(answer, ResponseError)]
                if reloads >= _RELOADS or not any(isinstance(error, NoScriptError) for error in errors):
                    break
                reloads += 1
                await self._link.reload()  # it was not run, so it may be sent again
            if errors:
                raise translated(errors[0], self._link.location) from errors[0]
        except StoreError as error:
            _fail(question.future, error)
        else:
            _give(question.future, answers)

    async def close(self) -> None:
        """Answer nobody any more, and let go of the connection."""
        await stop(self._task)
        await self._link.close()


def _give(future: Future[list[Any]], answers: list[Any]) -> None:
    if not future.done():
        future.set_result(answers)


def _fail(future: Future[list[Any]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
