"""A server that is killed in the middle of commits, and started again with its append-only file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mageflow.core.decision import Decision, Records
from mageflow.core.records import OutboxRow, TaskRecord, replace
from mageflow.errors import StoreUnavailableError
from mageflow.stores.redis import RedisStore
from tests.redis.conftest import PROGRAMS
from tests.redis.servers import Server

WRITERS = 6
KILLS = 4
BETWEEN = 60
"""Commits of each writer between two kills."""


@pytest.fixture(params=PROGRAMS)
def durable(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(PROGRAMS[request.param], {"appendonly": "yes", "appendfsync": "everysec"})
    server.start()
    yield server
    server.close()


class Writer:
    """Counts up in two records and an outbox row at once, and says each commit again until it is answered.

    Args:
        store: where it writes.
        name: whose records they are.
        committed: is released at each acknowledged commit.
    """

    def __init__(self, store: RedisStore, name: str, committed: asyncio.Semaphore) -> None:
        self.store = store
        self.keys = (f"{name}:one", f"{name}:other")
        self.acknowledged = 0
        self.repeated = 0
        self._committed = committed

    async def write(self, times: int) -> None:
        for _ in range(times):
            await self._write_one(f"{self.keys[0]}{self.acknowledged}")
            self.acknowledged += 1
            self._committed.release()

    async def _write_one(self, token: str) -> None:
        while True:
            try:
                await self.store.transact(self.keys, lambda records, now: self._count(records, token), token=token)
            except StoreUnavailableError:
                self.repeated += 1
            else:
                return

    def _count(self, records: Records, token: str) -> Decision:
        there = [records[key] or TaskRecord(key=key, created_at=0.0, route="r") for key in self.keys]
        if there[0].token == token:  # it was committed, and the answer was lost
            return Decision()
        writes = tuple(replace(record, created_at=record.created_at + 1) for record in there)
        row = OutboxRow(key=self.keys[0], run="x", route="r", task="t", priority=1, due_at=writes[0].created_at)
        return Decision(writes=writes, rows=(row,), settled=(f"{self.keys[0]}:gone",))


@pytest.mark.timeout(180)
async def test_every_acknowledged_commit_survives_a_restart(durable: Server) -> None:
    """Whole, and once, whenever the server was killed; nobody has to open the store again."""
    store = RedisStore(durable.url)
    committed = asyncio.Semaphore(0)
    writers = [Writer(store, f"w{n}", committed) for n in range(WRITERS)]
    for _ in range(KILLS):
        writing = asyncio.gather(*(writer.write(BETWEEN) for writer in writers))
        for _ in range(WRITERS * BETWEEN // 3):
            await committed.acquire()
        await asyncio.to_thread(durable.kill)
        await asyncio.to_thread(durable.start)
        await writing
        while not committed.locked():
            await committed.acquire()
    rows = {row.key: row.due_at for row in await store.strays(["r"], [], 100)}
    for writer in writers:
        found = await store.load(writer.keys)
        assert [record and record.created_at for record in found.values()] == [KILLS * BETWEEN] * 2
        assert [record and record.rev for record in found.values()] == [KILLS * BETWEEN] * 2
        assert rows[writer.keys[0]] == KILLS * BETWEEN
    assert sum(writer.repeated for writer in writers) > 0
    await store.aclose()
