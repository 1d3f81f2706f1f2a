"""Deliveries that are lost, doubled and late: the outbox and the claim make good for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from mageflow import Mageflow, MageflowConfig
from mageflow.choosing import engine_for
from mageflow.ports.engine import Engine, Refused, Submission
from mageflow.testing.contracts.engines.acting import PATIENCE, EngineTests, Wrap

__all__ = ["TestsOfDeliveries"]

Message = dict[str, Any]
RUNS = 20


def swallow_first(engine: Engine) -> Engine:
    """Lose the first delivery of every run."""
    submit, seen = engine.submit, set[str]()

    async def submit_again(submissions: Sequence[Submission]) -> Sequence[Refused]:
        kept = [each for each in submissions if each.row.run in seen]
        seen.update(each.row.run for each in submissions)
        return await submit(kept) if kept else ()

    return _with(engine, submit_again)


def double(engine: Engine) -> Engine:
    """Make every delivery twice, and some three times."""
    submit = engine.submit

    async def submit_often(submissions: Sequence[Submission]) -> Sequence[Refused]:
        refused = await submit(submissions)
        await submit([*submissions, *submissions[::2]])
        return refused

    return _with(engine, submit_often)


def delay(engine: Engine) -> Engine:
    """Make every delivery some time after it was asked for, and out of order."""
    submit = engine.submit
    late: set[asyncio.Task[Any]] = set()

    async def submit_soon(each: Submission, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await submit([each])

    async def submit_late(submissions: Sequence[Submission]) -> Sequence[Refused]:
        for place, each in enumerate(reversed(submissions)):
            task = asyncio.create_task(submit_soon(each, 0.01 * (place % 7)))
            late.add(task)
            task.add_done_callback(late.discard)
        return ()

    return _with(engine, submit_late)


def _with(engine: Engine, submit: Any) -> Engine:
    changed: Any = engine  # a checker would not let a method be replaced
    changed.submit = submit
    return engine


class TestsOfDeliveries(EngineTests):
    """No fault of a delivery is ever seen by a user."""

    @pytest.fixture(params=[swallow_first, double, delay], ids=lambda wrap: wrap.__name__)
    def wrap(self, request: pytest.FixtureRequest) -> Wrap:
        wrap: Wrap = request.param
        return wrap

    @pytest.fixture
    async def hostile(self, engine: Any, store: Any, wrap: Wrap) -> AsyncIterator[Mageflow]:
        """A client whose engine does not do what it is asked for."""
        config = MageflowConfig(lease=5.0, redeliver_after=0.2)
        async with Mageflow(wrap(engine_for(engine, store)), store, config=config) as client:
            yield client

    async def test_every_body_runs_once_and_every_callback_too(self, hostile: Mageflow) -> None:
        bodies: Counter[int] = Counter()
        callbacks: Counter[int] = Counter()

        @hostile.task
        async def body(msg: Message) -> int:
            bodies[msg["n"]] += 1
            return int(msg["n"])

        @hostile.task
        async def after(msg: Message) -> None:
            callbacks[msg["results"]] += 1

        signature = await hostile.sign(body, success_callbacks=[after])
        async with hostile.worker():
            handles = [await signature.start({"n": n}) for n in range(RUNS)]
            for handle in handles:
                await handle.settled(timeout=PATIENCE)
        assert bodies == callbacks == Counter(range(RUNS))

    async def test_a_backoff_is_waited_for_though_deliveries_come_early(self, hostile: Mageflow) -> None:
        loop = asyncio.get_running_loop()
        begun: list[float] = []

        @hostile.task(retries=1, backoff_factor=1.0)
        async def fails_once() -> None:
            begun.append(loop.time())
            if len(begun) == 1:
                raise ValueError("once")

        async with hostile.worker():
            handle = await (await hostile.sign(fails_once)).start()
            await handle.result(timeout=PATIENCE)
        assert begun[1] - begun[0] >= 0.74  # up to a quarter is taken off

    async def test_a_run_that_a_body_holds_is_not_begun_again(self, hostile: Mageflow) -> None:
        bodies = 0
        gate = asyncio.Event()

        @hostile.task
        async def long() -> None:
            nonlocal bodies
            bodies += 1
            await gate.wait()

        @hostile.task
        async def quick(msg: Message) -> None: ...

        async with hostile.worker():
            held = await (await hostile.sign(long)).start()
            for n in range(5):  # of the same route, so that what was given before them is given again
                await (await hostile.sign(quick, n=n)).run()
            gate.set()
            await held.result(timeout=PATIENCE)
        assert bodies == 1
