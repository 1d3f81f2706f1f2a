"""What waits together is committed together, and what goes wrong in a batch stays with the one who brought it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mageflow.ports.store import Filter
from mageflow.stores.sqlite import SqliteStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor
from tests.stores.batching import Batching, call_while_it_closes


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "mageflow.db", clock=ManualClock())
    yield store
    await store.aclose()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The transactions that were begun."""
    begun: list[str] = []

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("BEGIN"):
                begun.append(sql)
            return super().execute(sql, parameters)

    connect = sqlite3.connect

    def counting(path: str, **settings: Any) -> sqlite3.Connection:
        return connect(path, factory=Connection, **settings)

    monkeypatch.setattr(sqlite3, "connect", counting)
    return begun


class TestBatching(Batching):
    """What holds of all stores that batch."""


async def test_an_end_and_the_claim_of_its_callback_are_one_commit(commits: list[str], store: SqliteStore) -> None:
    """The callback's run is running before its row was ever in the file."""
    actor = Actor(store)
    await actor.sign("sig_next")
    await actor.sign(on_success=("sig_next",))
    await actor.start()
    (run,) = await actor.claimed()
    commits.clear()
    ended, (callback,) = await asyncio.gather(actor.end(run), actor.claimed())
    assert ended.accepted
    assert (callback.cause, callback.attempt) == (run.key, 1)
    assert len(commits) == 1
    assert (await actor.run(callback.key)).status == "running"
    assert await store.strays(["r"], [], 10) == []


async def test_a_pull_in_front_of_an_end_waits_for_it(store: SqliteStore) -> None:
    """Pulls come last in their batch, wherever they stood."""
    actor = Actor(store)
    await actor.sign("sig_next")
    await actor.sign(on_success=("sig_next",))
    await actor.start()
    (run,) = await actor.claimed()
    (callback,), _ = await asyncio.gather(actor.claimed(), actor.end(run))
    assert callback.cause == run.key


async def test_what_waits_is_one_commit(commits: list[str], store: SqliteStore) -> None:
    """A hundred starts and ten pulls are not a hundred and ten transactions."""
    actor = Actor(store)
    await actor.sign()
    commits.clear()
    answers = await asyncio.gather(*(actor.start() for _ in range(100)), *(actor.claimed(10) for _ in range(10)))
    assert sorted(len(runs) for runs in answers[100:] if isinstance(runs, list)) == [10] * 10
    assert len(commits) <= 3


async def test_rows_put_in_a_batch_are_claimed_in_order(store: SqliteStore) -> None:
    """Among those that were in the file before."""
    actor = Actor(store)
    await actor.sign()
    await actor.start(run="run_old")
    await actor.start(run="run_old_high", priority=2)
    *_, runs = await asyncio.gather(
        actor.start(run="run_new"),
        actor.start(run="run_new_high", priority=2),
        actor.start(run="run_highest", priority=3),
        actor.start(run="run_late", delay=5.0),
        actor.claimed(),
    )
    assert isinstance(runs, list)
    assert [run.key for run in runs] == ["run_highest", "run_old_high", "run_new_high", "run_old", "run_new"]


async def test_a_call_that_meets_the_closing_is_answered(store: SqliteStore) -> None:
    """Loops in other threads that use the store while it is closed are served, or told to ask again."""
    served = await call_while_it_closes(store)
    assert await store.count(Filter(kind="task")) == 1 + served
