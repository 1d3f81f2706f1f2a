"""What holds of every store that commits together what waits together."""

from __future__ import annotations

import asyncio
import threading

from mageflow.core.records import TaskRecord, replace
from mageflow.errors import StoreConflictError, StoreUnavailableError
from mageflow.ports.store import Store
from mageflow.testing.contracts.acting import put, writing

CALLS = 200


class Batching:
    """Tests of a fixture `store`."""

    async def test_a_batch_that_was_decided_on_what_is_no_more_is_decided_again(self, store: Store) -> None:
        """Put-if-absent beside a record that is there: who must not have it fails, its neighbours are committed."""
        task = TaskRecord(key="a", created_at=0.0, route="r")
        await put(store, task)
        outcomes = await asyncio.gather(
            store.transact([], writing(task), token="x"),
            *(put(store, replace(task, key=f"k{n}")) for n in range(5)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [StoreConflictError, *[type(None)] * 5]

    async def test_a_cancelled_caller_holds_nobody_up(self, store: Store) -> None:
        """Its neighbours are answered."""
        records = [TaskRecord(key=f"k{n}", created_at=0.0, route="r") for n in range(10)]
        calls = [asyncio.ensure_future(put(store, record)) for record in records]
        await asyncio.sleep(0)
        calls[3].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [3]


async def call_while_it_closes(store: Store) -> int:
    """Use a store in another thread's loop while it is closed again and again; give how many calls were served.

    All of them are answered: served, or told to ask again.
    """
    task = TaskRecord(key="a", created_at=0.0, route="r")
    await put(store, task)
    outcomes: list[BaseException | None] = []

    async def calls() -> None:
        for n in range(CALLS):
            try:
                await put(store, replace(task, key=f"k{n}"))
                outcomes.append(None)
            except StoreUnavailableError as error:
                outcomes.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(calls()))
    thread.start()
    for _ in range(20):
        await store.aclose()
    await asyncio.to_thread(thread.join)
    assert len(outcomes) == CALLS
    return outcomes.count(None)
