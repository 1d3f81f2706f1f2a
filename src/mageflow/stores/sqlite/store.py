"""The SQLite store: what callers see of it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from sqlite3 import Connection
from typing import Any

from mageflow.core.decision import Decide, Decision
from mageflow.core.records import OutboxRow, Record
from mageflow.ports.clock import Clock, SystemClock
from mageflow.ports.store import Beater, Claims, DecideClaim, Filter, Page, Ring
from mageflow.stores.sharing import shares
from mageflow.stores.sqlite import statements, upkeep
from mageflow.stores.sqlite.beater import SqliteBeater
from mageflow.stores.sqlite.bells import Doorbell
from mageflow.stores.sqlite.claims import Pull
from mageflow.stores.sqlite.connection import Durability
from mageflow.stores.sqlite.reader import Load, Look, Question, Reader
from mageflow.stores.sqlite.thread import Thread
from mageflow.stores.sqlite.writer import Commit, Upkeep, Wish, Writer
from mageflow.stores.watching import Watchers

__all__ = ["SqliteStore"]

_AT_EXIT = 2.0
"""Seconds that a program's exit waits for each thread, where nobody closed the store."""

_inherited: list[object] = []
"""Threads' leavings of a parent process: closing its connections here would pull its locks from under it."""


class _Open:
    """The threads of one process on the file: one writes, one reads."""

    def __init__(self, path: str, durability: Durability, clock: Clock, watchers: Watchers) -> None:
        self.pid = os.getpid()
        self.bell = Doorbell(path, watchers)
        self.reader = Reader(path)
        self.reading: Thread[Question] = Thread(
            "mageflow-sqlite-reader", path, durability, self.reader.handle, self.bell.ready
        )
        writer = Writer(path, clock, watchers, self.bell.ring, lambda: self.reading.tell(Look(statements.checkpoint)))
        self.writing: Thread[Wish] = Thread("mageflow-sqlite-writer", path, durability, writer.handle, self.bell.ready)

    def stop(self) -> None:
        if self.pid == os.getpid():
            self.reading.stop()
            self.writing.stop()
            self.bell.stop()
            if not threading.main_thread().is_alive():  # the program ends: let what is written reach the file itself
                self.reading.join(_AT_EXIT)
                self.writing.join(_AT_EXIT)
                self.bell.join(_AT_EXIT)

    def join(self) -> None:
        self.reading.join()
        self.writing.join()
        self.bell.join()


class SqliteStore:
    """Keeps everything in one file, which several processes of one machine may use at once.

    Nothing is opened before the first call, which may come from any event loop.

    Args:
        path: of the file; it is made if it is not there, its folder is not.
        durability: "normal": a crash of the process loses nothing, a power cut at most the last commits; "full": nor
            does a power cut, and each commit waits for the disk.
        clock: the store's time.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, durability: Durability = "normal", clock: Clock | None = None
    ) -> None:
        self._path = os.fspath(path)
        self._durability: Durability = durability
        self._clock = clock or SystemClock()
        self._watchers = Watchers()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._opened: _Open | None = None
        self._watched = False

    @property
    def location(self) -> str:
        return self._path

    def _open(self) -> _Open:
        opened = self._opened
        if opened is not None and opened.pid == os.getpid():
            return opened
        if self._pid != os.getpid():  # forked: what is here belongs to threads that this process does not have
            _inherited.append((self._opened, self._lock, self._watchers))
            self._lock, self._watchers, self._opened = threading.Lock(), Watchers(), None
            self._pid = os.getpid()
        with self._lock:
            if self._opened is None:
                self._opened = _Open(self._path, self._durability, self._clock, self._watchers)
                weakref.finalize(self, self._opened.stop)
                if self._watched:
                    self._opened.bell.want()
            return self._opened

    async def _write(self, wish: Wish) -> Any:
        return await self._open().writing.ask(wish)

    async def _read(self, act: Callable[[Connection], Any]) -> Any:
        return await self._open().reading.ask(Look(act))

    async def now(self) -> float:
        return self._clock.now()

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        found: Mapping[str, Record | None] = await self._open().reading.ask(Load(keys))
        return found

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        decision: Decision = await self._open().writing.ask(Commit(keys, decide, token))
        return decision

    async def claim(
        self,
        routes: Collection[str],
        tasks: Collection[str],
        limit: int,
        decide: DecideClaim,
        *,
        token: str,
        taken: int = 0,
    ) -> Claims:
        claims: Claims = await self._open().writing.ask(Pull(routes, tasks, shares(taken, limit), decide, token))
        return claims

    async def due(self, routes: Collection[str], limit: int, *, redeliver_after: float) -> list[OutboxRow]:
        rows: list[OutboxRow] = await self._write(
            Upkeep(
                lambda connection, now: upkeep.give_due(connection, routes, limit, redeliver_after, now),
                look=lambda connection, now: None if upkeep.has_due(connection, routes, now) else [],
            )
        )
        return rows

    async def strays(self, routes: Collection[str], tasks: Collection[str], limit: int) -> list[OutboxRow]:
        now = self._clock.now()
        rows: list[OutboxRow] = await self._read(
            lambda connection: upkeep.strays(connection, routes, tasks, limit, now)
        )
        return rows

    async def beats(self) -> Mapping[str, int]:
        beats: dict[str, int] = await self._read(statements.beats)
        return beats

    def beater(self, worker: str) -> Beater:
        return SqliteBeater(self._path, worker)

    async def query(self, where: Filter, *, limit: int, cursor: str | None = None) -> Page:
        reader = self._open().reader
        page: Page = await self._read(lambda connection: reader.query(connection, where, limit, cursor))
        return page

    async def count(self, where: Filter) -> int:
        counted: int = await self._read(lambda connection: statements.count(connection, where))
        return counted

    async def purge(self, limit: int) -> int:
        removed: list[str] = await self._write(
            Upkeep(lambda connection, now: upkeep.purge(connection, limit, now), removes=True)
        )
        return len(removed)

    def watch(self, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        return self._hearing().watch(keys, ring)

    def watch_tree(self, root: str, ring: Ring) -> Callable[[], None]:
        return self._hearing().watch_tree(root, ring)

    def watch_route(self, route: str, ring: Callable[[], None]) -> Callable[[], None]:
        return self._hearing().watch_route(route, ring)

    def _hearing(self) -> Watchers:
        """Give the watchers; from now on the other processes' commits are heard of too."""
        if not self._watched:
            self._watched = True
            opened = self._opened
            if opened is not None and opened.pid == os.getpid():
                opened.bell.want()
        return self._watchers

    async def describe(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = await self._read(self._open().reader.describe)
        return {"store": "sqlite", "path": self._path, "durability": self._durability, **facts}

    async def aclose(self) -> None:
        opened, self._opened = self._opened, None
        if opened is None or opened.pid != os.getpid():
            return
        opened.stop()
        await asyncio.to_thread(opened.join)
