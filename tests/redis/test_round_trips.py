"""How often the server is waited for, counted where the bytes leave: at the connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from mageflow.core.records import TaskRecord, replace
from mageflow.ports.store import Store
from mageflow.stores.redis import RedisStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor, put, writing
from tests.redis.servers import Server


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each message to the server; what is sent together is one."""
    sent: list[int] = []
    send = AbstractConnection.send_packed_command

    async def counting(self: AbstractConnection, command: Any, check_health: bool = True) -> None:
        sent.append(sum(map(len, command)))
        await send(self, command, check_health=check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return sent


async def counted(trips: list[int], act: Callable[[], Awaitable[Any]]) -> int:
    trips.clear()
    await act()
    return len(trips)


async def test_a_run_takes_two_round_trips_to_claim_and_one_to_end(
    trips: list[int], store: RedisStore, redis_server: Server
) -> None:
    """With a callback, a cause and a lineage: its claim by delivery and by pull, and its end."""
    actor = Actor(store)
    await actor.sign("sig_last")
    await actor.sign("sig_next", on_success=("sig_last",))
    await actor.sign(on_success=("sig_next",), on_error=("sig_last",), on_done=("sig_last",))
    for claims in (actor.claimed, lambda: actor.claimed(1)):
        await actor.start()
        assert await counted(trips, claims) == 2
    run = await actor.start()
    other = RedisStore(redis_server.url, clock=ManualClock())
    elsewhere = Actor(other)
    await elsewhere.sign("sig_unknown")  # its connection is there
    assert await counted(trips, lambda: elsewhere.claim_run(run.key)) == 2
    running = await elsewhere.run(run.key)
    assert await counted(trips, lambda: elsewhere.end(running)) == 1
    (callback,) = await elsewhere.keys(cause=run.key, signature="sig_next")
    assert await counted(trips, lambda: actor.claim_run(callback)) == 2
    running = await actor.run(callback)
    assert await counted(trips, lambda: actor.end(running)) == 1
    await other.aclose()


async def test_who_made_a_run_claims_it_in_one_round_trip(trips: list[int], store: RedisStore) -> None:
    """And ends it in one: what this process wrote or read is decided on as it was, and checked by the commit."""
    actor = Actor(store)
    await actor.sign("sig_next")
    await actor.sign(on_success=("sig_next",))
    run = await actor.start()
    assert await counted(trips, lambda: actor.claim_run(run.key)) == 1
    running = await actor.run(run.key)
    assert await counted(trips, lambda: actor.end(running)) == 1
    (callback,) = await actor.keys(cause=run.key)
    assert await counted(trips, lambda: actor.claim_run(callback)) == 1


async def test_what_is_refused_takes_one(trips: list[int], store: RedisStore) -> None:
    """A decision that writes nothing was decided on one reading: there is nothing to commit."""
    actor = Actor(store)
    await actor.sign()
    run = await actor.start()
    await actor.claim_run(run.key)
    assert await counted(trips, lambda: actor.claim_run(run.key)) == 1


async def test_a_hundred_ends_share_their_round_trips(trips: list[int], store: RedisStore) -> None:
    """The busier it is, the fewer there are for each: claims and ends that meet go together."""
    actor = Actor(store)
    await actor.sign("sig_next")
    await actor.sign(on_success=("sig_next",))
    runs = [await actor.start() for _ in range(100)]
    assert await counted(trips, lambda: asyncio.gather(*(actor.claim_run(run.key) for run in runs))) <= 4
    running = [await actor.run(run.key) for run in runs]
    assert await counted(trips, lambda: asyncio.gather(*(actor.end(run) for run in running))) <= 4
    assert len(await actor.keys(signature="sig_next")) == 100


async def test_an_end_and_the_pull_behind_it_take_two(trips: list[int], store: RedisStore) -> None:
    """The callback is running after one more than its cause's end takes alone."""
    actor = Actor(store)
    await actor.sign("sig_next")
    await actor.sign(on_success=("sig_next",))
    await actor.start()
    (run,) = await actor.claimed()
    assert await counted(trips, lambda: asyncio.gather(actor.end(run), actor.claimed())) == 2
    assert await actor.keys(statuses=("running",)) == await actor.keys(cause=run.key)


async def test_loads_share_their_round_trips(trips: list[int], store: RedisStore) -> None:
    """Fifty waiters that look at once are one or two messages."""
    await put(store, TaskRecord(key="a", created_at=0.0, route="r"))
    assert await counted(trips, lambda: asyncio.gather(*(store.load(["a"]) for _ in range(50)))) <= 2


async def test_fifty_events_on_one_record_are_one_batch(trips: list[int], store: RedisStore) -> None:
    """Each is decided on the one before it, and none is decided twice."""
    await put(store, TaskRecord(key="a", created_at=0.0, route="r"))
    calls = 0

    def increment(records: Any, now: float) -> Any:
        nonlocal calls
        calls += 1
        record = records["a"]
        return writing(replace(record, created_at=record.created_at + 1))(records, now)

    def together() -> Awaitable[Any]:
        return asyncio.gather(*(store.transact(["a"], increment, token=f"t{n}") for n in range(50)))

    assert await counted(trips, together) == 2
    assert calls == 50


async def test_two_processes_at_one_record_both_get_through(store: RedisStore, redis_server: Server) -> None:
    """A batch that was overtaken is decided again, as one batch; nothing is lost and nothing done twice."""
    other = RedisStore(redis_server.url)
    await put(store, TaskRecord(key="a", created_at=0.0, route="r"))

    def increment(records: Any, now: float) -> Any:
        record = records["a"]
        return writing(replace(record, created_at=record.created_at + 1))(records, now)

    async def many(handle: Store, name: str) -> None:
        for at in range(10):
            await asyncio.gather(*(handle.transact(["a"], increment, token=f"{name}{at}.{n}") for n in range(20)))

    await asyncio.gather(many(store, "here"), many(other, "there"))
    record = (await store.load(["a"]))["a"]
    await other.aclose()
    assert record is not None
    assert (record.rev, record.created_at) == (401, 400.0)
