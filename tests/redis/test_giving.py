"""What was read or written here lately is not read again, and a relay is given what is put here without asking."""

from __future__ import annotations

import asyncio

from mageflow.core.records import Control, OutboxRow
from mageflow.core.replies import Verdict
from mageflow.core.status import RunStatus
from mageflow.stores.redis import RedisStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor
from tests.redis.servers import Server


async def due(store: RedisStore, limit: int = 100) -> list[OutboxRow]:
    return await store.due(("r",), limit, redeliver_after=60.0)


async def test_a_relay_that_watches_is_given_what_is_put_here(store: RedisStore, redis_server: Server) -> None:
    """In the commit that puts it: it counts as given before anybody asks, and is given once."""
    actor = Actor(store)
    await actor.sign()
    end = store.watch_route("r", lambda: None)
    assert await due(store) == []
    runs = [(await actor.start(priority=priority)).key for priority in (1, 3, 2)]
    assert redis_server.command("ZCARD", "{mageflow}:g:1:r") == 3
    assert sorted(row.run for row in await due(store)) == sorted(runs)
    assert await due(store) == []
    end()


async def test_what_nobody_passes_on_is_due_again_at_once(store: RedisStore, redis_server: Server) -> None:
    """Who stops watching gives back what it was given, also where the commit was still on its way; nobody waits for
    a redelivery."""
    actor = Actor(store)
    await actor.sign()
    other = RedisStore(redis_server.url, clock=ManualClock())
    end = store.watch_route("r", lambda: None)
    assert await due(store) == []
    first = await actor.start()
    starting = asyncio.create_task(actor.start())
    await asyncio.sleep(0)
    end()
    second = await starting
    found: set[str] = set()
    async with asyncio.timeout(30):
        while found != {first.key, second.key}:
            found.update(row.run for row in await due(other))
    await other.aclose()


async def test_what_another_process_puts_is_heard_of(store: RedisStore, redis_server: Server) -> None:
    """Its notice makes the next question go to the server."""
    other = RedisStore(redis_server.url, clock=ManualClock())
    actor = Actor(other)
    await actor.sign()
    rung = asyncio.Event()
    end = store.watch_route("r", rung.set)
    await rung.wait()  # it hears from now on
    assert await due(store) == []
    rung.clear()
    run = await actor.start()
    await asyncio.wait_for(rung.wait(), 30)
    assert [row.run for row in await due(store)] == [run.key]
    end()
    await other.aclose()


async def test_what_is_remembered_is_checked(store: RedisStore, redis_server: Server) -> None:
    """A run that another process has cancelled since it was read here is not claimed, and one that it has claimed is
    held: what is decided on old records is refused, and decided anew on what is there."""
    other = RedisStore(redis_server.url, clock=ManualClock())
    here, there = Actor(store, seed=1), Actor(other, seed=2, worker="wrk_there")
    await here.sign()
    cancelled, taken = [await here.start() for _ in range(2)]
    await there.control(cancelled.key, Control.CANCEL)
    assert (await here.claim_run(cancelled.key)).verdict is Verdict.ENDED
    assert (await there.claim_run(taken.key)).verdict is Verdict.CLAIMED
    assert (await here.claim_run(taken.key)).verdict is Verdict.HELD
    run = await here.run(taken.key)
    assert (run.status, run.worker) == (RunStatus.RUNNING, "wrk_there")
    await other.aclose()
