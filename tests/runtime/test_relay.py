"""Handing rows to an engine that takes its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from mageflow import Mageflow, SwarmConfig
from mageflow.core.decision import Decide, Decision
from mageflow.ports.engine import Capabilities, Declared, Engine, Handler, Refused, Submission
from mageflow.runtime import relay
from mageflow.stores.memory import MemoryStore


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


async def test_nothing_waits_behind_the_many_rows_of_a_swarm(
    engine: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_CALL_TAKES", 3600)
    async with Mageflow(engine, "memory://") as mage:

        @mage.task
        async def step() -> None: ...

        inputs: list[dict[str, Any]] = [{}] * 500
        swarm = await mage.swarm(task=step, inputs=inputs, config=SwarmConfig(max_concurrency=500))
        async with mage.worker(drain=False):
            await swarm.start()
            async with asyncio.timeout(20):
                while sum(map(len, engine.calls)) < 500:  # noqa: ASYNC110 - what the relay does is not announced
                    await asyncio.sleep(0.01)
            engine.answer.set()
    assert len(engine.calls) > 1


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


class WithMessages(SlowEngine):
    """Needs the messages of a task, once it knows that one."""

    def __init__(self) -> None:
        super().__init__()
        self.answer.set()
        self.told: dict[str, Raw | None] = {}
        self.whole: set[str] = set()

    def needs_message(self, task: str) -> bool:
        return task in self.whole

    def register(self, task: Declared, handle: Any) -> Any:
        if task.name == "charge":
            self.whole.add(task.name)
        return handle

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        self.told.update((each.row.run, each.message) for each in submissions)
        return await super().submit(submissions)


class Asked(MemoryStore):
    """Knows how many commits were asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0
        self.most = 0

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await asyncio.sleep(0)  # as one that is reached over a network
            return await super().transact(keys, decide, token=token)
        finally:
            self._now -= 1


async def test_messages_are_assembled_side_by_side() -> None:
    """One after another a hundred members would be a hundred round trips, before the first of them is submitted."""
    store, engine = Asked(), WithMessages()
    async with Mageflow(engine, store) as mage:

        @mage.task
        async def charge(msg: dict[str, Any]) -> None: ...

        inputs: list[dict[str, Any]] = [{"n": n} for n in range(50)]
        swarm = await mage.swarm(task=charge, inputs=inputs, config=SwarmConfig(max_concurrency=50))
        async with mage.worker(drain=False):
            await swarm.start()
            async with asyncio.timeout(20):
                while len(engine.told) < 50:  # noqa: ASYNC110 - what the relay does is not announced
                    await asyncio.sleep(0.01)
    assert [msgspec.json.decode(message or b"") for message in engine.told.values()] == inputs
    assert store.most >= 50


async def test_what_needs_its_message_is_left_to_a_service_that_has_the_task() -> None:
    """Two services on one store and one route: the one whose relay looks first does not have the task."""
    store = MemoryStore()
    shop, billing = WithMessages(), WithMessages()
    async with Mageflow(shop, store) as one, Mageflow(billing, store) as other:

        @one.task
        async def order() -> None: ...

        @other.task
        async def charge(msg: dict[str, Any]) -> None: ...

        async with one.worker(drain=False), other.worker(drain=False):
            ordered = (await (await one.sign(order)).start()).id
            charged = [(await (await one.sign("charge", user="ada")).start({"n": n})).id for n in range(20)]
            for run in charged:
                await until_has(billing, run)
            async with asyncio.timeout(20):
                while not (shop.has(ordered) or billing.has(ordered)):  # noqa: ASYNC110 - either may
                    await asyncio.sleep(0.01)
    assert not [run for run in charged if shop.has(run)], "it would be submitted without its message"
    assert [msgspec.json.decode(billing.told[run] or b"") for run in charged] == [
        {"user": "ada", "n": n} for n in range(20)
    ]
