"""Handing rows to an engine that takes its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from mageflow import Mageflow
from mageflow.ports.engine import Capabilities, Engine, Handler, Refused, Submission


class SlowEngine(Engine):
    """Answers a submit when it is let."""

    name = "slow"
    capabilities = Capabilities(pulls=False, priorities=False, delays=False, hears_cancel=False)

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.answer = asyncio.Event()
        self.raises: Exception | None = None

    def route(self, task: str) -> str:
        return self.name

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        self.calls.append([each.row.run for each in submissions])
        if self.raises is not None:
            raise self.raises
        await self.answer.wait()
        return ()

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        await asyncio.get_running_loop().create_future()

    def has(self, run: str) -> bool:
        return any(run in call for call in self.calls)


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


async def until_has(engine: SlowEngine, run: str) -> None:
    async with asyncio.timeout(20):
        while not engine.has(run):  # noqa: ASYNC110 - what the relay does is not announced
            await asyncio.sleep(0.01)


async def test_a_submit_that_lasts_holds_up_no_other(engine: SlowEngine) -> None:
    async with Mageflow(engine, "memory://") as mage:

        @mage.task
        async def step() -> None: ...

        signature = await mage.sign(step)
        async with mage.worker(drain=False):
            for _ in range(3):  # none of the calls is answered
                await until_has(engine, (await signature.start()).id)
            engine.answer.set()


async def test_calls_under_way_are_counted_and_what_comes_meanwhile_goes_together(engine: SlowEngine) -> None:
    async with Mageflow(engine, "memory://") as mage:

        @mage.task
        async def step() -> None: ...

        signature = await mage.sign(step)
        async with mage.worker(drain=False):
            for _ in range(4):
                await until_has(engine, (await signature.start()).id)
            waiting = [(await signature.start()).id for _ in range(20)]
            assert not any(engine.has(run) for run in waiting), "a server is not to be asked more and more at once"
            engine.answer.set()
            await until_has(engine, waiting[-1])
    assert engine.calls[4] == waiting, "what waited goes in one call"


async def test_a_submit_that_raises_is_told_and_the_next_one_is_made(
    engine: SlowEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.raises = OSError("on purpose")
    async with Mageflow(engine, "memory://") as mage:

        @mage.task
        async def step() -> None: ...

        signature = await mage.sign(step)
        async with mage.worker(drain=False):
            with caplog.at_level(logging.ERROR, "mageflow.runtime"):
                await until_has(engine, (await signature.start()).id)
            engine.raises = None
            await until_has(engine, (await signature.start()).id)
            engine.answer.set()
    assert "could not be handed on" in caplog.text
