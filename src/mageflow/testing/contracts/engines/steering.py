"""Cancelling, suspending, interrupting, resuming, trying again, and leaving."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mageflow import Mageflow, RunCancelledError, RunFailedError, RunOptions, RunStatus, current_run
from mageflow.testing.contracts.engines.acting import PATIENCE, Begun, EngineTests, until_status

__all__ = ["TestsOfSteering"]

Message = dict[str, Any]


class TestsOfSteering(EngineTests):
    """Runs can be stopped, held and let go on every engine."""

    async def test_a_cancel_reaches_a_body_that_runs(self, mage: Mageflow) -> None:
        begun, stopped = Begun(), asyncio.Event()
        told: list[str] = []

        @mage.task
        async def forever() -> None:
            begun.say()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        @mage.task
        async def done(msg: Message) -> None:
            told.append(msg["results"]["status"])

        async with mage.worker():
            handle = await (await mage.sign(forever, done_callbacks=[done])).start()
            await begun.heard()
            await handle.cancel()
            with pytest.raises(RunCancelledError):
                await handle.result(timeout=PATIENCE)
            assert stopped.is_set()
        assert told == ["cancelled"]

    async def test_a_cancelled_run_that_waits_never_begins(self, mage: Mageflow) -> None:
        begun: list[int] = []

        @mage.task
        async def never() -> None:
            begun.append(1)

        handle = await (await mage.sign(never)).start()
        await handle.cancel()
        async with mage.worker():
            pass
        assert await handle.status() is RunStatus.CANCELLED
        assert not begun

    async def test_a_suspended_run_waits_until_it_is_resumed(self, mage: Mageflow) -> None:
        @mage.task
        async def held() -> int:
            return 1

        handle = await (await mage.sign(held)).start()
        await handle.suspend()
        async with mage.worker():
            pass
        assert await handle.status() is RunStatus.SUSPENDED
        async with mage.worker():
            await handle.resume()
            assert await handle.result(timeout=PATIENCE) == 1

    async def test_an_interrupted_body_stops_and_runs_again_when_resumed(self, mage: Mageflow) -> None:
        begun, bodies = Begun(), 0

        @mage.task
        async def long() -> int:
            nonlocal bodies
            bodies += 1
            begun.say()
            if current_run().attempt == 1:
                await asyncio.Event().wait()
            return current_run().attempt

        async with mage.worker():
            handle = await (await mage.sign(long)).start()
            await begun.heard()
            await handle.interrupt()
            await until_status(handle, RunStatus.INTERRUPTED)
            await handle.resume()
            assert await handle.result(timeout=PATIENCE) == 2
        assert bodies == 2

    async def test_a_chain_that_is_suspended_stops_before_its_next_step(self, mage: Mageflow) -> None:
        begun, gate = Begun(), asyncio.Event()
        steps: list[int] = []

        @mage.task
        async def first() -> None:
            begun.say()
            await gate.wait()
            steps.append(1)

        @mage.task
        async def second() -> None:
            steps.append(2)

        async with mage.worker():
            handle = await (await mage.chain([first, second])).start()
            await begun.heard()
            await handle.suspend()
            gate.set()
        assert steps == [1]
        async with mage.worker():
            await handle.resume()
            await handle.result(timeout=PATIENCE)
        assert steps == [1, 2]

    async def test_a_body_that_takes_too_long_fails(self, mage: Mageflow) -> None:
        @mage.task(execution_timeout=0.1)
        async def slow() -> None:
            await asyncio.Event().wait()

        async with mage.worker():
            with pytest.raises(RunFailedError, match="execution_timeout"):
                await (await mage.sign(slow)).run()

    async def test_a_failed_run_can_be_tried_again(self, mage: Mageflow) -> None:
        works = False

        @mage.task
        async def moody() -> str:
            if not works:
                raise ValueError("not now")
            return "fine"

        async with mage.worker():
            handle = await (await mage.sign(moody)).start()
            with pytest.raises(RunFailedError):
                await handle.result(timeout=PATIENCE)
            works = True
            assert await (await handle.retry()).result(timeout=PATIENCE) == "fine"

    async def test_leaving_a_worker_runs_all_that_is_due_and_what_that_calls(self, mage: Mageflow) -> None:
        ended: list[int] = []

        @mage.task
        async def countdown(msg: Message) -> int:
            left = int(msg["results"] if "results" in msg else msg["n"])
            ended.append(left)
            return left - 1

        signature = await mage.sign(countdown)
        for _ in range(4):
            signature = await mage.sign(countdown, success_callbacks=[signature])
        async with mage.worker():
            await signature.start({"n": 9})
            later = await (await mage.sign(countdown, run_options=RunOptions(delay=3600.0))).start()
        assert ended == [9, 8, 7, 6, 5]
        assert await later.status() is RunStatus.SCHEDULED

    async def test_leaving_by_an_exception_hands_back_what_runs(self, mage: Mageflow) -> None:
        @mage.task
        async def long() -> int:
            if current_run().attempt == 1:
                await asyncio.Event().wait()
            return current_run().attempt

        handle = await (await mage.sign(long)).start()
        with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
            async with mage.worker(grace=0.0):
                await until_status(handle, RunStatus.RUNNING)
                raise KeyError
        assert await handle.status() is RunStatus.QUEUED
        async with mage.worker():
            assert await handle.result(timeout=PATIENCE) == 2
