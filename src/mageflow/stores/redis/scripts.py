"""The Lua scripts, one typed function each: it gives the command to send; what comes back is read by its neighbour."""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from mageflow.core.records import OutboxRow, Record, RowAction
from mageflow.errors import CorruptRecordError
from mageflow.ports.store import OLDEST_EVERY
from mageflow.stores.redis.layout import Conditions, expiry_text, unpack

__all__ = [
    "Command",
    "Commit",
    "Committed",
    "Found",
    "Looked",
    "Read",
    "Wish",
    "back",
    "beat",
    "commit",
    "find",
    "give",
    "load",
    "look",
    "purge",
    "read_beats",
    "read_committed",
    "read_found",
    "read_given",
    "read_loaded",
    "read_looked",
    "script_loads",
]

Command = tuple[str | bytes | int, ...]
"""A command and its arguments, as they are sent."""

_PARTS = ("beginning", "records", "rows")
_MORE_PARTS = {"commit": ("giving",), "give": ("giving",)}
_NAMES = ("commit", "load", "look", "give", "back", "beat", "purge", "find")
_LONGEST_WAIT = 3600.0

_pack = msgspec.msgpack.Encoder().encode


def _text(name: str) -> str:
    data = pkgutil.get_data(__package__ or "", f"lua/{name}.lua")
    assert data is not None
    return data.decode()


@cache
def _script(name: str) -> bytes:
    # Without comments: of a client that has not said its password yet, Redis 7 hangs up at 16 KB.
    lines = (line.strip() for part in (*_PARTS, *_MORE_PARTS.get(name, ()), name) for line in _text(part).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--")).encode()


@cache
def _sha(name: str) -> str:
    return hashlib.sha1(_script(name), usedforsecurity=False).hexdigest()


def script_loads() -> list[Command]:
    """Give the commands after which a server knows all scripts."""
    return [("SCRIPT", "LOAD", _script(name)) for name in _NAMES]


def _call(name: str, space: str, *plan: Any, values: Iterable[bytes] = ()) -> Command:
    return ("EVALSHA", _sha(name), 1, space.encode(), _pack(plan), *values)


def _records(flat: Sequence[bytes | None]) -> dict[str, Record | CorruptRecordError | None]:
    found: dict[str, Record | CorruptRecordError | None] = {}
    for at in range(0, len(flat), 2):
        name, value = flat[at], flat[at + 1]
        key = (name or b"").decode()
        found[key] = unpack(key, value) if value is not None else None
    return found


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A row as the scripts keep it."""

    run: str
    action: str
    route: str
    task: str
    priority: int
    due_at: float
    deliveries: int = 0
    serial: int = 0


_rows = msgspec.msgpack.Decoder(_Row)


def _row(key: bytes, data: bytes) -> tuple[OutboxRow, int]:
    row = _rows.decode(data)
    read = OutboxRow(
        key=key.decode(),
        run=row.run,
        action=RowAction(row.action),
        route=row.route,
        task=row.task,
        priority=row.priority,
        due_at=row.due_at,
        deliveries=row.deliveries,
    )
    return read, row.serial


def _row_pairs(flat: Sequence[bytes]) -> Iterator[tuple[OutboxRow, int]]:
    return (_row(flat[at], flat[at + 1]) for at in range(0, len(flat), 2))


# Commits


class Commit(msgspec.Struct, kw_only=True):
    """All that is checked and done together, or not at all."""

    checks: list[tuple[str, str, str]] = []
    """Key, version, and the expiry where that must be the same too, as it stands in a value."""
    writes: list[tuple[str, str]] = []
    """Key, and the expiry that was loaded, as it stands in a value."""
    values: list[bytes] = []
    """What is written, in the order of `writes`."""
    deletes: list[str] = []
    touches: dict[str, float] = {}
    settled: Collection[str] = ()
    rows: dict[str, tuple[int, OutboxRow]] = {}
    """By key, with numbers that say in which order all rows of one call are put."""
    instead_of: int | None = None
    """Put the rows only in the place of one that has this serial."""
    notices: Collection[str] = ()


class Wish(msgspec.Struct, frozen=True):
    """What is to be given to engines along with a commit."""

    routes: tuple[str, ...]
    limit: int
    redeliver_after: float


def _plan(plan: Commit) -> tuple[Any, ...]:
    instead_of = False if plan.instead_of is None else plan.instead_of
    rows = [
        (
            row.key,
            (row.run, row.action.value, row.route, row.task, row.priority, row.due_at, row.deliveries),
            instead_of,
            order,
        )
        for order, row in plan.rows.values()
    ]
    touches = [(key, expiry_text(until)) for key, until in plan.touches.items()]
    return (
        plan.checks,
        plan.writes,
        plan.deletes,
        touches,
        list(plan.settled),
        rows,
        list(plan.notices),
    )


def commit(
    space: str,
    plans: Sequence[Commit],
    sender: str,
    now: float,
    *,
    is_whole: bool,
    wish: Wish | None = None,
    here: float | None = None,
) -> Command:
    """Commit each plan of which every version is as it was loaded, and give what was put.

    Args:
        space: what the names of all keys begin with.
        plans: no record is written by two of them.
        sender: the mark of notices.
        now: the time at which rows are settled.
        is_whole: whether one that cannot be committed stops all.
        wish: what to give.
        here: the time by which rows are due, where that is not the server's.
    """
    wished = _wished(wish, here) if wish is not None else False
    values = [value for plan in plans for value in plan.values]
    return _call("commit", space, [_plan(plan) for plan in plans], is_whole, sender, now, wished, values=values)


class Committed(msgspec.Struct, frozen=True):
    """What came of plans that were sent together."""

    time: float
    outcomes: list[str | ResponseError | None]
    """None: committed; a key: the record that was not as it was loaded; blank: stopped by another plan."""
    given: list[OutboxRow]


def read_committed(answer: Sequence[Any]) -> Committed:
    """Read what `commit` gave."""
    time, outcomes, given = answer
    return Committed(float(time), [_outcome(each) for each in outcomes], read_given(given))


def _outcome(answer: Any) -> str | ResponseError | None:
    if isinstance(answer, ResponseError):
        return answer
    return {1: None, 0: ""}[answer] if isinstance(answer, int) else answer.decode()


# Reading


def load(space: str, keys: Collection[str], *, companions: bool = True) -> Command:
    """Give the time, records, and what their next events will ask for."""
    return _call("load", space, list(keys), companions)


class Read(msgspec.Struct, frozen=True):
    """What was read at one moment."""

    time: float
    records: dict[str, Record | CorruptRecordError | None]
    sizes: dict[str, int]
    """The bytes of those that exist."""


def read_loaded(answer: Sequence[bytes | None]) -> Read:
    """Read what `load` gave."""
    sizes = {(answer[at] or b"").decode(): len(answer[at + 1] or b"") for at in range(1, len(answer), 2)}
    return Read(float(answer[0] or 0), _records(answer[1:]), sizes)


class Looked(msgspec.Struct, frozen=True):
    """What a look at the outbox showed."""

    now: float
    next_due: float | None
    rows: list[tuple[OutboxRow, int]]
    """With their serials."""
    records: dict[str, Record | CorruptRecordError | None]


def look(
    space: str,
    routes: Collection[str],
    tasks: Collection[str],
    oldest: Sequence[bool],
    now: float | None,
    *,
    others: bool = False,
) -> Command:
    """Give the first due rows, and what their claims are decided on; with `others` the rows of all other tasks.

    `oldest` is as long as the number of rows that are wanted, and says which are to be the longest due.
    """
    return _call("look", space, list(routes), list(tasks), others, list(oldest), now or 0)


def read_looked(answer: Sequence[Any]) -> Looked:
    """Read what `look` gave."""
    now, next_due, rows, found = answer
    return Looked(
        now=float(now),
        next_due=float(next_due) if next_due is not None else None,
        rows=list(_row_pairs(rows)),
        records=_records(found),
    )


class Found(msgspec.Struct, frozen=True):
    """A part of a listing or a count."""

    is_all: bool
    after: tuple[str, float] | None
    """Where the next part begins."""
    count: int
    """How many were found: more than `records` holds, where those are more than were wanted."""
    records: list[tuple[str, float, Record | CorruptRecordError]]
    """Key, time of creation, record."""


def find(space: str, where: Conditions, after: tuple[str, float] | None, limit: int | None, budget: int) -> Command:
    """List records, or count them where there is no limit; looks at `budget` of each set at most."""
    return _call(
        "find",
        space,
        where.groups,
        where.ranges,
        where.everything,
        after or False,
        -1 if limit is None else limit,
        budget,
    )


def read_found(answer: Sequence[Any]) -> Found:
    """Read what `find` gave."""
    is_all, after, count, *flat = answer
    records: list[tuple[str, float, Record | CorruptRecordError]] = []
    for at in range(0, len(flat), 3):
        key = flat[at].decode()
        if flat[at + 2] is not None:
            records.append((key, float(flat[at + 1]), unpack(key, flat[at + 2])))
    return Found(
        is_all=bool(is_all),
        after=(after[0].decode(), float(after[1])) if after is not None else None,
        count=count,
        records=records,
    )


# The rest


def give(space: str, wish: Wish, now: float | None) -> Command:
    """Give due rows to an engine."""
    return _call("give", space, *_wished(wish, now))


def _wished(wish: Wish, now: float | None) -> tuple[Any, ...]:
    return (wish.routes, wish.limit, OLDEST_EVERY, wish.redeliver_after, _LONGEST_WAIT, now or 0)


def back(space: str, keys: Sequence[str], sender: str) -> Command:
    """Take back rows that were given and could not be passed on."""
    return _call("back", space, keys, sender)


def read_given(answer: Sequence[bytes]) -> list[OutboxRow]:
    """Read what `give` gave."""
    return [row for row, _ in _row_pairs(answer)]


def beat(space: str, worker: str) -> Command:
    """Add one to a worker's beat."""
    return ("EVALSHA", _sha("beat"), 1, space.encode(), worker.encode())


def beats(space: str) -> Command:
    """Give all beats."""
    return ("HGETALL", f"{space}beats".encode())


def read_beats(answer: Sequence[bytes] | Mapping[bytes, bytes]) -> dict[str, int]:
    """Read what `beats` gave."""
    flat = list(answer)
    return {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}


def purge(space: str, limit: int, skip: int, budget: int, sender: str, now: float | None) -> Command:
    """Remove expired records; gives how many were left in their place, whether that was all, and what was removed."""
    return _call("purge", space, limit, skip, budget, sender, now or 0)
