"""What the core answers: a bounded set of writes, or the wish for more records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct

from mageflow.core.records import OutboxRow, Record

__all__ = ["MAX_RECORDS", "Decide", "Decision", "Loading", "Need", "Records"]

MAX_RECORDS = 500
"""The most records that one commit writes; what is more is a continuation."""

Records = Mapping[str, Record | None]
"""The loaded records by key; None where the store has none."""


class Loading(dict[str, Record | None]):
    """Loaded records, where the store can load more of them while a decision is made: inside its own transaction.

    It spares the rounds of `Need`. To the rules it is a mapping like any other: what they decide stays the same.

    Args:
        load: gives the records of these keys, None for those that the store does not have.
        keys: what to begin with.
    """

    def __init__(self, load: Callable[[Collection[str]], Mapping[str, Record | None]], keys: Collection[str]) -> None:
        super().__init__(load(keys))
        self._load = load

    def more(self, keys: Collection[str]) -> None:
        """Load these records too."""
        self.update(self._load(keys))

    def __missing__(self, key: str) -> Record | None:
        self.more((key,))
        return self[key]


class Need(Struct, frozen=True):
    """Ask for these records too; the same event is then decided again with all of them."""

    keys: tuple[str, ...]


class Decision(Struct, frozen=True, kw_only=True):
    """What one commit does, all of it or nothing.

    A written record carries the revision that was loaded (0: it must not exist yet); the store writes the next one.
    """

    writes: tuple[Record, ...] = ()
    rows: tuple[OutboxRow, ...] = ()
    """Outbox rows to put; one with the same key is replaced."""
    settled: tuple[str, ...] = ()
    """Outbox rows to remove, before `rows` are put."""
    deletes: tuple[Record, ...] = ()
    """Records to remove, if they still have this revision."""
    touches: tuple[tuple[str, float], ...] = ()
    """New expiry times: no revision is checked or changed, and none is ever made earlier."""
    reply: Any = None
    """What the caller learns; a typed struct of the event's module."""


Decide = Callable[[Records, float], Decision | Need]
"""An event bound to its rule: `(records, now)` to a decision. Pure, so a store may call it again."""
