"""Suspend, interrupt, resume, cancel and retry, on runs and on signatures."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mageflow import Mageflow, MageflowError, RunCancelledError, RunOptions, RunStatus, current_run
from tests.api.conftest import Sign, until_status, work


class Gate:
    """A body that says when it runs, and waits until it may go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.count = 0

    async def pass_through(self) -> int:
        self.count += 1
        self.entered.set()
        await self.open.wait()
        return self.count


@pytest.fixture
def gate(mage: Mageflow) -> Gate:
    gate = Gate()

    @mage.task
    async def gated() -> int:
        return await gate.pass_through()

    return gate


async def test_a_suspended_run_is_held_until_it_is_resumed(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def work_hard() -> str:
        return "done"

    handle = await (await sign(work_hard)).start()
    for _ in range(2):
        await handle.suspend()
        assert await handle.status() is RunStatus.SUSPENDED
    await work(mage)
    assert await handle.status() is RunStatus.SUSPENDED
    for _ in range(2):
        await handle.resume()
    assert await handle.status() is RunStatus.QUEUED
    await work(mage)
    assert await handle.result() == "done"


async def test_a_run_that_is_suspended_while_it_runs_ends_and_its_callbacks_are_held(
    mage: Mageflow, sign: Sign, gate: Gate
) -> None:
    ran: list[str] = []

    @mage.task
    async def after() -> None:
        ran.append("after")

    handle = await (await sign("gated", success_callbacks=[after])).start()
    async with mage.worker():
        await gate.entered.wait()
        await handle.suspend()
        gate.open.set()
        assert await handle.result() == 1
        (held,) = await mage.find_runs(task_name="after")
        assert held.seen.status is RunStatus.SUSPENDED
        await handle.resume()
        await handle.settled(timeout=10)
    assert ran == ["after"]


async def test_an_interrupted_body_is_stopped_and_runs_again_from_its_beginning(
    mage: Mageflow, sign: Sign, gate: Gate
) -> None:
    handle = await (await sign("gated")).start()
    async with mage.worker():
        await gate.entered.wait()
        await handle.interrupt()
        await until_status(handle, RunStatus.INTERRUPTED)
        await handle.interrupt()
        await handle.suspend()
        assert await handle.status() is RunStatus.INTERRUPTED
        gate.open.set()
        await handle.resume()
        assert await handle.result(timeout=10) == 2
    assert (await handle.info()).attempts == 2


async def test_a_cancelled_body_is_stopped_and_neither_callback_fires(mage: Mageflow, sign: Sign, gate: Gate) -> None:
    ran: list[str] = []

    @mage.task
    async def callback(msg: dict[str, Any]) -> None:
        ran.append(msg["name"])

    good, bad, done = [await sign(callback, name=name) for name in ("good", "bad", "done")]
    signature = await sign(
        "gated",
        success_callbacks=[good],
        error_callbacks=[bad],
        done_callbacks=[done],
        run_options=RunOptions(retries=3),
    )
    handle = await signature.start()
    async with mage.worker():
        await gate.entered.wait()
        for _ in range(2):
            await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=10)
    assert ran == ["done"]
    assert (await handle.outcome()).status is RunStatus.CANCELLED


async def test_a_sync_body_sees_that_it_is_cancelled(mage: Mageflow, sign: Sign) -> None:
    entered = threading.Event()

    @mage.task
    def patient() -> None:
        entered.set()
        while not current_run().cancelled:
            threading.Event().wait(0.001)

    handle = await (await sign(patient)).start()
    async with mage.worker():
        await asyncio.to_thread(entered.wait, 10)
        await handle.cancel()
        assert (await handle.outcome(timeout=10)).status is RunStatus.CANCELLED


async def test_cancelling_an_ended_run_cancels_what_it_caused(mage: Mageflow, sign: Sign, gate: Gate) -> None:
    ran: list[str] = []

    @mage.task
    async def first() -> None: ...

    @mage.task
    async def last() -> None:
        ran.append("last")

    slow = await sign("gated", success_callbacks=[last])
    later = await sign(last, run_options=RunOptions(delay=3600))
    handle = await (await sign(first, success_callbacks=[slow, later])).start()
    async with mage.worker():
        await gate.entered.wait()
        await handle.cancel()
        await handle.settled(timeout=10)
    assert ran == []
    statuses = {run.task_name: run.seen.status for run in await mage.find_runs()}
    assert statuses == {
        "first": RunStatus.SUCCEEDED,
        "gated": RunStatus.CANCELLED,
        "last": RunStatus.CANCELLED,
    }


async def test_cancelling_a_run_in_the_middle_reaches_all_that_follows_from_it(
    mage: Mageflow, sign: Sign, gate: Gate
) -> None:
    ran: list[str] = []

    @mage.task
    async def step(msg: dict[str, Any]) -> None:
        ran.append(msg["name"])

    last = await sign(step, name="last")
    gated = await sign("gated", success_callbacks=[last])
    third = await sign(step, name="third", success_callbacks=[gated])
    second = await sign(step, name="second", success_callbacks=[third, await sign(step, name="beside")])
    root = await (await sign(step, name="first", success_callbacks=[second])).start()
    async with mage.worker():
        await gate.entered.wait()
        (middle,) = await root.caused()
        await middle.cancel()
        await root.settled(timeout=10)
    assert sorted(ran) == ["beside", "first", "second", "third"]
    (stopped,) = await mage.find_runs(task_name="gated")
    assert stopped.seen.status is RunStatus.CANCELLED
    assert await root.status() is await middle.status() is RunStatus.SUCCEEDED


async def test_suspending_an_ended_run_holds_what_follows_and_resuming_lets_it_go(mage: Mageflow, sign: Sign) -> None:
    ran: list[str] = []

    @mage.task
    async def first() -> None: ...

    @mage.task
    async def second() -> None:
        ran.append("second")

    @mage.task
    async def third() -> None:
        ran.append("third")

    delayed = await sign(second, success_callbacks=[third], run_options=RunOptions(delay=3600))
    handle = await (await sign(first, success_callbacks=[delayed])).start()
    await work(mage)
    (waiting,) = await mage.find_runs(task_name="second")
    assert waiting.seen.status is RunStatus.SCHEDULED
    async with mage.worker():
        await handle.suspend()
        await until_status(waiting, RunStatus.SUSPENDED)
        await handle.resume()
        await until_status(waiting, RunStatus.SCHEDULED)
        await waiting.cancel()
        await handle.settled(timeout=10)
    assert ran == []


async def test_a_signature_holds_all_of_its_runs_and_those_to_come(mage: Mageflow, sign: Sign) -> None:
    ran: list[int] = []

    @mage.task
    async def count() -> None:
        ran.append(1)

    signature = await sign(count)
    before = [await signature.start() for _ in range(3)]
    assert signature.task_status == "active"
    await signature.suspend()
    assert signature.task_status == "suspended"
    after = await signature.start()
    await work(mage)
    assert ran == []
    assert {await handle.status() for handle in [*before, after]} == {RunStatus.SUSPENDED}
    await signature.resume()
    assert signature.task_status == "active"
    await work(mage)
    assert len(ran) == 4


async def test_a_signature_cancels_all_of_its_runs_and_can_be_started_again(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop() -> str:
        return "again"

    signature = await sign(noop)
    handles = [await signature.start() for _ in range(3)]
    await signature.cancel()
    assert {await handle.status() for handle in handles} == {RunStatus.CANCELLED}
    async with mage.worker():
        assert await signature.run() == "again"


async def test_an_ended_run_is_tried_again_with_the_message_it_received(mage: Mageflow, sign: Sign) -> None:
    seen: list[dict[str, Any]] = []
    repaired: list[str] = []

    @mage.task
    async def fragile(msg: dict[str, Any]) -> str:
        seen.append(msg)
        if not repaired:
            raise RuntimeError("broken")
        return "whole"

    after: list[Any] = []

    @mage.task
    async def success(msg: dict[str, Any]) -> None:
        after.append(msg["results"])

    signature = await sign(fragile, bound=1, success_callbacks=[success])
    handle = await signature.start({"sent": 2})
    with pytest.raises(MageflowError, match="only a run that has ended"):
        await handle.retry()
    await work(mage)
    repaired.append("yes")
    await signature.kwargs.aupdate(bound="changed since")
    again = await handle.retry()
    assert again.id != handle.id
    assert (await handle.retry()).id == again.id
    await work(mage)
    assert await again.result() == "whole"
    assert await handle.status() is RunStatus.FAILED
    assert seen == [{"bound": 1, "sent": 2}] * 2
    assert after == ["whole"]
