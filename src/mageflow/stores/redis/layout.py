"""How a record is laid out as a value, and by which terms it is found. The Lua scripts know only what stands here.

A value is the record's expiry (24 characters, blank: none), the size of its head (8 hex digits), the head (msgpack) and
its JSON. The expiry has a place of its own because it changes without a new revision.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mageflow.core.records import Index, Record, RunRecord, WorkerRecord, decode, encode, index_of, replace
from mageflow.core.status import RunStatus
from mageflow.errors import CorruptRecordError, RecordTooLargeError
from mageflow.ports.store import Filter

__all__ = [
    "MARGIN",
    "Head",
    "companions_of",
    "conditions",
    "encoded",
    "expiry_text",
    "kind_term",
    "pack",
    "unpack",
    "version_of",
]

MARGIN = 64 * 1024
"""Bytes of a server's limit that are left for the head of a value."""
_MOST_COMPANIONS = 32
_SCREENS = 24 + 8

_TERMS: dict[str, Callable[[Index], str | None]] = {
    "status": lambda index: index.status,
    "live": lambda index: str(int(index.live)),
    "task": lambda index: index.task,
    "signature": lambda index: index.signature,
    "root": lambda index: index.root,
    "cause": lambda index: index.cause,
    "worker": lambda index: index.worker,
}
"""What records of a kind are found by; each has a filter of the same name (`statuses` for `status`)."""

_RANGES: dict[str, Callable[[Record], float | None]] = {
    "due_at": lambda record: record.due_at if isinstance(record, RunRecord) else None,
}
"""Numbers that records are found by."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a script knows of a record."""

    version: str
    created: float
    terms: list[str]
    ranges: list[tuple[str, float]]
    names: list[str]
    """What it keeps while it is kept itself; it is also found by these."""
    holds: list[str]
    """What it keeps from the purge as long as it is live."""
    mortal: bool
    """Whether the purge may take it once its expiry has come."""
    beats: bool
    companions: list[str]
    """What the next event about it will most likely ask for: it is loaded along."""
    parent: str
    """What it is kept as long as, whatever its own expiry says; blank: nothing."""


_encoder = msgspec.msgpack.Encoder()


def version_of(record: Record | None) -> str:
    """Give what tells this state of a record from every other; an empty text where there is none.

    The token is in it because a revision alone may be another writer's of the same number.
    """
    return f"{record.rev}:{record.token}" if record is not None else ""


def expiry_text(expires_at: float | None) -> str:
    """Give an expiry as it stands at the beginning of a value."""
    return f"{'' if expires_at is None else repr(float(expires_at)):<24}"


def kind_term(kind: str) -> str:
    """Give the set of all records of a kind."""
    return f"t:{kind}"


def _head(record: Record) -> Head:
    index = index_of(record)
    kind = index.kind
    terms = [kind]
    for field, term in _TERMS.items():
        if (value := term(index)) is not None:
            terms.append(f"{kind}:{field}:{value}")
    numbers = ((field, number(record)) for field, number in _RANGES.items())
    held = (index.signature, index.root, index.cause) if index.live else ()
    return Head(
        version=version_of(record),
        created=record.created_at,
        terms=terms,
        ranges=[(f"{kind}:{field}", number) for field, number in numbers if number is not None],
        names=list(index.names),
        holds=[key for key in dict.fromkeys(held) if key is not None],
        mortal=not index.live,
        beats=isinstance(record, WorkerRecord),
        companions=companions_of(record),
        parent=index.parent or "",
    )


def companions_of(record: Record) -> list[str]:
    """Give what a run's claim, or its end, is decided on besides the run: with it both take two round trips.

    Nothing rests on this; what is missing here is asked for.
    """
    if not isinstance(record, RunRecord):
        return []
    keys: tuple[str | None, ...] = ()
    if record.status is RunStatus.RUNNING:
        keys = (*record.lineage, *record.on_success, *record.on_error, *record.on_done)
    elif record.ended_at is None:
        sources = (record.signature, record.owner, record.source, record.cause)
        keys = (*(() if record.message is not None else sources), *record.lineage)
    return [key for key in dict.fromkeys(keys) if key is not None][:_MOST_COMPANIONS]


def encoded(record: Record, largest: int) -> bytes:
    """Give the JSON of a record.

    Raises:
        RecordTooLargeError: it has more than `largest` bytes.
    """
    data = encode(record)
    if len(data) > largest:
        raise RecordTooLargeError(
            f"the record {record.key!r} has {len(data):,} bytes, and the Redis server takes {largest:,}; keep large "
            "values elsewhere and pass a reference, or raise proto-max-bulk-len there"
        )
    return data


def pack(record: Record, data: bytes) -> bytes:
    """Give the value of a record whose JSON is `data`."""
    head = _encoder.encode(_head(record))
    return b"".join((f"{expiry_text(record.expires_at)}{len(head):08x}".encode(), head, data))


def unpack(key: str, value: bytes) -> Record | CorruptRecordError:
    """Read a value; one that cannot be read is the error that says so."""
    try:
        begin = _SCREENS + int(value[24:_SCREENS], 16)
        text = value[:24].strip()
        expires_at = float(text) if text else None
    except ValueError:
        begin, expires_at = 0, None  # what stands there is no record's JSON either
    try:
        record = decode(value[begin:], key)
    except CorruptRecordError as error:
        return error
    return record if record.expires_at == expires_at else replace(record, expires_at=expires_at)


class Conditions(msgspec.Struct, frozen=True, array_like=True):
    """A filter as `find.lua` reads it: a record is in a set of each group, and within each range."""

    groups: list[list[str]]
    ranges: list[tuple[str, float | bool, float | bool]]
    """Name, what the number is above, and what it is at most; False: no such limit."""
    everything: str


def conditions(where: Filter) -> Conditions:
    """Say a filter in terms."""
    kind = where.kind
    wanted: dict[str, list[str]] = {"status": [*dict.fromkeys(where.statuses)]}
    for field in _TERMS:
        value = getattr(where, field, None)
        if value is not None:
            wanted[field] = [str(int(value)) if isinstance(value, bool) else value]
    groups = [[f"t:{kind}:{field}:{value}" for value in values] for field, values in wanted.items() if values]
    if where.names is not None:
        groups.append([f"w:{where.names}"])
    if where.names is not None or not groups:
        groups.append([kind_term(kind)])
    ranges: list[tuple[str, float | bool, float | bool]] = []
    if where.due_after is not None or where.due_before is not None:
        low = where.due_after if where.due_after is not None else False
        high = where.due_before if where.due_before is not None else False
        ranges.append((f"n:{kind}:due_at", low, high))
    return Conditions(groups, ranges, kind_term(kind))
