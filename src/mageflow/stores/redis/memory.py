"""What one event loop has read or written lately, so that it need not be read again to be decided on.

Another process may have changed it since. That does no harm, as a commit is refused then; but where this happens with
one record again and again, it costs more than it spares, so for a while that one is read each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mageflow.core.records import MembersRecord, Record, RunRecord, SignatureRecord, replace

__all__ = ["Memory"]

_KINDS = (RunRecord, SignatureRecord, MembersRecord)
"""What claims and ends are decided on. Locks, keys and the like are there for several processes to meet at."""
_MOST = 4096
_LARGEST = 16 * 1024
"""Bytes of a record: what is remembered takes some 10 MB at most, usually, and 64 MB if all are as large as that."""
_DISTRUST = 50
"""How often a record that others have changed is read again before it is remembered anew."""
_MOST_DISTRUSTED = 1000


class Memory:
    """Records by key; what was not kept for the longest time is forgotten first."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._distrusted: dict[str, int] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def recall(self, keys: Iterable[str]) -> dict[str, Record]:
        """Give what is known of these."""
        records = self._records
        found: dict[str, Record] = {}
        for key in keys:
            record = records.get(key)
            if record is not None and not (self._distrusted and self._is_distrusted(key)):
                found[key] = record
        return found

    def _is_distrusted(self, key: str) -> bool:
        left = self._distrusted.get(key)
        if left is None:
            return False
        if left > 1:
            self._distrusted[key] = left - 1
        else:
            del self._distrusted[key]
        return True

    def keep(self, changed: Mapping[str, Record | None], sizes: Mapping[str, int]) -> None:
        """Remember records as they are now; None: removed."""
        records = self._records
        for key, record in changed.items():
            records.pop(key, None)
            if isinstance(record, _KINDS) and sizes.get(key, _LARGEST) < _LARGEST:
                records[key] = record
        while len(records) > _MOST:
            del records[next(iter(records))]

    def touch(self, touches: Iterable[tuple[str, float]]) -> None:
        """Take note of expiries that were made later, which needs no new revision."""
        for key, until in touches:
            record = self._records.get(key)
            if record is not None and record.expires_at is not None and record.expires_at < until:
                self._records[key] = replace(record, expires_at=until)

    def forget(self, keys: Iterable[str]) -> None:
        """Know nothing of these any more."""
        for key in keys:
            self._records.pop(key, None)

    def distrust(self, key: str) -> None:
        """Another process has changed this one."""
        self._records.pop(key, None)
        if len(self._distrusted) >= _MOST_DISTRUSTED:
            self._distrusted.clear()
        self._distrusted[key] = _DISTRUST

    def clear(self) -> None:
        """Know nothing any more."""
        self._records.clear()
