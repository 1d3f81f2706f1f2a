"""Reading beside the writer: a listing that takes long holds up no commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from sqlite3 import Connection
from typing import Any

from mageflow.core.records import Record
from mageflow.errors import CorruptRecordError
from mageflow.ports.store import Filter, Page
from mageflow.stores.paging import cursor_after, place_of
from mageflow.stores.sqlite import statements
from mageflow.stores.sqlite.connection import patiently
from mageflow.stores.sqlite.draft import read_record
from mageflow.stores.sqlite.thread import Answers, Item

__all__ = ["Load", "Look", "Question", "Reader"]

logger = logging.getLogger("mageflow.store")


class Load:
    """The wish for some records."""

    __slots__ = ("keys",)

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = keys


class Look:
    """The wish for something else; called with the connection."""

    __slots__ = ("act",)

    def __init__(self, act: Callable[[Connection], Any]) -> None:
        self.act = act


Question = Load | Look


class Reader:
    """Handles the batches of the reader's thread."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._blamed: set[str] = set()

    def handle(self, connection: Connection, batch: list[Item[Question]], answers: Answers) -> None:
        """Answer a batch: all loads in it by one statement."""
        keys = {key: None for item in batch if isinstance(item.wish, Load) for key in item.wish.keys}
        found = patiently(lambda: self._load(connection, tuple(keys)))
        for item in batch:
            wish = item.wish
            try:
                answers.give(item, _pick(found, wish.keys) if isinstance(wish, Load) else self._look(connection, wish))
            except Exception as error:  # noqa: BLE001 - its own caller gets it, and its neighbours go on
                answers.fail(item, error)

    @staticmethod
    def _look(connection: Connection, wish: Look) -> Any:
        return patiently(lambda: wish.act(connection))

    @staticmethod
    def _load(connection: Connection, keys: tuple[str, ...]) -> dict[str, Record | CorruptRecordError]:
        return {key: read_record(key, expires_at, data) for key, expires_at, data in statements.load(connection, keys)}

    def query(self, connection: Connection, where: Filter, limit: int, cursor: str | None) -> Page:
        """List records; one that cannot be read is logged, once, and left out."""
        before = place_of(cursor) if cursor is not None else None
        rows = statements.query(connection, where, before, limit + 1)
        records: list[Record] = []
        for key, _, expires_at, data in rows[:limit]:
            record = read_record(key, expires_at, data)
            if not isinstance(record, CorruptRecordError):
                records.append(record)
            elif key not in self._blamed:
                self._blamed.add(key)
                logger.error("%s: %s", self._location, record)
        if len(rows) <= limit or not limit:
            return Page(tuple(records), None)
        key, created_at, _, _ = rows[limit - 1]
        return Page(tuple(records), cursor_after(created_at, key))

    def describe(self, connection: Connection) -> Mapping[str, Any]:
        """Give facts about the file for people."""
        return {**statements.facts(connection), "corrupt": sorted(self._blamed)}


def _pick(found: Mapping[str, Record | CorruptRecordError], keys: Collection[str]) -> dict[str, Record | None]:
    records: dict[str, Record | None] = {}
    for key in keys:
        record = found.get(key)
        if isinstance(record, CorruptRecordError):
            raise record
        records[key] = record
    return records
