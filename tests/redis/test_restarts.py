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
BEFORE = 120
"""Commits of all writers before the server is killed."""


@pytest.fixture(params=PROGRAMS)
def durable(request: pytest.FixtureRequest) -> Iterator[Server]:
    # By `everysec` a server writes up to two seconds late while its disk is busy with the sync before; killed then, it
    # has forgotten what it had acknowledged, and nobody's client can help that.
    server = Server(PROGRAMS[request.param], {"appendonly": "yes", "appendfsync": "always"})
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

    async def write(self, is_enough: asyncio.Event) -> None:
        while not is_enough.is_set():
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
    """Whole, and once, whenever the server was killed; nobody has to open the store again.

    The writers go on until it is there again. A kill that meets only reads, which the store itself tries again, says
    nothing of commits: then there are more.
    """
    store = RedisStore(durable.url)
    committed = asyncio.Semaphore(0)
    writers = [Writer(store, f"w{n}", committed) for n in range(WRITERS)]
    kills = 0
    while kills < KILLS or not any(writer.repeated for writer in writers):
        kills += 1
        is_enough = asyncio.Event()
        writing = asyncio.gather(*(writer.write(is_enough) for writer in writers))
        for _ in range(BEFORE):
            await committed.acquire()
        await asyncio.to_thread(durable.kill)
        await asyncio.to_thread(durable.start)
        is_enough.set()
        await writing
        while not committed.locked():
            await committed.acquire()
    rows = {row.key: row.due_at for row in await store.strays(["r"], [], 100)}
    for writer in writers:
        found = await store.load(writer.keys)
        assert [record and record.created_at for record in found.values()] == [writer.acknowledged] * 2
        assert [record and record.rev for record in found.values()] == [writer.acknowledged] * 2
        assert rows[writer.keys[0]] == writer.acknowledged
    await store.aclose()
