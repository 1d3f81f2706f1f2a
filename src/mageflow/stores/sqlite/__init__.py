"""The store in one SQLite file."""

from __future__ import annotations

from mageflow.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
