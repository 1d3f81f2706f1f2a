"""The one writer: what waits is committed as one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from sqlite3 import Connection
from typing import Any

from mageflow.core.decision import Decide
from mageflow.core.records import Record
from mageflow.errors import StoreConflictError
from mageflow.ports.clock import Clock
from mageflow.stores.sqlite.claims import Pull, look, pull
from mageflow.stores.sqlite.connection import patiently
from mageflow.stores.sqlite.draft import Cache, Draft, Lost
from mageflow.stores.sqlite.statements import data_version
from mageflow.stores.sqlite.thread import Answers, Item
from mageflow.stores.watching import Watchers

__all__ = ["Commit", "Upkeep", "Wish", "Writer"]

logger = logging.getLogger("mageflow.store")

_MOST_CACHED = 4096
_PAGES_A_COMMIT = 8
_TIDY_EVERY = 1000
"""Pages, roughly, after which the log is copied into the file by the reader's thread: here it would hold up commits."""


class Commit:
    """An event that somebody wants decided and committed."""

    __slots__ = ("decide", "keys", "token")

    def __init__(self, keys: Collection[str], decide: Decide, token: str) -> None:
        self.keys = keys
        self.decide = decide
        self.token = token


class Upkeep:
    """Something else to do in a transaction; called with the connection and the store's time."""

    __slots__ = ("act", "look", "removes")

    def __init__(
        self,
        act: Callable[[Connection, float], Any],
        *,
        removes: bool = False,
        look: Callable[[Connection, float], Any] | None = None,
    ) -> None:
        self.act = act
        self.removes = removes
        """Whether it gives the keys of records that it removed."""
        self.look = look
        """Gives, by reading only, what it comes to where there is nothing to do; None where there is something."""


Wish = Commit | Pull | Upkeep


class _Failed:
    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Done:
    """What one transaction came to."""

    __slots__ = ("changed", "due", "purged", "routes", "told")

    def __init__(self) -> None:
        self.told: list[tuple[Item[Wish], Any]] = []
        self.changed: dict[str, Record | None] = {}
        self.routes: set[str] = set()
        self.due: set[str] = set()
        """The routes whose new rows were not claimed in the same transaction."""
        self.purged = False


class Writer:
    """Handles the batches of the writer's thread.

    Args:
        location: of the file, for logs.
        clock: the store's time.
        watchers: who is to be rung in this process.
        ring: called after each batch with the records that it changed and the routes that have new rows.
        tidy: called now and then, when the write-ahead log has grown.
    """

    def __init__(
        self,
        location: str,
        clock: Clock,
        watchers: Watchers,
        ring: Callable[[Mapping[str, Record | None], set[str]], None],
        tidy: Callable[[], None],
    ) -> None:
        self._location = location
        self._clock = clock
        self._watchers = watchers
        self._ring = ring
        self._cache: Cache = {}
        self._version = -1
        self._blamed: set[str] = set()
        self._tidy = tidy
        self._untidy = 0

    def handle(self, connection: Connection, batch: list[Item[Wish]], answers: Answers) -> None:
        """Commit a batch; where that cannot be done at once, each item by itself."""
        now = self._clock.now()
        batch = [item for item in batch if not item.is_unwanted]
        if not batch or patiently(lambda: self._find_nothing(connection, batch, now, answers)):
            return
        changed: dict[str, Record | None] = {}
        due: set[str] = set()
        answers.afterwards = lambda: self._ring(changed, due) if changed or due else None
        patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            done = self._attempt(connection, batch, now, careful=False)
        except Exception as error:  # noqa: BLE001 - the item that it comes from gets it below
            logger.debug("%s: a batch of %d is done item by item (%r)", self._location, len(batch), error)
            every = self._one_by_one(connection, batch, now, answers)
        else:
            every = [done]
        for done in every:
            self._tell(done, answers)
            changed.update(done.changed)
            due |= done.due

    @staticmethod
    def _find_nothing(connection: Connection, batch: list[Item[Wish]], now: float, answers: Answers) -> bool:
        """Answer a batch that has nothing to do: who is idle holds up no other process's commits."""
        if any(
            isinstance(item.wish, Commit) or (isinstance(item.wish, Upkeep) and not item.wish.look) for item in batch
        ):
            return False
        found: list[tuple[Item[Wish], Any]] = []
        connection.execute("BEGIN")
        try:
            draft = Draft(connection, {}, now)
            for item in batch:
                wish = item.wish
                if isinstance(wish, Pull):
                    nothing = look(draft, wish)
                else:
                    nothing = wish.look(connection, now) if isinstance(wish, Upkeep) and wish.look else None
                if nothing is None:
                    return False
                found.append((item, nothing))
        finally:
            connection.execute("COMMIT")
        for item, nothing in found:
            answers.give(item, nothing)
        return True

    def _one_by_one(self, connection: Connection, batch: list[Item[Wish]], now: float, answers: Answers) -> list[_Done]:
        every: list[_Done] = []
        for item in batch:
            self._cache.clear()
            try:
                patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
                done = self._attempt(connection, [item], now, careful=True)
            except Lost:
                answers.fail(item, StoreConflictError(f"{self._location}: the file changed during a commit"))
            except Exception as error:  # noqa: BLE001 - its own caller gets it
                answers.fail(item, error)
            else:
                every.append(done)
        return every

    def _tell(self, done: _Done, answers: Answers) -> None:
        for item, value in done.told:
            if isinstance(value, _Failed):
                answers.fail(item, value.error)
            else:
                answers.give(item, value)
        self._watchers.collect(done.changed, done.routes, answers.rings)

    def _attempt(self, connection: Connection, batch: list[Item[Wish]], now: float, *, careful: bool) -> _Done:
        done = _Done()
        try:
            version = data_version(connection)
            if version != self._version:
                self._cache.clear()
                self._version = version
            draft = Draft(connection, self._cache, now, careful=careful)
            self._decide(draft, batch, done)
            done.changed.update(draft.written)
            done.routes = draft.routes
            done.due = {row.route for row in draft.puts.values()}
            draft.flush()
            self._keep_up(connection, batch, now, done)
            patiently(lambda: connection.execute("COMMIT"))
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._untidy += _PAGES_A_COMMIT + len(draft.written)
        if self._untidy > _TIDY_EVERY:
            self._untidy = 0
            self._tidy()
        draft.remember(self._cache)
        while len(self._cache) > _MOST_CACHED:
            for key in list(islice(self._cache, _MOST_CACHED // 4)):
                del self._cache[key]
        if done.purged:
            self._cache.clear()  # it removes records, and makes the expiry of others later
        return done

    def _decide(self, draft: Draft, batch: list[Item[Wish]], done: _Done) -> None:
        """Decide events in the order in which they came, then pulls: they see what the events have put."""
        draft.read([key for item in batch if isinstance(item.wish, Commit) for key in item.wish.keys])
        pulls: list[Item[Wish]] = []
        wishes: list[Pull] = []
        for item in batch:
            wish = item.wish
            if isinstance(wish, Commit):
                try:
                    done.told.append((item, draft.decide(wish.keys, wish.decide, wish.token)))
                except Exception as error:  # noqa: BLE001 - its own caller gets it, and its neighbours go on
                    done.told.append((item, _Failed(error)))
            elif isinstance(wish, Pull):
                wish.replies.clear()
                pulls.append(item)
                wishes.append(wish)
        if wishes:
            done.told.extend(zip(pulls, pull(draft, wishes, self._blamed, self._location), strict=True))

    def _keep_up(self, connection: Connection, batch: list[Item[Wish]], now: float, done: _Done) -> None:
        for item in batch:
            wish = item.wish
            if not isinstance(wish, Upkeep):
                continue
            connection.execute("SAVEPOINT item")
            try:
                value = wish.act(connection, now)
            except Exception as error:  # noqa: BLE001 - its own caller gets it, and its neighbours go on
                connection.execute("ROLLBACK TO item")
                value = _Failed(error)
            connection.execute("RELEASE item")
            done.told.append((item, value))
            if wish.removes and not isinstance(value, _Failed):
                done.purged = True
                done.changed.update(dict.fromkeys(value))
