"""Several changes in one commit: all of them, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mageflow import (
    Mageflow,
    RunHandle,
    RunNotFoundError,
    RunStatus,
    SignatureNotFoundError,
    SwarmClosedError,
    SwarmConfig,
    TransactionError,
)
from mageflow.ports.store import Filter
from tests.api.conftest import work
from tests.api.transacting import Begin, records


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ran(mage: Mageflow) -> list[Any]:
    ran: list[Any] = []

    @mage.task
    async def note(msg: dict[str, Any]) -> Any:
        ran.append(msg.get("n", msg.get("results")))
        return msg.get("n")

    return ran


async def test_all_of_it_is_committed_at_the_end(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    there = await mage.sign("note", n=0)
    other = await mage.sign("note", n=7)
    async with begin():
        first = await mage.sign("note", n=1)
        chain = await mage.chain([first, "note"], success_callbacks=[other])
        swarm = await mage.swarm(["note"], kwargs={"n": 3})
        await swarm.add_task(first)
        await swarm.close_swarm()
        await there.kwargs.aupdate(n=5)
        await there.success_callbacks.aappend(first)
        handles = [await each.start({}) for each in (there, chain, swarm)]
        assert await mage.load_run(handles[0].id) is not None, "the block sees what it did"
        assert await handles[0].status() is RunStatus.QUEUED
        assert (await mage.load_signature(there.key) or first).kwargs == {"n": 5}
        assert await outside(mage.store.count(Filter(live=True))) == 0
    await work(mage)
    assert [await handle.result(timeout=10) for handle in handles] == [5, None, [3, 3]]
    assert sorted(ran) == [1, 1, 1, 3, 3, 5, 7]


async def outside(asked: Any) -> Any:
    return await asked


async def test_an_exception_commits_nothing(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    there = await mage.sign("note", n=0)
    swarm = await mage.swarm()
    before = await records(mage)

    async def block() -> None:
        async with begin():
            await (await mage.sign("note", n=1)).start()
            await mage.chain(["note", "note"])
            await there.kwargs.aupdate(n=5)
            there.kwargs["m"] = 1
            await there.success_callbacks.aappend("note")
            await swarm.add_task("note")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert await records(mage) == before
    for each in (there, swarm):
        await each.refresh()
    assert there.kwargs == {"n": 0}
    assert list(there.success_callbacks) == swarm.tasks == []
    await work(mage)
    assert ran == []


async def test_bound_data_is_changed_like_a_dict_in_it_and_nowhere_else(mage: Mageflow, begin: Begin) -> None:
    @mage.task
    async def takes(msg: dict[str, Any]) -> None: ...

    signature = await mage.sign(takes, a=1, b=2, c=3)
    async with begin():
        signature.kwargs["a"] = 10
        del signature.kwargs["b"]
        assert signature.kwargs.pop("c") == 3
        signature.kwargs.update(d=4)
        with pytest.raises(KeyError):
            del signature.kwargs["absent"]
        assert signature.kwargs == {"a": 10, "d": 4}
        assert (await mage.load_signature(signature.key) or signature).kwargs == {"a": 10, "d": 4}
        signature.kwargs["e"] = 5
    await signature.refresh()
    assert signature.kwargs == {"a": 10, "d": 4, "e": 5}
    with pytest.raises(TransactionError, match=r"aupdate"):
        signature.kwargs["a"] = 11
    with pytest.raises(TransactionError, match=r"adel_item"):
        del signature.kwargs["a"]
    await signature.refresh()
    assert signature.kwargs["a"] == 10


async def test_what_is_refused_at_once_leaves_the_rest(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    swarm = await mage.swarm(is_swarm_closed=True)
    async with begin():
        first = await mage.sign("note", n=1)
        with pytest.raises(SwarmClosedError):
            await swarm.add_task(first)
        with pytest.raises(SignatureNotFoundError):
            await mage.sign("note", success_callbacks=["sig_absent"])
        handle = await first.start({})
    await work(mage)
    assert await handle.result(timeout=10) == 1


async def test_what_is_done_side_by_side_in_a_block_belongs_to_it(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    async with begin():
        made = await asyncio.gather(*(mage.sign("note", n=n) for n in range(20)))
        handles = await asyncio.gather(*(each.start({}) for each in made))
    await work(mage)
    assert [await handle.result(timeout=10) for handle in handles] == list(range(20))


async def test_an_inner_block_belongs_to_the_outer(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    before = await records(mage)

    async def block() -> None:
        async with begin():
            async with begin():
                await mage.sign("note")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()

    async def catching() -> None:
        async with begin():
            await mage.sign("note")
            with pytest.raises(ZeroDivisionError):
                async with mage.transaction():
                    raise ZeroDivisionError

    with pytest.raises(TransactionError, match="inside this one"):
        await catching()
    assert await records(mage) == before
    async with begin(), begin():
        await mage.sign("note")
    assert await records(mage) == before + 1


async def test_waiting_for_what_begins_at_the_end_is_refused(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    async def wait(handle: RunHandle[Any]) -> None:
        async for _ in handle.events():
            pass

    earlier = await (await mage.sign("note", n=1)).start()
    await work(mage)
    async with begin():
        signature = await mage.sign("note", n=2)
        with pytest.raises(TransactionError, match="after it"):
            await signature.run({})
        handle = await signature.start({})
        for waiting in (handle.result(), handle.outcome(), handle.settled(), wait(handle)):
            with pytest.raises(TransactionError, match="after it"):
                await waiting
        assert await earlier.result() == 1, "what has been started before can be waited for"
    assert len(await mage.find_runs()) == 2


async def test_what_takes_more_than_a_commit_is_refused(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    signature = await mage.sign("note")
    handle = await signature.start()
    async with begin():
        for refused in (
            signature.remove(),
            signature.suspend(),
            signature.cancel(),
            handle.cancel(),
            handle.suspend(),
            handle.retry(),
        ):
            with pytest.raises(TransactionError, match="before the block or after"):
                await refused
    before = await records(mage)

    async def block() -> None:
        async with begin():
            for n in range(600):
                await mage.sign("note", n=n)

    with pytest.raises(TransactionError, match="500 records"):
        await block()
    with pytest.raises(TransactionError, match="500 records"):
        async with begin():
            await mage.swarm(task="note", inputs=[{"n": n} for n in range(30_000)])
    assert await records(mage) == before


async def test_a_wide_swarm_leaves_room_for_the_rest(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    config = SwarmConfig(max_concurrency=400)
    async with begin():
        for n in range(50):
            await mage.sign("note", n=n)
        swarm = await mage.swarm(task="note", inputs=[{"n": n} for n in range(300)], config=config)
        handle = await swarm.start()
        for n in range(200):
            await mage.sign("note", n=n)
    await work(mage)
    assert await handle.result(timeout=30) == list(range(300))


async def test_a_worker_that_is_started_in_it_works_for_itself(mage: Mageflow, begin: Begin) -> None:
    made: list[str] = []

    @mage.task
    async def makes() -> None:
        made.append((await mage.sign("makes")).key)

    handle = await (await mage.sign(makes)).start()

    async def block() -> None:
        async with begin():
            async with mage.worker():
                await handle.result(timeout=10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert await mage.load_signature(made[0]) is not None


async def test_a_run_that_is_gone_is_still_told_so(mage: Mageflow, begin: Begin) -> None:
    @mage.task
    async def note() -> None: ...

    async with begin():
        handle = await (await mage.sign(note)).start()
        assert await handle.status() is RunStatus.QUEUED

    lost: list[RunHandle[None]] = []

    async def block() -> None:
        async with begin():
            lost.append(await (await mage.sign(note)).start())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert await handle.status() is RunStatus.QUEUED
    with pytest.raises(RunNotFoundError):
        await lost[0].status()
