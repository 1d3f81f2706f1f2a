"""A transaction is one commit: counted, with its reply lost, and with a crash on either side of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, cast

import pytest

from mageflow import Mageflow
from mageflow.core.decision import Decide, Decision
from mageflow.engines.local import LocalEngine
from mageflow.errors import StoreUnavailableError
from mageflow.ports.store import Filter, Store
from tests.api.transacting import records


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Hostile:
    """A store that counts commits, and loses the reply of those that it is told to, or refuses all."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.commits = 0
        self.lost = 0
        self.refusing = False
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What others do before a commit whose reply was lost is repeated."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        if self.refusing:
            raise StoreUnavailableError("out of reach")
        self.commits += 1
        decision: Decision = await self._store.transact(keys, decide, token=token)
        if self.lost:
            self.lost -= 1
            if self.meanwhile is not None:
                await self.meanwhile()
            raise StoreUnavailableError("the reply was lost")
        return decision


@pytest.fixture
def hostile(store: Store) -> Hostile:
    return Hostile(store)


@pytest.fixture
async def client(hostile: Hostile) -> AsyncIterator[Mageflow]:
    async with Mageflow(LocalEngine(), cast("Store", hostile)) as client:

        @client.task
        async def note(msg: dict[str, Any]) -> None: ...

        yield client


async def test_it_is_one_commit(hostile: Hostile, client: Mageflow) -> None:
    await client.sign("note")
    hostile.commits = 0
    async with client.transaction():
        first = await client.sign("note")
        second = await client.sign("note", success_callbacks=[first])
        await second.start()
        assert hostile.commits == 0
    assert hostile.commits == 1
    async with client.transaction():
        pass
    assert hostile.commits == 1


async def test_a_lost_reply_repeats_nothing(hostile: Hostile, client: Mageflow) -> None:
    there = await client.sign("note")
    swarm = await client.swarm()
    hostile.lost = 3
    async with client.transaction():
        await there.success_callbacks.aappend(there)
        await there.success_callbacks.aappend(there)
        for _ in range(40):
            await swarm.add_task(there)
        await there.start()
    assert hostile.lost == 0
    await there.refresh()
    await swarm.refresh()
    assert len(there.success_callbacks) == 2
    assert len(swarm.tasks) == 40
    assert await hostile.count(Filter()) == 1


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a transaction"])
async def test_what_is_added_with_a_lost_reply_is_added_once_though_others_wrote_meanwhile(
    hostile: Hostile, client: Mageflow, together: bool
) -> None:
    """The record is another's by then: nothing on it tells that the commit succeeded."""
    there = await client.sign("note")
    swarm = await client.swarm()

    async def others() -> None:
        lost, hostile.lost = hostile.lost, 0
        await there.kwargs.aupdate(n=hostile.commits)
        await swarm.kwargs.aupdate(n=hostile.commits)
        for _ in range(40):
            await swarm.add_task(there)
        hostile.lost = lost

    hostile.meanwhile = others
    async with client.transaction() if together else contextlib.nullcontext():
        hostile.lost = 2
        await there.success_callbacks.aappend(there)
        hostile.lost = 2
        await swarm.error_callbacks.aappend(there)
        hostile.lost = 2
        await swarm.add_task(there)
    assert hostile.lost == 0
    await there.refresh()
    await swarm.refresh()
    assert len(there.success_callbacks) == 1
    assert len(swarm.error_callbacks) == 1
    assert len(swarm.tasks) == 1 + (80 if together else 3 * 80)


async def test_a_crash_before_the_commit_leaves_nothing_and_one_after_it_everything(
    hostile: Hostile, client: Mageflow
) -> None:
    there = await client.sign("note", n=0)
    kernel = client._kernel  # pyright: ignore[reportPrivateUsage]
    kernel.tx._patience = 0.0  # pyright: ignore[reportPrivateUsage]

    async def block() -> None:
        async with client.transaction():
            there.kwargs["n"] = 1
            await (await client.sign("note")).start()

    hostile.refusing = True
    with pytest.raises(StoreUnavailableError):
        await block()
    await there.refresh()
    assert (dict(there.kwargs), await records(client)) == ({"n": 0}, 1)
    hostile.refusing, hostile.lost = False, 1
    with pytest.raises(StoreUnavailableError):
        await block()
    await there.refresh()
    assert (dict(there.kwargs), await records(client)) == ({"n": 1}, 3)
