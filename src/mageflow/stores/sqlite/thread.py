"""A thread that owns one connection and takes what waits for it in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from sqlite3 import Connection
from typing import Any, Generic, TypeVar

from mageflow.errors import StoreUnavailableError
from mageflow.stores.sqlite.connection import Durability, connect
from mageflow.stores.sqlite.faults import translated
from mageflow.stores.watching import Rings

__all__ = ["Answers", "Handler", "Item", "Thread"]

logger = logging.getLogger("mageflow.store")

_MOST_ITEMS = 256
_LONGEST_GATHERING = 0.005

W = TypeVar("W")


class Item(Generic[W]):
    """Something to do, and who waits for it."""

    __slots__ = ("future", "loop", "wish")

    def __init__(self, wish: W, loop: AbstractEventLoop | None = None, future: Future[Any] | None = None) -> None:
        self.wish = wish
        self.loop = loop
        self.future = future

    @property
    def is_unwanted(self) -> bool:
        """Whether the caller was cancelled meanwhile."""
        return self.future is not None and self.future.cancelled()


class Answers:
    """What is to be told to the waiting loops: one message to each, however many wait in it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._told: dict[AbstractEventLoop, list[tuple[Future[Any], Any, BaseException | None]]] = {}
        self.rings: Rings = {}
        self.afterwards: Callable[[], None] | None = None
        """What is to be done once everybody was told."""

    def give(self, item: Item[Any], value: Any) -> None:
        if item.loop is not None and item.future is not None:
            self._told.setdefault(item.loop, []).append((item.future, value, None))

    def fail(self, item: Item[Any], error: Exception) -> None:
        told = translated(error, self._path)
        if told is not error:
            told.__cause__ = error
        if item.loop is not None and item.future is not None:
            self._told.setdefault(item.loop, []).append((item.future, None, told))
        else:
            logger.warning("%s", told)

    def send(self) -> None:
        for loop in {**self._told, **self.rings}:
            try:
                loop.call_soon_threadsafe(_tell, self._told.get(loop, ()), self.rings.get(loop, ()))
            except RuntimeError:  # the loop was closed, and nobody waits in it any more
                continue
        if self.afterwards is not None:
            self.afterwards()


def _tell(told: Sequence[tuple[Future[Any], Any, BaseException | None]], rings: Sequence[Callable[[], None]]) -> None:
    for future, value, error in told:
        if future.done():  # the caller was cancelled meanwhile
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    for ring in rings:
        ring()


Handler = Callable[[Connection, list[Item[W]], Answers], None]
"""Does a batch on the connection, and says in the answers what came of each item."""


class Thread(Generic[W]):
    """Hands items from any event loop to a handler in a thread of its own.

    The thread begins at once, its connection with the first item. After `stop` no item may come.

    Args:
        name: of the thread.
        path: of the file.
        durability: of the connection.
        handle: does a batch.
        connected: called in the thread when the file is open.
    """

    def __init__(
        self, name: str, path: str, durability: Durability, handle: Handler[W], connected: Callable[[], None]
    ) -> None:
        self._path = path
        self._durability: Durability = durability
        self._handle = handle
        self._connected = connected
        self._queue: SimpleQueue[list[Item[W]] | None] = SimpleQueue()
        self._asked: dict[AbstractEventLoop, list[Item[W]]] = {}
        """What was asked in each loop since it last handed over."""
        self._left: list[Item[W]] = []
        self._over = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def ask(self, wish: W) -> Future[Any]:
        """Have something done; what is given becomes what came of it."""
        loop = asyncio.get_running_loop()
        future: Future[Any] = loop.create_future()
        asked = self._asked.get(loop)
        if asked is None:
            self._asked[loop] = [Item(wish, loop, future)]
            # Two turns of the loop from now: an end that frees a slot wakes in the next one who fills it, so that the
            # end and the pull go together, and what the end makes due is claimed without ever waiting in the file.
            loop.call_soon(loop.call_soon, self._hand_over, loop)
        else:
            asked.append(Item(wish, loop, future))
        return future

    def _hand_over(self, loop: AbstractEventLoop) -> None:
        asked = self._asked.pop(loop, None)
        if asked is None:
            return
        self._queue.put(asked)
        if self._over:  # closed by another thread between the caller's look at the store and here
            self._refuse()

    def tell(self, wish: W) -> None:
        """Have something done that nobody waits for."""
        self._queue.put([Item(wish)])

    def stop(self) -> None:
        """Let the thread do what waits, close its connection and end."""
        for loop in tuple(self._asked):
            self._hand_over(loop)
        self._queue.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, or for `timeout` seconds."""
        self._thread.join(timeout)

    def _serve(self) -> None:
        connection: Connection | None = None
        try:
            while True:
                batch, over = self._gather()
                if batch:
                    connection = self._answer(connection, batch)
                if over:
                    return
        finally:
            if connection is not None:
                connection.close()
            self._over = True
            self._refuse()

    def _refuse(self) -> None:
        """Nobody may wait for a thread that is gone."""
        answers = Answers(self._path)
        while True:
            try:
                asked = self._queue.get_nowait()
            except Empty:
                break
            for item in asked or ():
                answers.fail(item, StoreUnavailableError(f"{self._path}: the store was closed meanwhile; ask again"))
        answers.send()

    def _answer(self, connection: Connection | None, batch: list[Item[W]]) -> Connection | None:
        answers = Answers(self._path)
        try:
            if connection is None:
                connection = connect(self._path, self._durability)
                self._connected()
            self._handle(connection, batch, answers)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            answers = Answers(self._path)
            for item in batch:
                answers.fail(item, error)
        answers.send()
        return connection

    def _gather(self) -> tuple[list[Item[W]], bool]:
        """Take the next items and what waits behind them; say whether that is all there will be."""
        asked = self._left or self._queue.get()
        self._left = []
        batch: list[Item[W]] = []
        deadline = time.perf_counter() + _LONGEST_GATHERING
        while asked is not None:
            batch += asked
            if len(batch) >= _MOST_ITEMS or time.perf_counter() > deadline:
                self._left = batch[_MOST_ITEMS:]
                return batch[:_MOST_ITEMS], False
            try:
                asked = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True
