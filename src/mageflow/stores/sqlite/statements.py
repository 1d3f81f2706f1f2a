"""The statements of `statements.sql`, one typed function each."""

from __future__ import annotations

import pkgutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from sqlite3 import Connection
from typing import Any

from mageflow.core.records import OutboxRow, RowAction
from mageflow.ports.store import Filter

__all__ = [
    "DueRow",
    "beat",
    "beats",
    "change_records",
    "checkpoint",
    "count",
    "data_version",
    "delete_names",
    "delete_records",
    "due_again",
    "due_in_lane",
    "due_of_task",
    "end_records",
    "expired",
    "facts",
    "give_rows",
    "insert_names",
    "insert_records",
    "keepers",
    "lanes",
    "load",
    "may_be_given_again",
    "move_records",
    "next_in_lane",
    "note_given",
    "note_removal",
    "purge_records",
    "put_rows",
    "query",
    "route_state",
    "settle_rows",
    "tasks_of_route",
    "touch_records",
]

Fields = tuple[Any, ...]

_MOST_KEYS = 512


@cache
def _texts() -> dict[str, str]:
    data = pkgutil.get_data(__package__ or "", "statements.sql")
    assert data is not None
    texts: dict[str, str] = {}
    for block in data.decode().split("-- name: ")[1:]:
        name, _, text = block.partition("\n")
        texts[name.strip()] = text.strip().removesuffix(";")
    return texts


@cache
def _text(name: str) -> str:
    return _texts()[name]


@cache
def _spread(name: str, size: int) -> str:
    return _text(name).replace("(:keys)", f"({', '.join('?' * size)})")


def _portions(name: str, keys: Sequence[str]) -> Iterator[tuple[str, list[str | None]]]:
    """Give statement and values for `keys`, in few sizes, so that each is prepared once: the rest are NULLs."""
    for begin in range(0, len(keys), _MOST_KEYS):
        portion: list[str | None] = [*keys[begin : begin + _MOST_KEYS]]
        size = 1
        while size < len(portion):
            size *= 2
        yield _spread(name, size), portion + [None] * (size - len(portion))


class DueRow:
    """A row of the outbox where it stands in the order of claims."""

    __slots__ = ("id", "place", "row")

    def __init__(self, fields: Fields) -> None:
        self.id: int = fields[0]
        self.row = OutboxRow(
            key=fields[1],
            run=fields[2],
            action=RowAction(fields[3]),
            route=fields[4],
            task=fields[5],
            priority=fields[6],
            due_at=fields[7],
            deliveries=fields[8],
        )
        self.place = (-self.row.priority, self.row.due_at, self.id)


def data_version(connection: Connection) -> int:
    """Give a number that changes when another connection has committed."""
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


def checkpoint(connection: Connection) -> None:
    """Copy the write-ahead log into the file, as far as nobody has to wait for it."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


# Records


def load(connection: Connection, keys: Sequence[str]) -> Iterator[tuple[str, float | None, bytes]]:
    """Give key, expiry and data of those records that exist."""
    for text, values in _portions("load", keys):
        yield from connection.execute(text, values).fetchall()


def _change(connection: Connection, name: str, rows: Sequence[Fields]) -> int:
    """Execute for each row; give how many records were changed."""
    if not rows:
        return 0
    return connection.executemany(_text(name), rows).rowcount


def insert_records(connection: Connection, rows: Sequence[Fields]) -> int:
    """Put new records."""
    return _change(connection, "insert_records", rows)


def move_records(connection: Connection, rows: Sequence[Fields]) -> int:
    """Change what changes while a record lives."""
    return _change(connection, "move_records", rows)


def end_records(connection: Connection, rows: Sequence[Fields]) -> int:
    """Change what changes when a record's life ends."""
    return _change(connection, "end_records", rows)


def change_records(connection: Connection, rows: Sequence[Fields]) -> int:
    """Change everything but the key and the beat."""
    return _change(connection, "change_records", rows)


def delete_records(connection: Connection, rows: Sequence[tuple[str, int]]) -> int:
    """Remove records of these keys and revisions."""
    return _change(connection, "delete_records", rows)


def touch_records(connection: Connection, rows: Sequence[tuple[float, str]]) -> None:
    """Make expiries later, never earlier; where there is none it stays so."""
    _change(connection, "touch_records", rows)


def insert_names(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    """Note which records keep which others."""
    _change(connection, "insert_names", rows)


def delete_names(connection: Connection, keys: Sequence[str]) -> None:
    """Forget what these records keep."""
    for text, values in _portions("delete_names", keys):
        connection.execute(text, values)


def beat(connection: Connection, worker: str) -> None:
    """Add one to a worker's beat."""
    connection.execute(_text("beat"), (worker,))


def beats(connection: Connection) -> dict[str, int]:
    """Give the beats of all workers."""
    return dict(connection.execute(_text("beats")).fetchall())


# The outbox


def put_rows(connection: Connection, rows: Iterable[OutboxRow]) -> None:
    """Put rows in this order; one with the same key is replaced."""
    connection.executemany(
        _text("put_rows"),
        [
            (row.key, row.run, str(row.action), row.route, row.task, row.priority, row.due_at, row.deliveries)
            for row in rows
        ],
    )


def settle_rows(connection: Connection, keys: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Remove rows; give route and number of those that an engine had been given."""
    for text, values in _portions("settle_rows", keys):
        for route, given in connection.execute(text, values).fetchall():
            if given:
                yield route, given


def note_removal(connection: Connection, route: str, given: int, now: float) -> None:
    """Note that a row which the engine had been given was removed."""
    connection.execute(_text("note_removal"), (route, given, now))


def lanes(connection: Connection, route: str) -> list[tuple[int, int, float]]:
    """Give for a route whether handed, priority and earliest due time of its rows."""
    return connection.execute(_text("lanes"), (route,)).fetchall()


def due_in_lane(connection: Connection, route: str, handed: int, priority: int, now: float) -> Iterator[DueRow]:
    """Give the due rows of a lane in order; read only as far as the caller goes."""
    cursor = connection.execute(_text("due_in_lane"), (route, handed, priority, now))
    try:
        for fields in cursor:
            yield DueRow(fields)
    finally:
        cursor.close()


def due_of_task(
    connection: Connection, route: str, task: str, lane: tuple[int, int], now: float, limit: int
) -> Iterator[DueRow]:
    """Give the due rows of one task in a lane (whether handed, priority), in order."""
    rows = connection.execute(_text("due_of_task"), (route, task, *lane, now, limit)).fetchall()
    return map(DueRow, rows)


def next_in_lane(connection: Connection, route: str, handed: int, priority: int, now: float) -> float | None:
    """Give when the next row of a lane is due after `now`."""
    found: float | None = connection.execute(_text("next_in_lane"), (route, handed, priority, now)).fetchone()[0]
    return found


def tasks_of_route(connection: Connection, route: str) -> list[str]:
    """Give the tasks of the rows of a route."""
    return [task for (task,) in connection.execute(_text("tasks_of_route"), (route,)).fetchall()]


def route_state(connection: Connection, route: str) -> tuple[int, int, float | None]:
    """Give how many rows the engine was given, the highest number among those removed, and when one last was."""
    found: tuple[int, int, float | None] | None = connection.execute(_text("route_state"), (route,)).fetchone()
    return found or (0, 0, None)


def due_again(
    connection: Connection, route: str, priority: int, now: float, removed: tuple[int, float], limit: int
) -> Iterator[DueRow]:
    """Give the rows of a priority that the engine was given and has probably lost.

    `removed` is the highest number among the rows of the route that were removed, and when one last was.
    """
    values = (route, now, *removed, priority, limit)
    return map(DueRow, connection.execute(_text("due_again"), values).fetchall())


def may_be_given_again(connection: Connection, route: str, now: float) -> bool:
    """Whether the wait of some row that the engine was given is over."""
    return bool(connection.execute(_text("may_be_given_again"), (route, now)).fetchone()[0])


def give_rows(connection: Connection, rows: Sequence[tuple[int, int, float, float, int]]) -> None:
    """Note of rows (by id, the last value) their number, deliveries, wait, and when they may be given again."""
    connection.executemany(_text("give_rows"), rows)


def note_given(connection: Connection, route: str, given: int) -> None:
    """Note how many rows the engine behind a route was given."""
    connection.execute(_text("note_given"), (route, given))


# The purge


def expired(connection: Connection, now: float, after: tuple[float, str], limit: int) -> list[tuple[str, float, int]]:
    """Give key, expiry and whether others name it, of expired records that no live run refers to."""
    return connection.execute(_text("expired"), (now, *after, limit)).fetchall()


def keepers(connection: Connection, key: str, now: float) -> tuple[bool, float | None]:
    """Say whether something that names `key` is kept, and until when."""
    kept, until = connection.execute(_text("keepers"), (key, now)).fetchone()
    return bool(kept), until


def purge_records(connection: Connection, keys: Sequence[str]) -> None:
    """Remove records, whatever their revision."""
    for text, values in _portions("purge_records", keys):
        connection.execute(text, values)


# For people


_RARE = ("cancelled", "failed", "interrupted", "running", "scheduled", "suspended", "unroutable")
_HOLDS_RARE = f"status IN ({', '.join(map(repr, _RARE))})"
"""What `records_status` holds, in its own words."""


def _conditions(where: Filter) -> tuple[list[str], list[Any]]:
    """Give the conditions of a filter and their values.

    A partial index is only taken where its own condition stands among those asked for; and a `+` before `kind` says
    that there is a better index than the one by kind.
    """
    rare = set(_RARE).issuperset(where.statuses) if where.statuses else where.worker is not None
    narrow = rare or where.names is not None or (where.signature is not None and where.live is True)
    conditions = ["+kind = ?" if narrow else "kind = ?"]
    values: list[Any] = [where.kind]
    for column in ("task", "signature", "root", "cause", "worker"):
        value = getattr(where, column)
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if rare:
        conditions.append(_HOLDS_RARE)
    statuses = where.statuses or (("running",) if where.worker is not None else ())  # as `index_of` has it
    if statuses:
        conditions.append(f"status IN ({', '.join('?' * len(statuses))})")
        values.extend(statuses)
    if where.live is not None:
        conditions.append(f"live = {int(where.live)}")
    if where.names is not None:
        conditions.append("key IN (SELECT n.key FROM names AS n WHERE n.name = ?)")
        values.append(where.names)
    if where.due_after is not None:
        conditions.append("due_at > ?")
        values.append(where.due_after)
    if where.due_before is not None:
        conditions.append("due_at <= ?")
        values.append(where.due_before)
    return conditions, values


def query(
    connection: Connection, where: Filter, before: tuple[float, str] | None, limit: int
) -> list[tuple[str, float, float | None, bytes]]:
    """Give key, creation, expiry and data of matching records, newest first, from before a place on."""
    conditions, values = _conditions(where)
    if before is not None:
        conditions.append("(created_at, key) < (?, ?)")
        values.extend(before)
    text = _text("query").replace("(:where)", " AND ".join(conditions))
    return connection.execute(text, (*values, limit)).fetchall()


def count(connection: Connection, where: Filter) -> int:
    """Count matching records."""
    conditions, values = _conditions(where)
    counted: int = connection.execute(_text("count").replace("(:where)", " AND ".join(conditions)), values).fetchone()[
        0
    ]
    return counted


def facts(connection: Connection) -> dict[str, Any]:
    """Give what people want to know of the file."""
    records, rows = connection.execute(_text("facts")).fetchone()
    pages, size = (
        connection.execute("PRAGMA page_count").fetchone()[0],
        connection.execute("PRAGMA page_size").fetchone()[0],
    )
    return {
        "schema": connection.execute("PRAGMA user_version").fetchone()[0],
        "sqlite": sqlite3.sqlite_version,
        "journal": connection.execute("PRAGMA journal_mode").fetchone()[0],
        "bytes": pages * size,
        "records": records,
        "outbox": rows,
    }
