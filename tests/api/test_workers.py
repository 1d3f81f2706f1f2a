"""Workers in a program: draining, leaving, several of them, and what they make of bodies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import mageflow
from mageflow import (
    ConfigurationError,
    Mageflow,
    MageflowConfig,
    MageflowError,
    RunFailedError,
    RunStatus,
    UnknownTaskWarning,
    current_run,
)
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock
from tests.api.conftest import Sign, until_status, work


async def test_leaving_a_worker_normally_runs_all_that_is_due(mage: Mageflow) -> None:
    ran: list[int] = []

    @mage.task
    async def count(msg: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        ran.append(msg["n"])

    signature = await mage.sign(count, success_callbacks=[await mage.sign(count, n=-1)])
    async with mage.worker(concurrency=3):
        for n in range(50):
            await signature.start({"n": n})
    assert len(ran) == 100


async def test_leaving_a_worker_by_an_exception_hands_back_what_runs(
    mage: Mageflow, sign: Sign, caplog: pytest.LogCaptureFixture
) -> None:
    entered = asyncio.Event()
    attempts: list[int] = []

    @mage.task
    async def endless() -> str:
        attempts.append(current_run().attempt)
        if len(attempts) == 1:
            entered.set()
            await asyncio.Event().wait()
        return "second time"

    handle = await (await sign(endless)).start()
    queued = await (await sign(endless)).start()

    async def program() -> None:
        async with mage.worker(grace=0.0, concurrency=1):
            await entered.wait()
            raise RuntimeError("the program fails")

    with pytest.raises(RuntimeError, match="the program fails"):
        await program()
    assert await handle.status() is await queued.status() is RunStatus.QUEUED
    await work(mage)
    assert await handle.result() == "second time"
    assert (await handle.info()).failure is None
    assert attempts[:1] == [1]


async def test_no_more_bodies_run_at_once_than_the_concurrency(mage: Mageflow) -> None:
    now, most = 0, 0

    @mage.task
    async def crowd() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1

    signature = await mage.sign(crowd)
    for _ in range(40):
        await signature.start()
    async with mage.worker(concurrency=4):
        pass
    assert most == 4


async def test_sync_bodies_run_in_threads_beside_each_other(mage: Mageflow, sign: Sign) -> None:
    import threading

    both = threading.Barrier(2, timeout=10)
    loop_thread = threading.get_ident()

    @mage.task
    def meet() -> bool:
        both.wait()
        assert current_run().task_name == "meet"
        return threading.get_ident() != loop_thread

    first, second = await (await sign(meet)).start(), await (await sign(meet)).start()
    await work(mage)
    assert await first.result() is await second.result() is True


async def test_a_body_sees_its_run_and_uses_its_own_client(mage: Mageflow, sign: Sign) -> None:
    seen: list[Any] = []

    @mage.task
    async def leaf(msg: dict[str, Any]) -> None:
        seen.append(msg)

    @mage.task
    async def parent(msg: dict[str, Any], ctx: Any, signature: Any) -> str:
        run = current_run()
        assert ctx is run
        assert (run.attempt, run.task_name, run.swarm, run.cancelled) == (1, "parent", None, False)
        assert run.signature == signature.key
        await (await mageflow.sign("leaf", of=run.id)).start()
        return str(run.id)

    other = Mageflow(store="memory://")
    mageflow.set_default(other)
    handle = await (await mage.sign(parent)).start()
    await work(mage)
    assert await handle.result() == handle.id
    assert seen == [{"of": handle.id}]


async def test_a_run_of_a_task_that_no_worker_knows_waits_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "deploy.db"
    client, old, new = (Mageflow(store=path, config=MageflowConfig(lease=0.4)) for _ in range(3))

    @old.task
    async def known() -> None: ...

    @new.task
    async def brand_new() -> str:
        return "found"

    with pytest.warns(UnknownTaskWarning):
        handle = await (await client.sign("brand_new")).start()
    async with client, old, new:
        async with old.worker(drain=False):
            await until_status(handle, RunStatus.UNROUTABLE)
        assert "no live worker knows the task 'brand_new'" in caplog.text
        async with new.worker():
            assert await handle.result(timeout=10) == "found"


async def test_a_run_whose_task_stays_unknown_fails_and_its_error_callbacks_fire() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    client = Mageflow(store=store)
    worker = Mageflow(store=store, config=MageflowConfig(lease=0.04, unknown_task_after=3600))
    told: list[Any] = []

    @worker.task
    async def tell(msg: dict[str, Any]) -> None:
        told.append(msg)

    with pytest.warns(UnknownTaskWarning):
        signature = await client.sign("never-there", x=1, error_callbacks=["tell"])
    handle = await signature.start({"y": 2})
    async with worker.worker():
        await until_status(handle, RunStatus.UNROUTABLE)
        clock.advance(3601)
        with pytest.raises(RunFailedError, match="no worker knew the task 'never-there'"):
            await handle.result()
        await handle.settled()
    assert told == [{"y": 2, "x": 1}]


async def test_the_runs_of_a_dead_worker_are_taken_back(mage: Mageflow, sign: Sign) -> None:
    entered = asyncio.Event()
    attempts: list[int] = []

    async def survive() -> str:
        attempts.append(current_run().attempt)
        if len(attempts) == 1:
            entered.set()
            await asyncio.Event().wait()
        return "alive"

    quick = MageflowConfig(lease=0.2)
    doomed = Mageflow(store=mage.store, config=quick)
    other = Mageflow(store=mage.store, config=quick)
    for client in (doomed, other):
        client.task(survive)
    handle = await (await doomed.sign("survive")).start()
    context = doomed.worker()
    await context.__aenter__()
    await entered.wait()
    for task in asyncio.all_tasks():  # as a crash would: nothing is handed back, and no beat comes any more
        if task.get_name().startswith("mageflow-"):
            task.cancel()
    async with other.worker():
        assert await handle.result(timeout=20) == "alive"
    assert attempts == [1, 2]
    assert (await handle.info()).failure is None


async def test_a_body_that_does_not_leave_with_its_worker_has_kept_its_message(mage: Mageflow, sign: Sign) -> None:
    """Whoever executes the run next sees what this body saw, whatever was bound since."""
    entered, over = asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    @mage.task
    async def stubborn(msg: dict[str, Any]) -> None:
        seen.append(msg)
        entered.set()
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()

    signature = await sign(stubborn, x="first")
    handle = await signature.start({"y": 1})

    async def program() -> None:
        async with mage.worker(grace=0.0):
            await entered.wait()
            raise RuntimeError("the program fails")

    with pytest.raises(RuntimeError, match="the program fails"):
        await program()
    assert await handle.status() is RunStatus.QUEUED
    await signature.kwargs.aupdate(x="second")
    over.set()
    await work(mage)
    await handle.result(timeout=10)
    assert seen == [{"x": "first", "y": 1}] * 2


async def test_a_worker_is_entered_once_and_its_concurrency_is_a_count(mage: Mageflow) -> None:
    with pytest.raises(ConfigurationError, match="concurrency=0"):
        mage.worker(concurrency=0)
    worker = mage.worker("reports")
    with pytest.raises(MageflowError, match="not running"):
        _ = worker.key
    async with worker:
        assert worker.key.startswith("wrk_")
        with pytest.raises(MageflowError, match="running already"):
            await worker.__aenter__()


async def test_a_body_that_raises_what_it_should_not_still_leaves_a_failed_run(
    mage: Mageflow, sign: Sign, caplog: pytest.LogCaptureFixture
) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @mage.task
    async def leave() -> None:
        raise SystemExit(3)

    @mage.task
    def leave_thread() -> None:
        raise SystemExit(4)

    @mage.task
    async def cancel_oneself() -> None:
        raise asyncio.CancelledError

    @mage.task
    async def unprintable() -> None:
        raise Unprintable

    handles = [await (await sign(task)).start() for task in (leave, leave_thread, cancel_oneself, unprintable)]
    with caplog.at_level(logging.CRITICAL):
        await work(mage)
    failures = [(await handle.info()).failure for handle in handles]
    assert [failure.type for failure in failures if failure is not None] == [
        "SystemExit",
        "SystemExit",
        "CancelledError",
        "Unprintable",
    ]


async def test_a_task_that_is_registered_while_the_worker_runs_is_executed(mage: Mageflow) -> None:
    @mage.task
    async def early() -> None: ...

    async with mage.worker():
        await (await mage.sign(early)).run()

        @mage.task
        async def late() -> str:
            return "late"

        assert await (await mage.sign(late)).run() == "late"


async def test_the_runs_of_a_process_that_is_gone_are_taken_back_at_once(tmp_path: Path) -> None:
    program = """
import asyncio, os
from mageflow import Mageflow
mage = Mageflow(store="crash.db")

@mage.task
async def crash_once() -> str:
    os._exit(9)

async def main() -> None:
    await (await mage.sign(crash_once)).start()
    async with mage.worker():
        pass

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=tmp_path)
    assert await process.wait() == 9
    mage = Mageflow(store=tmp_path / "crash.db", config=MageflowConfig(lease=3600))

    @mage.task
    async def crash_once() -> str:
        return "survived"

    async with mage:
        (handle,) = await mage.find_runs()
        assert handle.seen.status is RunStatus.RUNNING
        async with mage.worker():
            assert await handle.result(timeout=20) == "survived"
        assert (await handle.info()).attempts == 2


async def test_a_plain_wrapper_around_an_async_function_is_a_body_too(mage: Mageflow, sign: Sign) -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return "awaited"

    def wrapper() -> Any:
        return inner()

    mage.task(wrapper)
    async with mage.worker():
        assert await (await sign("wrapper")).run() == "awaited"
