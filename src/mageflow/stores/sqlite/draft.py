"""What one transaction has read, and what it is about to write.

Events that wait together are decided one after the other on top of each other, in memory; the file sees only what came
of all of them. An event that fails leaves no trace here, so it needs no savepoint, and a row that was put and claimed
in one batch is never written at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from sqlite3 import Connection
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
from mageflow.errors import CorruptRecordError, StoreConflictError
from mageflow.stores.sqlite import statements

__all__ = ["Cache", "Draft", "Lost"]

_TRIES = 8
_HEAVY = 64 * 1024
"""Bytes from which on a record is read again rather than remembered."""

Cache = dict[str, Record]
"""The records that this process wrote last; true as long as no other connection has committed."""


class Lost(Exception):
    """The file is not what the draft was made on: a record was there, or had another revision."""


_NOTHING = Index(kind="")


class Draft:
    """One transaction's reads and writes.

    Args:
        connection: in a write transaction.
        cache: what is known of the file without reading it.
        now: the store's time, for all that is decided here.
        careful: read every record before it is written, as an earlier try found that one was not what it seemed.
    """

    def __init__(self, connection: Connection, cache: Cache, now: float, *, careful: bool = False) -> None:
        self.connection = connection
        self.now = now
        self.careful = careful
        self.puts: dict[str, OutboxRow] = {}
        self.gone: dict[str, None] = {}
        self.written: dict[str, Record | None] = {}
        self.routes: set[str] = set()
        self._cache = cache
        self._known: dict[str, Record | None] = {}
        self._corrupt: dict[str, CorruptRecordError] = {}
        self._before: dict[str, Record | None] = {}
        self._made_again: set[str] = set()
        self._touched: dict[str, float] = {}
        self._heavy: set[str] = set()

    def read(self, keys: Iterable[str]) -> None:
        """Make sure that these records are known."""
        known, cache = self._known, self._cache
        absent: list[str] = []
        for key in keys:
            if key not in known and key not in self._corrupt:
                cached = cache.get(key)
                if cached is None:
                    absent.append(key)
                known[key] = cached
        if not absent:
            return
        for key, expires_at, data in statements.load(self.connection, absent):
            record = read_record(key, expires_at, data)
            if isinstance(record, CorruptRecordError):
                self._corrupt[key] = record
                del known[key]
                continue
            known[key] = record
            if len(data) > _HEAVY:
                self._heavy.add(key)

    def peek(self, key: str) -> Record | None:
        """Give a record that is known already."""
        return self._known.get(key)

    def decide(self, keys: Collection[str], decide: Decide, token: str) -> Decision:
        """Decide an event on what is known by now, and keep what comes of it.

        Raises:
            StoreConflictError: the decision insists on revisions that are not there.
            CorruptRecordError: a record that it needs cannot be read.
        """
        for _ in range(_TRIES):
            records = Loading(self._get, keys)
            answer = decide(records, self.now)
            while isinstance(answer, Need):
                more = [key for key in answer.keys if key not in records]
                if not more:
                    raise AssertionError(f"asked again for what was loaded: {answer.keys}")
                records.more(more)
                answer = decide(records, self.now)
            if self._fits(answer):
                self._apply(answer, token)
                return answer
            keys = tuple(records)
        raise StoreConflictError(f"a commit met newer revisions {_TRIES} times and was given up; nothing was written")

    def _get(self, keys: Collection[str]) -> dict[str, Record | None]:
        known = self._known
        try:
            return {key: known[key] for key in keys}
        except KeyError:
            self.read(keys)
            for key in keys:
                if key in self._corrupt:
                    raise self._corrupt[key] from None
            return {key: known[key] for key in keys}

    def _fits(self, decision: Decision) -> bool:
        known = self._known
        for record in (*decision.writes, *decision.deletes) if decision.deletes else decision.writes:
            key = record.key
            if key not in known:
                if not record.rev and not self.careful:
                    known[key] = None  # most likely new; its insertion tells
                    continue
                self._get((key,))
            there = known[key]
            if (there.rev if there is not None else 0) != record.rev:
                return False
        return True

    def _apply(self, decision: Decision, token: str) -> None:
        for record in decision.writes:
            key = record.key
            before = self._before.setdefault(key, self._known[key])
            if not record.rev and before is not None:
                self._made_again.add(key)
            self._known[key] = self.written[key] = replace(record, rev=record.rev + 1, token=token)
            self._touched.pop(key, None)
        for record in decision.deletes:
            key = record.key
            self._before.setdefault(key, self._known[key])
            self._known[key] = self.written[key] = None
            self._touched.pop(key, None)
        for key, expires_at in decision.touches:
            self._touch(key, expires_at)
        for key in decision.settled:
            if self.puts.pop(key, None) is None or self._before.get(key, key) is not None:
                self.gone[key] = None  # else both its run and itself are of this draft: the file never saw them
        for row in decision.rows:
            self.puts.pop(row.key, None)
            self.puts[row.key] = row
            self.routes.add(row.route)

    def _touch(self, key: str, expires_at: float) -> None:
        if key not in self._known and key in self._cache:
            self._known[key] = self._cache[key]
        there = self._known.get(key)
        if there is not None:
            if there.expires_at is None or there.expires_at >= expires_at:
                return
            touched = self._known[key] = replace(there, expires_at=expires_at)
            if key in self.written:
                self.written[key] = touched
                return
        elif key in self._known:
            return
        self._touched[key] = max(expires_at, self._touched.get(key, expires_at))

    def remember(self, cache: Cache) -> None:
        """Once all of this is committed: keep what is known now for the drafts to come, the latest last."""
        for key, record in self._known.items():
            cache.pop(key, None)
            if record is not None and key not in self._heavy:
                cache[key] = record

    # Writing

    def flush(self) -> None:
        """Write what came of everything.

        Raises:
            Lost: something was taken to be absent, or to have another revision.
        """
        if self.written:
            self._flush_records()
        if self._touched:
            statements.touch_records(self.connection, [(until, key) for key, until in self._touched.items()])
        self.flush_rows()

    def flush_rows(self) -> None:
        """Write the outbox."""
        if self.gone:
            removed: dict[str, int] = {}
            for route, given in statements.settle_rows(self.connection, tuple(self.gone)):
                removed[route] = max(given, removed.get(route, 0))
            for route, given in removed.items():
                statements.note_removal(self.connection, route, given, self.now)
            self.gone = {}
        if self.puts:
            statements.put_rows(self.connection, self.puts.values())
            self.puts = {}

    def _flush_records(self) -> None:
        writes = _Writes()
        for key, record in self.written.items():
            before = self._before[key]
            if before is not None and (record is None or key in self._made_again):
                writes.delete(before)
                before = None
            if record is not None:
                data = encode(record)
                if len(data) > _HEAVY:
                    self._heavy.add(key)
                writes.put(record, data, before)
        writes.execute(self.connection)


class _Writes:
    """The statements of a batch, gathered by kind: each kind writes only the columns that it can have changed."""

    def __init__(self) -> None:
        self._inserts: list[tuple[Any, ...]] = []
        self._moves: list[tuple[Any, ...]] = []
        self._ends: list[tuple[Any, ...]] = []
        self._changes: list[tuple[Any, ...]] = []
        self._deletes: list[tuple[str, int]] = []
        self._names: list[tuple[str, str]] = []
        self._unnamed: list[str] = []

    def delete(self, record: Record) -> None:
        self._deletes.append((record.key, record.rev))
        if index_of(record).names:
            self._unnamed.append(record.key)

    def put(self, record: Record, data: bytes, before: Record | None) -> None:
        """Write a record in the place of `before`, or as a new one."""
        index = index_of(record)
        old = index_of(before) if before is not None else _NOTHING
        due_at = record.due_at if isinstance(record, RunRecord) else None
        if old.names != index.names:
            self._unnamed.append(record.key)
            self._names.extend((record.key, name) for name in index.names)
        if before is not None and _differs_little(record, before, index, old):
            change = (record.rev, index.status, index.worker, due_at)
            if index.live is old.live and record.expires_at == before.expires_at:
                self._moves.append((*change, data, record.key, before.rev))
            else:
                self._ends.append((*change, index.live, record.expires_at, data, record.key, before.rev))
            return
        columns = (
            record.rev,
            index.kind,
            record.created_at,
            record.expires_at,
            index.live,
            index.status,
            index.task,
            index.signature,
            index.root,
            index.cause,
            index.worker,
            due_at,
            index.parent,
            data,
            record.key,
        )
        if before is None:
            self._inserts.append(columns)
        else:
            self._changes.append((*columns, before.rev))

    def execute(self, connection: Connection) -> None:
        """Write all of it.

        Raises:
            Lost: a record is not as it was loaded.
        """
        done = statements.delete_records(connection, self._deletes)
        done += statements.insert_records(connection, self._inserts)
        done += statements.move_records(connection, self._moves)
        done += statements.end_records(connection, self._ends)
        done += statements.change_records(connection, self._changes)
        if done != sum(map(len, (self._deletes, self._inserts, self._moves, self._ends, self._changes))):
            raise Lost
        if self._unnamed:
            statements.delete_names(connection, self._unnamed)
        statements.insert_names(connection, self._names)


def _differs_little(record: Record, before: Record, index: Index, old: Index) -> bool:
    """Whether all that never changes in a run's life is as it was."""
    return (
        record.created_at == before.created_at
        and index.kind == old.kind
        and index.task == old.task
        and index.signature == old.signature
        and index.root == old.root
        and index.cause == old.cause
        and index.parent == old.parent
    )


def read_record(key: str, expires_at: float | None, data: bytes) -> Record | CorruptRecordError:
    """Decode a record; one that cannot be read is the error that says so."""
    try:
        record = decode(data, key)
    except CorruptRecordError as error:
        return error
    return record if record.expires_at == expires_at else replace(record, expires_at=expires_at)
