"""What waits together is committed together, and what goes wrong stays with the one who brought it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.records import TaskRecord, replace
from mageflow.ports.store import Filter
from mageflow.stores.redis import RedisStore
from mageflow.stores.redis.link import stop
from mageflow.testing.contracts.acting import Actor, put
from tests.redis.servers import Server
from tests.stores.batching import CALLS, Batching, call_while_it_closes


class TestBatching(Batching):
    """What holds of all stores that batch."""


async def test_rows_put_in_a_batch_are_claimed_in_order(store: RedisStore) -> None:
    """Among those that were there before."""
    actor = Actor(store)
    await actor.sign()
    await actor.start(run="run_old")
    *_, runs = await asyncio.gather(
        actor.start(run="run_new"),
        actor.start(run="run_high", priority=2),
        actor.start(run="run_late", delay=5.0),
        actor.claimed(),
    )
    assert isinstance(runs, list)
    assert [run.key for run in runs] == ["run_high", "run_old", "run_new"]


async def test_what_was_read_at_two_moments_is_read_again(store: RedisStore, redis_server: Server) -> None:
    """A batch loads what its events ask for, one after another, and another process commits in between."""
    member, tally = (
        TaskRecord(key="member", created_at=0.0, route="r"),
        TaskRecord(key="tally", created_at=0.0, route="0"),
    )
    await put(store, tally)
    overtaken: list[bool] = []

    async def overtake() -> None:
        other = RedisStore(redis_server.url)
        there = (await other.load(["tally"]))["tally"]
        assert isinstance(there, TaskRecord)
        await other.transact(
            ["tally"], lambda records, now: Decision(writes=(replace(there, route="1"), member)), token="theirs"
        )
        await other.aclose()

    def look(records: Records, now: float) -> Decision | Need:
        """The neighbour, for which the member is loaded after all else."""
        if not overtaken:
            overtaken.append(True)
            with ThreadPoolExecutor() as pool:
                pool.submit(asyncio.run, overtake()).result()
        return Decision() if "member" in records else Need(("member",))

    def make(records: Records, now: float) -> Decision:
        """What makes the member, unless the tally says that it was made."""
        there = records["tally"]
        assert isinstance(there, TaskRecord)
        return Decision(
            writes=(replace(there, route="2"),) if there.route == "1" else (replace(there, route="1"), member)
        )

    await asyncio.gather(store.transact([], look, token="x"), store.transact(["tally"], make, token="y"))
    there = (await store.load(["tally"]))["tally"]
    assert isinstance(there, TaskRecord)
    assert there.route == "2"


async def test_what_was_built_on_a_refused_commit_is_refused_too(store: RedisStore, redis_server: Server) -> None:
    """Another's record has the same revision: it is not the one that the second was decided on."""
    task = TaskRecord(key="a", created_at=0.0, route="mine")
    calls: list[str] = []

    async def overtake() -> None:
        other = RedisStore(redis_server.url)
        await put(other, replace(task, route="theirs"), token="theirs")
        await other.aclose()

    def make(records: Records, now: float) -> Decision:
        if not calls:
            with ThreadPoolExecutor() as pool:
                pool.submit(asyncio.run, overtake()).result()
        calls.append("make")
        return Decision(writes=() if records["a"] else (task,))

    def copy(records: Records, now: float) -> Decision:
        record = records["a"]
        assert isinstance(record, TaskRecord)
        calls.append(record.route)
        return Decision(writes=(replace(task, key="b", route=record.route),))

    await put(store, replace(task, key="first"))
    await asyncio.gather(store.transact(["a"], make, token="t1"), store.transact(["a"], copy, token="t2"))
    assert calls[:4] == ["make", "mine", "make", "theirs"]
    record = (await store.load(["b"]))["b"]
    assert isinstance(record, TaskRecord)
    assert record.route == "theirs"


async def test_a_call_that_meets_the_closing_is_answered(store: RedisStore) -> None:
    """Loops in other threads that use the store while it is closed are served, or told to ask again."""
    served = await call_while_it_closes(store)
    # One that was cut off may have been committed all the same.
    assert 1 + served <= await store.count(Filter(kind="task")) <= 1 + CALLS


async def test_closing_ends_what_has_lost_a_cancellation() -> None:
    """The driver's sends may lose one; nobody waits for ever."""
    losses = 3
    begun = asyncio.Event()

    async def deaf() -> None:
        nonlocal losses
        begun.set()
        while losses:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                losses -= 1

    task = asyncio.create_task(deaf())
    await begun.wait()
    async with asyncio.timeout(20):
        await stop(task)
    assert losses == 0
