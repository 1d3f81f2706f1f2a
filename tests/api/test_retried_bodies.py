"""What a body signs and starts, its next attempt signs and starts again: it is there once."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import mageflow
from mageflow import Mageflow, RetryMismatchWarning, RunFailedError, RunHandle, RunOptions, current_run
from mageflow.ports.store import Filter
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock
from tests.api.conftest import work


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ran(mage: Mageflow) -> list[Any]:
    ran: list[Any] = []

    @mage.task
    async def note(msg: dict[str, Any]) -> Any:
        ran.append(msg.get("n"))
        return msg.get("n")

    return ran


@pytest.fixture(params=["client", "module"])
def face(request: pytest.FixtureRequest, mage: Mageflow) -> Any:
    return mage if request.param == "client" else mageflow


async def count(mage: Mageflow, kind: str) -> int:
    return await mage.store.count(Filter(kind=kind))


def fail_until(attempt: int) -> None:
    if current_run().attempt < attempt:
        raise RuntimeError("not yet")


async def test_a_body_that_is_tried_again_makes_everything_once(mage: Mageflow, face: Any, ran: list[Any]) -> None:
    swarm = await mage.swarm()
    seen: list[list[str]] = []

    @mage.task(retries=2)
    async def imports() -> Any:
        chain = await face.chain(["note", await face.sign("note", n=2)], kwargs={"m": 1})
        await chain.success_callbacks.aappend(await face.sign("note", n=3))
        started = await chain.start({"n": 1})
        loaded = await face.load_signature(swarm.key)
        for n in (4, 5):
            await loaded.add_task(await face.sign("note", n=n))
        within = await loaded.start()
        seen.append([chain.key, started.id, within.id, *loaded.tasks, *chain.success_callbacks])
        fail_until(3)
        await loaded.close_swarm()
        return started.id

    handle = await (await mage.sign(imports)).start()
    await work(mage)
    started = await mage.load_run(await handle.result(timeout=10))
    assert started is not None
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 6
    assert sorted(ran) == [1, 2, 3, 4, 5]
    assert await swarm.is_swarm_done()


async def test_a_run_that_is_tried_again_by_hand_makes_everything_anew(mage: Mageflow, ran: list[Any]) -> None:
    made: list[str] = []

    @mage.task
    async def imports() -> None:
        made.append((await (await mage.sign("note", n=1)).start({})).id)
        if len(made) == 1:
            raise RuntimeError

    handle = await (await mage.sign(imports)).start()
    await work(mage)
    again = await handle.retry()
    await work(mage)
    await again.result(timeout=10)
    assert len(set(made)) == 2
    assert ran == [1, 1]


async def test_what_is_the_same_at_one_place_is_counted(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task(retries=1)
    async def imports() -> None:
        for n in (1, 1, 2, 1):
            await (await mage.sign("note", n=n)).start({})
            if n == 2:
                fail_until(2)

    await (await mage.sign(imports)).start()
    await work(mage)
    assert sorted(ran) == [1, 1, 1, 2]


async def test_the_order_of_concurrent_tasks_does_not_matter(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task(retries=1)
    async def imports() -> None:
        turn = asyncio.Event()

        async def make(n: int) -> None:
            if n % 2 == current_run().attempt % 2:
                await turn.wait()
            await (await mage.sign("note", n=n)).start({})
            turn.set()

        await asyncio.gather(*(make(n) for n in range(10)))
        signatures = await asyncio.gather(*(mage.sign("note", n=n) for n in (10, 11, 11)))
        await asyncio.gather(*(each.start({}) for each in signatures))
        fail_until(2)

    await (await mage.sign(imports)).start()
    await work(mage)
    assert sorted(ran) == [*range(11), 11, 11]


async def test_copies_are_made_once_whatever_becomes_of_the_original(mage: Mageflow, ran: list[Any]) -> None:
    original = await mage.sign("note", n=1)
    seen: list[set[str]] = []

    @mage.task(retries=1)
    async def copies() -> None:
        made = await original.aduplicate_many(3)
        await original.kwargs.aupdate(n=current_run().attempt + 1)
        seen.append({each.key for each in made})
        for each in made:
            await each.acall(m=2)
        fail_until(2)

    await (await mage.sign(copies)).start()
    await work(mage)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 3
    assert ran == [1, 1, 1]


async def test_a_sync_body_in_its_thread_and_a_thread_of_its_own(mage: Mageflow, ran: list[Any]) -> None:
    client = mage

    async def make(n: int) -> str:
        return (await (await client.sign("note", n=n)).start({})).id

    seen: list[list[str]] = []
    loop = asyncio.get_running_loop()

    @mage.task(retries=1)
    def imports() -> None:
        seen.append([asyncio.run_coroutine_threadsafe(make(n), loop).result(10) for n in range(3)])
        fail_until(2)

    @mage.task(retries=1)
    async def spreads() -> None:
        seen.append([await asyncio.create_task(make(n)) for n in range(3, 6)])
        fail_until(2)

    for task in (imports, spreads):
        await (await mage.sign(task)).start()
        await work(mage)
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert sorted(ran) == list(range(6))
    assert threading.active_count() < 50


async def test_a_transaction_in_a_body_is_made_once(mage: Mageflow, face: Any, ran: list[Any]) -> None:
    other = await mage.sign("note", n=0)
    swarm = await mage.swarm()

    @mage.task(retries=2)
    async def imports() -> None:
        async with face.transaction():
            await (await face.sign("note", n=1)).start({})
            await other.done_callbacks.aappend(other)
            await swarm.add_task(other)
        fail_until(3)

    await (await mage.sign(imports)).start()
    await work(mage)
    await other.refresh()
    await swarm.refresh()
    assert ran == [1]
    assert list(other.done_callbacks) == swarm.tasks == [other.key]


async def test_many_additions_one_by_one_are_each_made_once(mage: Mageflow, ran: list[Any]) -> None:
    member = await mage.sign("note")
    swarm = await mage.swarm()

    @mage.task(retries=1)
    async def adds() -> None:
        for n in range(60):
            await swarm.add_task(member, {"n": n})
        if current_run().attempt == 2:
            await swarm.close_swarm()
        fail_until(2)

    await swarm.start()
    await (await mage.sign(adds)).start()
    await work(mage)
    assert sorted(ran) == list(range(60))


async def test_members_added_before_the_swarm_was_closed_are_not_refused(mage: Mageflow, ran: list[Any]) -> None:
    swarm = await mage.swarm()

    @mage.task(retries=1)
    async def adds() -> None:
        await swarm.aio_run_in_swarm("note", {"n": 1})
        await swarm.close_swarm()
        fail_until(2)

    handle = await (await mage.sign(adds)).start()
    await work(mage)
    await handle.result(timeout=10)
    assert ran == [1]


async def test_a_large_swarm_is_made_once(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task(retries=1)
    async def makes() -> str:
        swarm = await mage.swarm(task="note", inputs=[{"n": n} for n in range(120)])
        handle = await swarm.start()
        fail_until(2)
        return handle.id

    handle = await (await mage.sign(makes)).start()
    await work(mage)
    assert await handle.result(timeout=10)
    assert sorted(ran) == list(range(120))
    assert await count(mage, "members") == 3


async def test_something_else_at_the_same_place_is_said_and_made_anew(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task(retries=2)
    async def imports() -> None:
        at = current_run().attempt
        await (await mage.sign("note", n=at)).start({})
        fail_until(3)

    await (await mage.sign(imports)).start()
    with pytest.warns(RetryMismatchWarning) as caught:
        await work(mage)
    assert sorted(ran) == [1, 2, 3]
    texts = [str(each.message) for each in caught]
    assert len(texts) == 2
    assert "imports, line" in texts[0]
    assert """now sign 'note' with {"n":2}, then sign 'note' with {"n":1}""" in texts[0]
    assert {each.filename for each in caught} == {__file__}


async def test_a_longer_second_attempt_is_no_mismatch(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task(retries=1)
    async def imports() -> None:
        for n in range(5):
            await (await mage.sign("note", n=n)).start({})
            if n == 2:
                fail_until(2)

    await (await mage.sign(imports)).start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await work(mage)
    assert sorted(ran) == list(range(5))


async def test_an_interrupted_body_finds_what_it_made(mage: Mageflow, ran: list[Any]) -> None:
    entered = asyncio.Event()

    @mage.task
    async def imports() -> int:
        await (await mage.sign("note", n=1)).start({})
        entered.set()
        if current_run().attempt == 1:
            await asyncio.Event().wait()
        return current_run().attempt

    handle = await (await mage.sign(imports)).start()
    async with mage.worker():
        await entered.wait()
        await handle.interrupt()
        await handle.resume()
        assert await handle.result(timeout=10) == 2
    assert ran == [1]


async def test_a_child_is_awaited_again_and_not_run_again(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task(retries=1)
    async def waits() -> Any:
        n = await (await mage.sign("note", n=7)).run({})
        fail_until(2)
        return n

    @mage.task
    async def fails() -> None:
        raise RuntimeError("always")

    @mage.task(retries=1)
    async def tries() -> str:
        child: RunHandle[None] = await (await mage.sign(fails)).start()
        if current_run().attempt == 2:
            child = await child.retry()
        await child.outcome()
        fail_until(2)
        return child.id

    async with mage.worker():
        assert await (await mage.sign(waits)).run() == 7
        assert await (await mage.sign(tries)).run()
    assert ran == [7]
    assert len(await mage.find_runs(task_name="fails")) == 2


async def test_two_runs_of_one_body_share_nothing(mage: Mageflow, ran: list[Any]) -> None:
    @mage.task
    async def imports() -> None:
        await (await mage.sign("note", n=1)).start({})

    signature = await mage.sign(imports)
    for _ in range(3):
        await signature.start()
    await work(mage)
    assert ran == [1, 1, 1]


async def test_a_key_used_again_after_its_run_is_gone_makes_anew() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    made: list[str] = []
    async with Mageflow(store=store) as mage:

        @mage.task
        async def note() -> None: ...

        @mage.task
        async def imports() -> None:
            made.append((await mage.sign("note", n=1)).key)

        signature = await mage.sign(imports, run_options=RunOptions(idempotency_key="k"))
        for _ in range(2):
            await signature.start()
            await work(mage)
            clock.advance(4 * 3600)
            assert await store.purge(100)
    assert len(set(made)) == 2


async def test_outside_of_bodies_everything_is_new(mage: Mageflow, ran: list[Any]) -> None:
    keys = {(await mage.sign("note", n=1)).key for _ in range(3)}
    assert len(keys) == 3


async def test_a_failed_run_stays_failed_for_the_next_attempt(mage: Mageflow, ran: list[Any]) -> None:
    seen: list[str] = []

    @mage.task
    async def fails() -> None:
        raise RuntimeError("always")

    @mage.task(retries=1)
    async def asks() -> None:
        try:
            await (await mage.sign(fails)).run()
        except RunFailedError as error:
            seen.append(error.run_id)
            raise

    handle = await (await mage.sign(asks)).start()
    async with mage.worker():
        await handle.outcome(timeout=10)
    assert len(seen) == 2
    assert len(set(seen)) == 1


@pytest.fixture(autouse=True)
def _no_mismatch_is_hidden() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RetryMismatchWarning)
        yield
