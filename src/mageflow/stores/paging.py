"""Cursors of listings that go from the newest record to the oldest."""

from __future__ import annotations

import msgspec

from mageflow.errors import StoreError

__all__ = ["cursor_after", "place_of"]


def cursor_after(created_at: float, key: str) -> str:
    """Give the cursor that goes on after this record."""
    return msgspec.json.encode((created_at, key)).decode()


def place_of(cursor: str) -> tuple[float, str]:
    """Read a cursor.

    Raises:
        StoreError: if no `query` gave it.
    """
    try:
        return msgspec.json.decode(cursor, type=tuple[float, str])
    except msgspec.MsgspecError as error:
        raise StoreError(f"{cursor!r} is no cursor of a listing: give the one of the page before, or none") from error
