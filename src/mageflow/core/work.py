"""What one decision has come to so far: rules read records from it as they will be, and write to it.

A rule that touches one record twice (a swarm whose members end together) sees what it wrote before. A record that was
not loaded yet makes the whole decision begin again with it: rules write nothing but here, so nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mageflow.core.decision import MAX_RECORDS, Decision, Loading, Records
from mageflow.core.options import Options
from mageflow.core.records import (
    MembersRecord,
    OutboxRow,
    Record,
    RunRecord,
    SignatureRecord,
)

__all__ = ["Missing", "Work"]

_RESERVE = 99
"""Records kept free for what must go with the rest: the chains and swarms above what ended."""


class Missing(Exception):
    """These records are needed, and were not loaded."""

    def __init__(self, keys: Iterable[str]) -> None:
        super().__init__()
        self.keys = tuple(dict.fromkeys(keys))


class Work:
    """The records that a decision was given, and what it makes of them.

    Args:
        records: what was loaded, by key; None for a key that the store does not have.
        now: seconds since the epoch by the store's clock.
        jitter: 0 to 1.
        defaults: the options that tasks of this process were registered with.
    """

    __slots__ = (
        "_deleted",
        "_records",
        "_rows",
        "_settled",
        "_touches",
        "_written",
        "defaults",
        "jitter",
        "now",
        "open",
        "reserve",
    )

    def __init__(self, records: Records, now: float, jitter: float, defaults: Mapping[str, Options]) -> None:
        self.now = now
        self.jitter = jitter
        self.defaults = defaults
        self.open: dict[str, None] = {}
        """The runs of chains and swarms that may have something to do."""
        self.reserve = _RESERVE
        self._records = records
        self._written: dict[str, Record] = {}
        self._deleted: dict[str, Record] = {}
        self._rows: dict[str, OutboxRow] = {}
        self._settled: dict[str, None] = {}
        self._touches: dict[str, float] = {}

    # Reading

    def need(self, keys: Collection[str]) -> None:
        """Make sure that these records are loaded, all in one go.

        Raises:
            Missing: some are not.
        """
        records = self._records
        written = self._written
        for key in keys:
            if key not in records and key not in written:
                break
        else:
            return
        absent = [key for key in keys if key not in records and key not in written]
        if not isinstance(records, Loading):
            raise Missing(absent)
        records.more(absent)

    def get(self, key: str) -> Record | None:
        """Give a record as it will be; None where there is none.

        Raises:
            Missing: it was not loaded.
        """
        written = self._written.get(key)
        if written is not None:
            return written
        if key in self._deleted:
            return None
        try:
            return self._records[key]
        except KeyError:
            raise Missing((key,)) from None

    def run(self, key: str) -> RunRecord | None:
        """Give the run `key`, as `get` does."""
        record = self._written.get(key) or self.get(key)
        return record if isinstance(record, RunRecord) else None

    def signature(self, key: str) -> SignatureRecord | None:
        """Give the signature `key`, as `get` does."""
        record = self.get(key)
        return record if isinstance(record, SignatureRecord) else None

    def members(self, key: str) -> MembersRecord | None:
        """Give a record of members, as `get` does."""
        record = self.get(key)
        return record if isinstance(record, MembersRecord) else None

    @property
    def rows(self) -> Collection[OutboxRow]:
        """The outbox rows that are to be put."""
        return self._rows.values()

    # Writing

    @property
    def room(self) -> int:
        """How many more records this commit may hold, beside what must go with the rest."""
        return MAX_RECORDS - self.reserve - len(self._written) - len(self._deleted)

    def put(self, record: Record) -> None:
        """Write a record; it carries the revision that was loaded."""
        self._written[record.key] = record

    def delete(self, record: Record) -> None:
        """Remove a record, if it still has this revision; what was to be written of it is not."""
        self._written.pop(record.key, None)
        self._deleted[record.key] = record

    def put_row(self, row: OutboxRow) -> None:
        """Put an outbox row in the place of one with the same key."""
        self._rows[row.key] = row

    def settle(self, key: str) -> None:
        """Remove an outbox row."""
        self._rows.pop(key, None)
        self._settled[key] = None

    def touch(self, signature: SignatureRecord, due_at: float) -> None:
        """Move the expiry of a signature that is used, and so of what it names.

        Nothing is done while at least nine tenths of its time are left: a signature that is started a thousand times a
        second is not written a thousand times a second.
        """
        kept_until = max(self.now, due_at) + signature.active_ttl
        if signature.expires_at is not None and signature.expires_at >= kept_until - signature.active_ttl / 10:
            return
        self._touches[signature.key] = max(kept_until, self._touches.get(signature.key, kept_until))

    def decision(self, reply: Any) -> Decision:
        """Give all of it as one commit."""
        return Decision(
            writes=tuple(self._written.values()),
            rows=tuple(self._rows.values()),
            settled=tuple(self._settled),
            deletes=tuple(self._deleted.values()),
            touches=tuple(self._touches.items()),
            reply=reply,
        )
