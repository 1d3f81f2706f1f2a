"""Make the golden file of this release's SQLite format: `python tests/golden/make_sqlite.py`.

A later release must open the files that are here already; they are never made again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from mageflow.stores.sqlite import SqliteStore
from mageflow.stores.sqlite.connection import SCHEMA_VERSION
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor, beat


async def main() -> None:
    path = Path(__file__).with_name(f"sqlite-{SCHEMA_VERSION:04}.db")
    path.unlink(missing_ok=True)
    store = SqliteStore(path, clock=ManualClock())
    actor = Actor(store)
    await actor.sign("sig_log")
    await actor.sign("sig_a", kwargs={"x": [1, None, "ü"]}, on_error=("sig_log",))
    await actor.start(run="run_done", retries=2)
    (run,) = await actor.claimed()
    await actor.end(run)
    await actor.start(run="run_waits", priority=2)
    await actor.work("wrk_a")
    await beat(store, "wrk_a")
    await store.aclose()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # so that the file is whole without a log beside it
        connection.execute("VACUUM")


if __name__ == "__main__":
    asyncio.run(main())
