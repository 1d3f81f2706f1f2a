"""Opening the file: is it ours, can this release read it, and the settings of a connection."""

from __future__ import annotations

import os
import pkgutil
import sqlite3
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from mageflow.errors import StoreError, StoreVersionError
from mageflow.ports.clock import SystemEntropy
from mageflow.stores.sqlite.faults import is_busy, translated

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "Durability", "connect", "patiently"]

Durability = Literal["normal", "full"]

APPLICATION_ID = 0x4D616765
"""«Mage»: what marks a file as ours (`PRAGMA application_id`)."""

_MIGRATIONS = ("0001_records_and_outbox.sql", "0002_parents.sql")
SCHEMA_VERSION = len(_MIGRATIONS)

_OLDEST_SQLITE = (3, 35, 0)
_PATIENCE = 30.0

_chance = SystemEntropy()

T = TypeVar("T")


def patiently(act: Callable[[], T]) -> T:
    """Do something that another process may be in the way of; again after a moment, and for half a minute.

    SQLite's own busy handler sleeps in growing steps, which stalls a process for most of a second under two writers.
    """
    begun = time.perf_counter()
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.perf_counter() - begun > _PATIENCE:
                raise
            time.sleep(0.0001 + 0.0004 * _chance.jitter())


def connect(path: str, durability: Durability) -> sqlite3.Connection:
    """Open the file, make it or bring it to this release's schema if need be.

    Raises:
        StoreVersionError: it is another program's, or a newer release's.
        StoreError: it cannot be opened, read or written.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"{path}: this Python has SQLite {sqlite3.sqlite_version}, and 3.35 or newer is needed; use a newer Python"
        )
    _check_place(path)
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    try:
        patiently(lambda: _check_owner(connection, path))
        patiently(lambda: _configure(connection, path, durability))
        patiently(lambda: _migrate(connection, path))
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error, path) from error
        raise
    return connection


def _check_place(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise StoreError(
            f"{path}: this is a folder; give the path of a file in it, such as {path.rstrip('/')}/mageflow.db"
        )
    if not os.path.isdir(folder):
        raise StoreError(f"{path}: the folder {folder} does not exist; make it, or give another path")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _check_owner(connection: sqlite3.Connection, path: str) -> None:
    # In this order: another process may make the file in between, and then it is ours by the second look.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    owner = _number(connection, "application_id")
    if owner != APPLICATION_ID and (owner or tables):
        raise StoreVersionError(
            f"{path}: this SQLite database is another program's (application_id {owner:#x}, {tables} tables and "
            "indexes); give the path of a new file"
        )
    version = _number(connection, "user_version")
    if version > SCHEMA_VERSION:
        raise StoreVersionError(
            f"{path}: a newer release of mageflow wrote this file (schema {version}; this release knows up to "
            f"{SCHEMA_VERSION}); upgrade mageflow here, or give another file"
        )


def _configure(connection: sqlite3.Connection, path: str, durability: Durability) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"{path}: SQLite cannot use a write-ahead log here (journal mode {mode}), as on network file systems; "
            "put the file on a disk of this machine"
        )
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
    # The reader's thread copies the log away long before this; it is the bound where commits come without a pause.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -16384")


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    if _number(connection, "user_version") >= SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_owner(connection, path)  # another process may have been here first
        for version in range(_number(connection, "user_version"), SCHEMA_VERSION):
            for statement in _statements_of(_MIGRATIONS[version]):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements_of(name: str) -> list[str]:
    data = pkgutil.get_data(__package__ or "", f"migrations/{name}")
    assert data is not None
    statements: list[str] = []
    pending = ""
    for line in data.decode().splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
