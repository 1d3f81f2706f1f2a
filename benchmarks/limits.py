"""The machine's own limits: what nothing built on SQLite and asyncio can beat."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["second_process", "sqlite_commits", "tasks"]


def sqlite_commits(folder: Path, *, full: bool, seconds: float = 1.0) -> float:
    """Give how many one-row transactions a second a single connection commits, in WAL mode."""
    db = sqlite3.connect(folder / f"limit-{'full' if full else 'normal'}.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
    db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
    data = b"x" * 400
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO rows (data) VALUES (?)", (data,))
        db.execute("COMMIT")
        count += 1
    db.close()
    return count / spent


async def tasks(count: int = 50_000) -> float:
    """Give how many tasks a second the event loop creates and ends."""

    async def nothing() -> None: ...

    begun = time.perf_counter()
    for _ in range(count // 100):
        await asyncio.gather(*(nothing() for _ in range(100)))
    return count / (time.perf_counter() - begun)


def second_process(seconds: float = 2.0) -> float:
    """Give how many times as much two processes of pure Python get done as one: what this machine has left just now."""
    code = f"import time\nuntil = time.thread_time() + {seconds}\nwhile time.thread_time() < until: pass"

    def spend(count: int) -> float:
        begun = time.perf_counter()
        processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
        for process in processes:
            process.wait()
        return time.perf_counter() - begun

    return 2 * spend(1) / spend(2)
