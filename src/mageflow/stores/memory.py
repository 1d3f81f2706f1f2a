"""The store in memory: the model that every other store is held against, and the one of tests.

It really serialises: what is read was encoded and decoded, so nothing is shared between two readers.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from mageflow.core.decision import Decide, Decision, Loading, Need
from mageflow.core.records import (
    Index,
    OutboxRow,
    Record,
    RunRecord,
    decode,
    encode,
    index_of,
    replace,
)
from mageflow.core.replies import ClaimReply
from mageflow.errors import StoreConflictError
from mageflow.ports.clock import Clock, SystemClock
from mageflow.ports.store import Beater, Claims, DecideClaim, Filter, Page, Ring
from mageflow.stores.paging import cursor_after, place_of
from mageflow.stores.queues import Outbox
from mageflow.stores.sharing import shares
from mageflow.stores.watching import Rings, Watchers, ring_out

__all__ = ["MemoryStore"]

logger = logging.getLogger("mageflow.store")

_TRIES = 8
_OUT_OF_THE_WAY = 3600.0


class _Kept:
    """A record as it is stored, and the fields that it is found by."""

    __slots__ = ("beat", "created_at", "data", "due_at", "expires_at", "index", "key", "rev")

    def __init__(self, record: Record, beat: int) -> None:
        self.key = record.key
        self.data = encode(record)
        self.rev = record.rev
        self.created_at = record.created_at
        self.expires_at = record.expires_at
        self.index: Index = index_of(record)
        self.due_at = record.due_at if isinstance(record, RunRecord) else None
        self.beat = beat

    def read(self) -> Record:
        record = decode(self.data, self.key)
        return record if record.expires_at == self.expires_at else replace(record, expires_at=self.expires_at)

    def is_expired(self, now: float) -> bool:
        return not self.index.live and self.expires_at is not None and self.expires_at <= now


class _Beater:
    """Beats from any thread."""

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat = beat

    def beat(self) -> None:
        self._beat()

    def close(self) -> None:
        """Do nothing: nothing was opened."""


class MemoryStore:
    """Keeps everything in this process, for as long as it lives.

    Args:
        clock: the store's time.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._records: dict[str, _Kept] = {}
        self._outbox = Outbox()
        self._watchers = Watchers()
        self._blamed: set[str] = set()

    @property
    def location(self) -> str:
        return "memory"

    async def now(self) -> float:
        return self._clock.now()

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        await asyncio.sleep(0)
        with self._lock:
            return {key: self._read(key) for key in keys}

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        await asyncio.sleep(0)
        rings: Rings = {}
        with self._lock:
            decision = self._transact(keys, decide, token, self._clock.now(), rings)
        ring_out(rings)
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
        await asyncio.sleep(0)
        rings: Rings = {}
        with self._lock:
            now = self._clock.now()
            replies: list[ClaimReply] = []
            rows = self._outbox.due(routes, now, shares(taken, limit), lambda row: row.task in tasks)
            for row in rows:
                try:
                    keys, step = decide(row)
                    replies.append(self._transact(keys, step, token, now, rings).reply)
                except Exception as error:  # noqa: BLE001 - whatever it is, its neighbours go on
                    self._set_aside(row, now, error)
            next_due = now if len(rows) >= limit else self._outbox.next_due(routes, now)
        ring_out(rings)
        return Claims(tuple(replies), next_due)

    async def due(self, routes: Collection[str], limit: int, *, redeliver_after: float) -> list[OutboxRow]:
        await asyncio.sleep(0)
        with self._lock:
            return self._outbox.give(routes, self._clock.now(), limit, redeliver_after)

    async def strays(self, routes: Collection[str], tasks: Collection[str], limit: int) -> list[OutboxRow]:
        await asyncio.sleep(0)
        with self._lock:
            return self._outbox.due(routes, self._clock.now(), [False] * limit, lambda row: row.task not in tasks)

    async def beats(self) -> Mapping[str, int]:
        await asyncio.sleep(0)
        with self._lock:
            return {key: kept.beat for key, kept in self._records.items() if kept.index.kind == "worker"}

    def beater(self, worker: str) -> Beater:
        return _Beater(lambda: self._beat(worker))

    def _beat(self, worker: str) -> None:
        with self._lock:
            kept = self._records.get(worker)
            if kept is not None and kept.index.kind == "worker":
                kept.beat += 1

    async def query(self, where: Filter, *, limit: int, cursor: str | None = None) -> Page:
        await asyncio.sleep(0)
        with self._lock:
            found = sorted(
                (kept for kept in self._records.values() if _matches(kept, where)),
                key=lambda kept: (kept.created_at, kept.key),
                reverse=True,
            )
            if cursor is not None:
                place = place_of(cursor)
                found = [kept for kept in found if (kept.created_at, kept.key) < place]
            chosen = found[:limit]
            after = cursor_after(chosen[-1].created_at, chosen[-1].key) if len(found) > limit and chosen else None
            return Page(tuple(kept.read() for kept in chosen), after)

    async def count(self, where: Filter) -> int:
        await asyncio.sleep(0)
        with self._lock:
            return sum(_matches(kept, where) for kept in self._records.values())

    async def purge(self, limit: int) -> int:
        await asyncio.sleep(0)
        rings: Rings = {}
        with self._lock:
            removed = self._purge(limit, self._clock.now())
            self._watchers.collect(dict.fromkeys(removed), (), rings)
        ring_out(rings)
        return len(removed)

    def watch(self, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        return self._watchers.watch(keys, ring)

    def watch_tree(self, root: str, ring: Ring) -> Callable[[], None]:
        return self._watchers.watch_tree(root, ring)

    def watch_route(self, route: str, ring: Callable[[], None]) -> Callable[[], None]:
        return self._watchers.watch_route(route, ring)

    async def describe(self) -> Mapping[str, Any]:
        with self._lock:
            return {"store": "memory", "records": len(self._records), "outbox": len(self._outbox)}

    async def aclose(self) -> None:
        """Do nothing: the records live as long as this object."""

    # What follows holds the lock.

    def _read(self, key: str) -> Record | None:
        kept = self._records.get(key)
        return kept.read() if kept is not None else None

    def _read_all(self, keys: Collection[str]) -> dict[str, Record | None]:
        return {key: self._read(key) for key in keys}

    def _transact(self, keys: Collection[str], decide: Decide, token: str, now: float, rings: Rings) -> Decision:
        for _ in range(_TRIES):
            records = Loading(self._read_all, keys)
            answer = decide(records, now)
            while isinstance(answer, Need):
                more = [key for key in answer.keys if key not in records]
                if not more:
                    raise AssertionError(f"asked again for what was loaded: {answer.keys}")
                records.more(more)
                answer = decide(records, now)
            if all(self._rev(record.key) == record.rev for record in (*answer.writes, *answer.deletes)):
                self._apply(answer, token, now, rings)
                return answer
        raise StoreConflictError(
            f"{self.location}: a commit met newer revisions {_TRIES} times and was given up; nothing was written"
        )

    def _rev(self, key: str) -> int:
        kept = self._records.get(key)
        return kept.rev if kept is not None else 0

    def _apply(self, decision: Decision, token: str, now: float, rings: Rings) -> None:
        written = [replace(record, rev=record.rev + 1, token=token) for record in decision.writes]
        kept = [_Kept(record, old.beat if (old := self._records.get(record.key)) else 0) for record in written]
        changed: dict[str, Record | None] = {record.key: record for record in written}
        self._records.update((each.key, each) for each in kept)
        for record in decision.deletes:
            self._records.pop(record.key, None)
            changed[record.key] = None
        for key, expires_at in decision.touches:
            touched = self._records.get(key)
            if touched is not None and touched.expires_at is not None:
                touched.expires_at = max(touched.expires_at, expires_at)
        for key in decision.settled:
            self._outbox.settle(key, now)
        for row in decision.rows:
            self._outbox.put(row)
        self._watchers.collect(changed, (row.route for row in decision.rows), rings)

    def _set_aside(self, row: OutboxRow, now: float, error: Exception) -> None:
        """A row whose claim cannot be decided must not be the first of every pull from now on."""
        self._outbox.put(replace(row, due_at=now + _OUT_OF_THE_WAY))
        if row.key not in self._blamed:
            self._blamed.add(row.key)
            logger.error(
                "%s: the claim of %s failed and is put off for an hour", self.location, row.run, exc_info=error
            )

    def _purge(self, limit: int, now: float) -> list[str]:
        held: set[str] = set()
        namers: dict[str, list[str]] = {}
        for kept in self._records.values():
            for name in kept.index.names:
                namers.setdefault(name, []).append(kept.key)
            if kept.index.live:
                index = kept.index
                held.update(key for key in (index.signature, index.root, index.cause) if key is not None)
        expired = [
            kept
            for kept in self._records.values()
            if kept.is_expired(now) and kept.key not in held and kept.index.parent not in self._records
        ]
        expired.sort(key=lambda kept: (kept.expires_at or 0.0, kept.key))
        removed: list[str] = []
        for kept in expired:
            if len(removed) >= limit:
                break
            above = self._above(kept.key, namers)
            keepers = [namer for namer in above if not namer.is_expired(now)]
            if keepers or any(namer.key in held for namer in above):
                kept.expires_at = max(kept.expires_at or 0.0, *(namer.expires_at or 0.0 for namer in keepers), 0.0)
            else:
                removed.append(kept.key)
        for key in removed:
            del self._records[key]
        return removed

    def _above(self, key: str, namers: Mapping[str, list[str]]) -> list[_Kept]:
        """Give all that name `key`, to any depth."""
        seen = {key}
        waiting = [key]
        while waiting:
            for namer in namers.get(waiting.pop(), ()):
                if namer not in seen:
                    seen.add(namer)
                    waiting.append(namer)
        seen.discard(key)
        return [self._records[namer] for namer in seen]


def _matches(kept: _Kept, where: Filter) -> bool:
    index = kept.index
    due_at = kept.due_at
    return (
        index.kind == where.kind
        and (not where.statuses or index.status in where.statuses)
        and (where.live is None or index.live is where.live)
        and (where.task is None or index.task == where.task)
        and (where.signature is None or index.signature == where.signature)
        and (where.root is None or index.root == where.root)
        and (where.cause is None or index.cause == where.cause)
        and (where.worker is None or index.worker == where.worker)
        and (where.names is None or where.names in index.names)
        and (where.due_after is None or (due_at is not None and due_at > where.due_after))
        and (where.due_before is None or (due_at is not None and due_at <= where.due_before))
    )
