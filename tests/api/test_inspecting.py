"""Looking at a store as a whole: workers, figures, the purge, the beginnings of keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from mageflow import InvalidMessageError, Mageflow, MageflowConfig, RunOptions, RunStatus, TTLConfig
from mageflow.core.events import Announce
from mageflow.core.records import WorkerRecord
from mageflow.ports.clock import SystemEntropy
from mageflow.runtime.process import this_machine
from mageflow.runtime.transact import Transactor
from mageflow.stores.memory import MemoryStore
from mageflow.stores.sqlite import SqliteStore
from mageflow.testing.clock import ManualClock
from tests.api.conftest import until_status, work


class Sum(BaseModel):
    x: int


async def test_workers_are_listed_with_what_they_know_and_hold(mage: Mageflow) -> None:
    go_on = asyncio.Event()

    @mage.task
    async def hold() -> None:
        await go_on.wait()

    assert await mage.workers() == []
    run = await (await mage.sign(hold)).start()
    async with mage.worker("press") as worker:
        await until_status(run, RunStatus.RUNNING)
        (seen,) = await mage.workers()
        (watched,) = await mage.workers(watch=10)
        assert seen.key == watched.key == worker.key
        go_on.set()
    assert (seen.name, seen.pid, seen.tasks, seen.running, seen.gone) == ("press", os.getpid(), ["hold"], 1, False)
    assert (seen.beats, watched.beats) == (None, True)
    assert "/" not in seen.host
    assert await mage.workers() == []


@pytest.mark.skipif(os.name != "posix", reason="only there can be told that a process is gone")
async def test_a_worker_whose_process_is_no_more_is_seen_to_be_gone(mage: Mageflow) -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    left = WorkerRecord(key="wrk_left", created_at=0.0, name="left", host=this_machine(), pid=process.pid)
    await Transactor(mage.store, SystemEntropy()).commit(type(None), [left.key], Announce(records=(left,), token="t"))
    (seen,) = await mage.workers(watch=10)
    assert (seen.gone, seen.beats) == (True, False), "it is not watched in vain"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def timed(kind_of_store: str, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Mageflow]:
    """A client on a store whose time the test turns."""
    store = MemoryStore(clock) if kind_of_store == "memory" else SqliteStore(tmp_path / "flows.db", clock=clock)
    async with Mageflow(store=store) as mage:
        yield mage


async def test_the_overview_counts_runs_as_people_see_them(timed: Mageflow, clock: ManualClock) -> None:
    mage = timed

    @mage.task
    async def step(msg: dict[str, int]) -> None:
        if msg:
            raise ValueError

    signature = await mage.sign(step)
    await signature.start()
    await signature.start({"x": 1})
    await work(mage)
    await signature.start()
    soon = await signature.start(options=RunOptions(delay=60))
    await signature.start(options=RunOptions(delay=3600))
    assert await soon.status() is RunStatus.SCHEDULED
    clock.advance(60)
    assert await soon.status() is RunStatus.QUEUED
    seen = await mage.overview()
    counts = {status.value: count for status, count in seen.runs.items() if count}
    assert counts == {"scheduled": 1, "queued": 2, "succeeded": 1, "failed": 1}
    assert set(seen.runs) == set(RunStatus)
    assert (seen.engine, seen.location, seen.unknown_tasks) == ("local", mage.store.location, {})
    assert seen.answered_in > 0
    assert seen.store["store"] in ("memory", "sqlite")


async def test_purge_removes_what_has_expired_and_says_how_much(tmp_path: Path) -> None:
    config = MageflowConfig(ttl=TTLConfig(active_ttl=3600, ttl_when_sign_done=0.001))
    clock = ManualClock()
    async with Mageflow(store=SqliteStore(tmp_path / "flows.db", clock=clock), config=config) as mage:

        @mage.task
        async def step() -> None:
            return

        signature = await mage.sign(step)
        runs = [await signature.start() for _ in range(3)]
        waits = await signature.start(options=RunOptions(delay=3600))
        async with mage.worker():
            for run in runs:
                await run.settled(timeout=10)
        clock.advance(0.01)
        assert await mage.purge() == 3
        assert await mage.purge() == 0
        assert await mage.load_run(waits.id) is not None
        assert await mage.load_signature(signature.key) is not None


async def test_keys_are_found_by_their_beginning(mage: Mageflow) -> None:
    @mage.task
    async def step() -> None:
        return

    signature = await mage.sign(step)
    runs = [await signature.start() for _ in range(3)]
    fixed = await signature.start(options=RunOptions(idempotency_key="k"))
    for run in (*runs, fixed):
        assert await mage.find_keys(run.id) == [run.id]
        assert await mage.find_keys(run.id.removeprefix("run_")) == [run.id]
    assert await mage.find_keys(signature.key[:-1]) == [signature.key]
    assert set(await mage.find_keys("run_")) == {run.id for run in (*runs, fixed)}
    assert len(await mage.find_keys("run_", limit=2)) == 2
    assert set(await mage.find_keys("")) == {signature.key, fixed.id, *(run.id for run in runs)}
    assert await mage.find_keys("run_zzz") == await mage.find_keys("run_0zzz") == []


# Starting by name


async def test_a_task_that_is_started_once_leaves_no_signature_for_a_day(mage: Mageflow) -> None:
    """It is kept with its run: while that is live, and as long as a finished run is."""

    @mage.task(retries=2)
    async def echo(msg: dict[str, int]) -> dict[str, int]:
        return msg

    before = await mage.store.now()
    run = await mage.start_once("echo", {"x": 1})
    record = (await mage.store.load((run.seen.signature,)))[run.seen.signature]
    assert record is not None
    assert record.expires_at is not None
    assert record.expires_at - before <= 3 * 3600 + 60
    assert run.seen.retries == 2
    async with mage.worker():
        assert await run.result(timeout=10) == {"x": 1}
    kept = await (await mage.sign(echo)).start()
    long = (await mage.store.load((kept.seen.signature,)))[kept.seen.signature]
    assert long is not None
    assert long.expires_at is not None
    assert long.expires_at - before > 23 * 3600


async def test_a_message_can_be_checked_before_anything_is_started(mage: Mageflow) -> None:
    @mage.task
    async def add(msg: Sum) -> int:
        return msg.x

    mage.check_message("add", {"x": 1})
    mage.check_message("of another process", {"x": "anything"})
    with pytest.raises(InvalidMessageError) as caught:
        mage.check_message("add", {"x": "one"})
    assert list(caught.value.fields) == ["x"]


async def test_the_known_tasks_are_those_of_all_processes(tmp_path: Path) -> None:
    async with Mageflow(store=tmp_path / "flows.db") as mage, Mageflow(store=tmp_path / "flows.db") as other:

        @other.task
        async def theirs() -> None:
            return

        @mage.task
        async def ours() -> None:
            return

        await other.sign(theirs)
        assert await mage.known_tasks() == ["ours", "theirs"]
