"""Beats on a connection of their own: neither the writer's thread nor an event loop holds them up."""

from __future__ import annotations

import sqlite3

from mageflow.stores.sqlite import statements
from mageflow.stores.sqlite.connection import connect, patiently
from mageflow.stores.sqlite.faults import translated

__all__ = ["SqliteBeater"]


class SqliteBeater:
    """Adds to one worker's beat.

    Args:
        path: of the file.
        worker: the key of the worker's record.
    """

    def __init__(self, path: str, worker: str) -> None:
        self._path = path
        self._worker = worker
        self._connection: sqlite3.Connection | None = None

    def beat(self) -> None:
        try:
            if self._connection is None:
                # A beat that a power cut takes back is no loss, so none waits for the disk.
                self._connection = connect(self._path, "normal")
            connection = self._connection
            patiently(lambda: statements.beat(connection, self._worker))
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
