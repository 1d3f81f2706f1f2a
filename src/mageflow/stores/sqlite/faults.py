"""What SQLite's errors mean for a caller. They are told apart by their codes, never by their text."""

from __future__ import annotations

import sqlite3

from mageflow.errors import MageflowError, RecordTooLargeError, StoreError, StoreUnavailableError, StoreVersionError

__all__ = ["CANTOPEN", "is_busy", "translated"]

BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, TOOBIG, NOTADB = 5, 6, 7, 8, 10, 11, 13, 14, 18, 26


def _code(error: Exception) -> int:
    """Give the primary code of an error of SQLite's, or 0 for one of Python's module."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the file just now."""
    return _code(error) in (BUSY, LOCKED)


def translated(error: Exception, path: str) -> Exception:
    """Give the exception that a caller is to see instead of one of SQLite's."""
    if isinstance(error, MageflowError) or not isinstance(error, sqlite3.Error | sqlite3.Warning):
        return error
    match _code(error):
        case code if code in (BUSY, LOCKED):
            return StoreUnavailableError(
                f"{path}: other processes kept writing to the file for too long; look for one that hangs in a "
                "transaction, or move work that does not belong together to files of its own"
            )
        case code if code in (IOERR, NOMEM):
            return StoreUnavailableError(f"{path}: the file could not be read or written ({error}); look at its disk")
        case code if code == READONLY:
            return StoreError(f"{path}: the file or its folder is read-only; make both writable for this user")
        case code if code == FULL:
            return StoreError(
                f"{path}: the disk is full, and nothing was committed; the store goes on as soon as there is room"
            )
        case code if code == CANTOPEN:
            return StoreError(
                f"{path}: the file cannot be opened or made; give the path of a file in a folder that exists and that "
                "this user may write to"
            )
        case code if code == NOTADB:
            return StoreVersionError(
                f"{path}: this is no SQLite database, or its beginning was damaged; give another path, or "
                "restore the file"
            )
        case code if code == CORRUPT:
            return StoreError(
                f"{path}: the file is damaged; stop what uses it, keep a copy, and save what is left with "
                "`sqlite3 FILE .recover`"
            )
        case code if code == TOOBIG:
            return RecordTooLargeError(
                f"{path}: a record is too large for SQLite; keep large values elsewhere and pass a reference"
            )
        case _:
            return StoreError(f"{path}: SQLite refused ({type(error).__name__}: {error}); nothing was committed")
