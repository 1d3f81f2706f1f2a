"""Hearing of what other processes commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from mageflow.core.records import Record, TaskRecord
from mageflow.stores.redis import RedisStore, bells
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor, put
from tests.redis.servers import Server

PATIENCE = 30.0


class Bell:
    """Notes what rang, and lets a test wait for it."""

    def __init__(self) -> None:
        self.rung: list[Record | None] = []
        self._changed = asyncio.Event()

    def ring(self, record: Record | None = None) -> None:
        self.rung.append(record)
        self._changed.set()

    async def next(self) -> None:
        """Wait until it rings (again)."""
        async with asyncio.timeout(PATIENCE):
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
async def other(redis_server: Server) -> AsyncIterator[RedisStore]:
    other = RedisStore(redis_server.url, clock=ManualClock())
    yield other
    await other.aclose()


async def test_another_processes_commits_ring(store: RedisStore, other: RedisStore) -> None:
    """Of a record, of a tree and of a route; who watches is rung once when it can hear from then on."""
    here, there = Actor(store), Actor(other, seed=1)
    await here.sign()
    bells = {"record": Bell(), "tree": Bell(), "route": Bell()}
    ends = [
        store.watch(["run_a"], bells["record"].ring),
        store.watch_tree("run_a", bells["tree"].ring),
        store.watch_route("r", bells["route"].ring),
    ]
    await asyncio.gather(*(bell.next() for bell in bells.values()))
    waiting = asyncio.gather(*(bell.next() for bell in bells.values()))
    await there.start(run="run_a")
    await waiting
    claiming = asyncio.gather(bells["record"].next(), bells["tree"].next())
    await there.claimed()
    await claiming
    for end in ends:
        end()


async def test_a_purge_elsewhere_rings(store: RedisStore, other: RedisStore) -> None:
    await put(store, TaskRecord(key="old", created_at=0.0, expires_at=1.0, route="r"))
    bell = Bell()
    end = store.watch(["old"], bell.ring)
    await bell.next()
    waiting = asyncio.ensure_future(bell.next())
    assert await other.purge(10) == 1
    await waiting
    end()


async def test_ones_own_commits_ring_once_and_with_the_record(store: RedisStore, other: RedisStore) -> None:
    """Not again when the server passes the notice on."""
    actor = Actor(store)
    await actor.sign()
    bell, later = Bell(), Bell()
    end = store.watch(["run_a"], bell.ring)
    end_later = store.watch(["k"], later.ring)
    await asyncio.gather(bell.next(), later.next())
    await actor.start(run="run_a")
    waiting = asyncio.ensure_future(later.next())
    await put(other, TaskRecord(key="k", created_at=0.0, route="r"))
    await waiting  # what came before it on the same connection has been heard too
    assert [record and record.key for record in bell.rung] == [None, "run_a"]
    end()
    end_later()


async def test_a_watch_that_ends_soon_costs_nothing(
    store: RedisStore, other: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker watches each run that it executes; most end before anything would have to be said."""
    monkeypatch.setattr(bells, "_GATHERING", 60.0)
    actor = Actor(store)
    await actor.sign()
    opened: list[object] = []
    driver: Any = AbstractConnection
    connect = driver.connect

    async def counting(self: AbstractConnection) -> None:
        opened.append(self)
        await connect(self)

    monkeypatch.setattr(driver, "connect", counting)
    for n in range(20):
        end = store.watch([f"run_{n}"], Bell().ring)
        await actor.start(run=f"run_{n}")
        end()
    assert opened == []


async def test_hearing_goes_on_after_the_connection_broke(
    store: RedisStore, other: RedisStore, redis_server: Server
) -> None:
    """Who watches is rung once it can hear again, for what it has missed."""
    bell = Bell()
    end = store.watch(["a"], bell.ring)
    await bell.next()
    waiting = asyncio.ensure_future(bell.next())
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await waiting
    waiting = asyncio.ensure_future(bell.next())
    await put(other, TaskRecord(key="a", created_at=0.0, route="r"))
    await waiting
    end()


async def test_watches_that_come_and_go_are_heard(store: RedisStore, other: RedisStore) -> None:
    """Those that begin while others are heard already, and those that begin after all had ended."""
    first = Bell()
    end_first = store.watch(["a"], first.ring)
    await first.next()
    second = Bell()
    end_second = store.watch(["b"], second.ring)
    await second.next()
    end_first()
    end_second()
    third = Bell()
    end_third = store.watch(["c"], third.ring)
    await third.next()
    waiting = asyncio.ensure_future(third.next())
    await put(other, TaskRecord(key="c", created_at=0.0, route="r"))
    await waiting
    end_third()
    heard = len(first.rung)
    await put(other, TaskRecord(key="a", created_at=0.0, route="r"))
    assert len(first.rung) == heard
