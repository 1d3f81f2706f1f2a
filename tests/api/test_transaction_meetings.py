"""Transactions, and what others commit while their blocks run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mageflow import Mageflow, SignatureNotFoundError, SwarmClosedError, TransactionConflictError
from mageflow.ports.store import Filter
from tests.api.transacting import Begin, elsewhere, records


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


async def test_what_is_gone_by_the_end_aborts_all_of_it(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    callback = await mage.sign("note")

    async def block() -> None:
        async with begin():
            await (await mage.sign("note")).start()
            await mage.sign("note", success_callbacks=[callback])
            await elsewhere(callback.remove())

    with pytest.raises(SignatureNotFoundError, match=callback.key) as caught:
        await block()
    assert any("nothing of the transaction" in note for note in caught.value.__notes__)
    assert await records(mage) == 0


async def test_a_swarm_that_was_closed_meanwhile_aborts_all_of_it(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    swarm = await mage.swarm()
    before = await records(mage)

    async def block() -> None:
        async with begin():
            member = await mage.sign("note")
            await swarm.add_task(member)
            await elsewhere(swarm.close_swarm())

    with pytest.raises(SwarmClosedError):
        await block()
    assert await records(mage) == before


async def test_a_swarm_that_somebody_else_opened_meanwhile_is_a_conflict(
    mage: Mageflow, begin: Begin, ran: list[Any]
) -> None:
    swarm = await mage.swarm()

    async def block() -> None:
        async with begin():
            await mage.sign("note")
            await swarm.start()
            await elsewhere(swarm.start())

    with pytest.raises(TransactionConflictError):
        await block()
    assert len(await mage.find_runs()) == 1
    assert await mage.store.count(Filter(kind="signature")) == 1


async def test_changes_of_others_are_kept(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    signature = await mage.sign("note", a=1, b=1)
    other = await mage.load_signature(signature.key)
    assert other is not None
    async with begin():
        await signature.kwargs.aupdate(a=2)
        await elsewhere(other.kwargs.aupdate(b=2, c=2))
    await signature.refresh()
    assert signature.kwargs == {"a": 2, "b": 2, "c": 2}


async def test_transactions_that_overlap_each_commit_once(mage: Mageflow, begin: Begin, ran: list[Any]) -> None:
    counter = await mage.sign("note")

    async def add(n: int) -> None:
        async with begin():
            await counter.kwargs.aupdate({f"k{n}": n})
            callback = await mage.sign("note", n=n)
            await counter.done_callbacks.aappend(callback)

    await asyncio.gather(*(add(n) for n in range(20)))
    await counter.refresh()
    assert counter.kwargs == {f"k{n}": n for n in range(20)}
    assert len(set(counter.done_callbacks)) == 20
