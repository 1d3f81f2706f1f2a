"""Waiting for runs, following their events and listing them."""

from __future__ import annotations

import asyncio

import pytest

import mageflow
from mageflow import (
    Mageflow,
    RunInfo,
    RunStatus,
    current_run,
)
from tests.api.conftest import Sign


async def test_settled_waits_for_all_that_a_run_caused(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def step() -> None:
        await asyncio.sleep(0)

    signature = await sign(step)
    for _ in range(4):
        signature = await sign(step, success_callbacks=[signature, signature])
    async with mage.worker():
        handle = await signature.start()
        await handle.settled(timeout=20)
        assert {run.seen.status for run in await mage.find_runs(limit=500)} == {RunStatus.SUCCEEDED}
        assert len(await mage.find_runs(limit=500)) == 31
        (one, *_) = await mage.find_runs()
        await one.settled(timeout=20)


async def test_the_events_of_a_run_end_with_its_end(mage: Mageflow, sign: Sign) -> None:
    looked = asyncio.Event()

    @mage.task(retries=1)
    async def flaky() -> int:
        await looked.wait()
        if current_run().attempt == 1:
            raise RuntimeError
        return 5

    handle = await (await sign(flaky)).start()
    seen: list[RunInfo] = []
    async with mage.worker():
        async for info in handle.events():
            seen.append(info)
            looked.set()
    assert seen[0].status in (RunStatus.QUEUED, RunStatus.RUNNING)
    assert (seen[-1].status, seen[-1].result, seen[-1].attempts) == (RunStatus.SUCCEEDED, 5, 2)
    assert [info.status async for info in handle.events()] == [RunStatus.SUCCEEDED]


async def test_waiting_for_a_result_ends_with_the_timeout(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop() -> None: ...

    handle = await (await sign(noop)).start()
    for wait in (handle.result, handle.outcome, handle.settled):
        with pytest.raises(TimeoutError):
            await wait(timeout=0.02)


async def test_runs_are_listed_newest_first_in_pages(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def one() -> None: ...

    @mage.task
    async def two() -> None: ...

    first = [await (await sign(one)).start() for _ in range(3)]
    second = [await (await sign(two)).start() for _ in range(2)]
    page = await mage.find_runs(limit=3)
    rest = await mage.find_runs(limit=3, cursor=page.cursor)
    assert {run.id for run in [*page, *rest]} == {run.id for run in [*first, *second]}
    assert (len(page), len(rest), rest.cursor) == (3, 2, None)
    assert {run.id for run in await mage.find_runs(task_name="one")} == {run.id for run in first}
    assert await mage.find_runs(status="running") == []
    with pytest.raises(mageflow.OptionError, match=r"'runing'.*did you mean 'running'"):
        await mage.find_runs(status="runing")
    with pytest.raises(mageflow.OptionError, match="limit=0"):
        await mage.find_runs(limit=0)
    loaded = await mage.load_run(first[0].id)
    assert loaded is not None
    assert loaded.id == loaded.workflow_run_id == first[0].id
    assert await mageflow.load_run(first[0].id) is not None
    assert await mage.load_run("run_none") is None
