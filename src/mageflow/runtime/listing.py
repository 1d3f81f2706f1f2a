"""Reading a listing to its end, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mageflow.core.records import Record, RunRecord
from mageflow.ports.store import Filter, Store

__all__ = ["records_of", "runs_of"]

_PAGE = 200


async def records_of(store: Store, where: Filter, *, page_size: int = _PAGE) -> AsyncGenerator[Record]:
    """Give all records that match, newest first; `page_size` of them are read at once."""
    cursor: str | None = None
    while True:
        page = await store.query(where, limit=page_size, cursor=cursor)
        for record in page.records:
            yield record
        cursor = page.cursor
        if cursor is None:
            return


async def runs_of(store: Store, where: Filter, *, page_size: int = _PAGE) -> AsyncGenerator[RunRecord]:
    """Give all runs that match, newest first; `page_size` of them are read at once."""
    async for record in records_of(store, where, page_size=page_size):
        if isinstance(record, RunRecord):
            yield record
