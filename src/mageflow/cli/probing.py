"""Whether a SQLite file lets itself be written just now: asked before a client opens it, which would wait for long."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from time import perf_counter, sleep

__all__ = ["holders_of", "is_locked"]

_BUSY = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED."""
_PAUSE = 0.002


def is_locked(file: Path, *, patience: float) -> bool:
    """Whether somebody keeps the file from being written, for `patience` seconds.

    What else may be wrong with it is for the client to say.
    """
    begun = perf_counter()
    while True:
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
                connection.isolation_level = None
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY:
                return False
        else:
            return False
        if perf_counter() - begun > patience:
            return True
        # SQLite's own handler sleeps ever longer, and may miss the moments between many short commits.
        sleep(_PAUSE)


def holders_of(file: Path) -> list[str]:
    """Name the other processes of this user that have the file open, as far as the system tells (Linux does)."""
    wanted = str(file.resolve())
    try:
        processes = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []
    return [f"{pid} ({_name_of(pid)})" for pid in processes if pid != os.getpid() and _has_open(pid, wanted)]


def _has_open(pid: int, wanted: str) -> bool:
    try:
        files = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_target(f"/proc/{pid}/fd/{name}") == wanted for name in files)


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "unknown"
