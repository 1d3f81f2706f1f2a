"""Results, messages, callbacks, retries, chains and swarms."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from mageflow import (
    ErrorValue,
    Mageflow,
    NonRetryable,
    Outcome,
    ReturnValue,
    RunFailedError,
    RunOptions,
    RunStatus,
    SwarmConfig,
    TaskFailure,
    current_run,
)
from mageflow.testing.contracts.engines.acting import PATIENCE, EngineTests

__all__ = ["TestsOfFlows"]

Message = dict[str, Any]


class Order(BaseModel):
    number: int
    tags: list[str] = []


class Alert(Order):
    failure: Annotated[TaskFailure, ErrorValue()]


class Mail(BaseModel):
    to: str
    receipt: Annotated[str, ReturnValue()]


class Report(BaseModel):
    outcomes: Annotated[list[Outcome[int]], ReturnValue()]


class TestsOfFlows(EngineTests):
    """A flow has the same outcome on every engine."""

    @pytest.mark.parametrize("value", [None, 0, 7, "", "é\u2028", [1, [2]], {"a": None}, {}], ids=repr)
    async def test_a_result_is_what_the_body_returned(self, mage: Mageflow, value: Any) -> None:
        @mage.task
        async def give() -> Any:
            return value

        async with mage.worker():
            assert await (await mage.sign(give)).run() == value

    async def test_a_large_result_goes_through_a_callback(self, mage: Mageflow) -> None:
        @mage.task
        async def make() -> str:
            return "x" * 5_000_000

        @mage.task
        async def measure(msg: Message) -> int:
            return len(msg["results"])

        async with mage.worker():
            handle = await (await mage.sign(make, success_callbacks=[measure])).start()
            await handle.settled(timeout=PATIENCE)
            (caused,) = await handle.caused()
            assert await caused.result(timeout=PATIENCE) == 5_000_000

    async def test_a_message_is_a_model_with_what_was_bound(self, mage: Mageflow) -> None:
        @mage.task
        async def look(order: Order) -> Message:
            return order.model_dump()

        async with mage.worker():
            signature = await mage.sign(look, tags=["bound"])
            assert await signature.run(Order(number=3)) == {"number": 3, "tags": ["bound"]}

    async def test_a_message_that_does_not_fit_fails_and_names_the_field(self, mage: Mageflow) -> None:
        @mage.task(retries=3)
        async def look(order: Order) -> None: ...

        async with mage.worker():
            handle = await (await mage.sign("look")).start({"number": "many"})
            with pytest.raises(RunFailedError, match="number"):
                await handle.result(timeout=PATIENCE)
            assert (await handle.info()).attempts == 1

    async def test_a_sync_body_runs_in_a_thread(self, mage: Mageflow) -> None:
        loop = threading.current_thread()

        @mage.task
        def work(msg: Message) -> bool:
            return threading.current_thread() is not loop

        async with mage.worker():
            assert await (await mage.sign(work)).run({}) is True

    async def test_a_success_callback_receives_the_result_in_its_marked_field(self, mage: Mageflow) -> None:
        mails: list[Mail] = []

        @mage.task
        async def order(msg: Order) -> str:
            return f"receipt {msg.number}"

        @mage.task
        async def mail(msg: Mail) -> None:
            mails.append(msg)

        async with mage.worker():
            flow = await mage.sign(order, success_callbacks=[await mage.sign(mail, to="ada")])
            await flow.start(Order(number=7))
        assert mails == [Mail(to="ada", receipt="receipt 7")]

    async def test_an_error_callback_receives_the_message_and_the_failure(self, mage: Mageflow) -> None:
        alerts: list[Alert] = []

        @mage.task(retries=1)
        async def order(msg: Order) -> float:
            return 1 / msg.number

        @mage.task
        async def alert(msg: Alert) -> None:
            alerts.append(msg)

        async with mage.worker():
            handle = await (await mage.sign(order, error_callbacks=[alert])).start(Order(number=0, tags=["a"]))
        (seen,) = alerts
        assert (seen.number, seen.tags, seen.failure.type) == (0, ["a"], "ZeroDivisionError")
        assert (seen.failure.run_id, seen.failure.attempt) == (handle.id, 2)

    async def test_what_fails_is_tried_again_as_often_as_its_retries_say(self, mage: Mageflow) -> None:
        attempts: list[int] = []

        @mage.task
        async def flaky(msg: Message) -> int:
            run = current_run()
            attempts.append(run.attempt)
            if run.attempt < 3:
                raise ValueError("not yet")
            return run.attempt

        async with mage.worker():
            signature = await mage.sign(flaky, run_options=RunOptions(retries=2))
            assert await signature.run({}) == 3
        assert attempts == [1, 2, 3]

    async def test_what_can_never_succeed_is_not_tried_again(self, mage: Mageflow) -> None:
        attempts: list[int] = []

        @mage.task(retries=5)
        async def hopeless() -> None:
            attempts.append(current_run().attempt)
            raise NonRetryable("no such user")

        async with mage.worker():
            with pytest.raises(RunFailedError, match="no such user"):
                await (await mage.sign(hopeless)).run()
        assert attempts == [1]

    @pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
    async def test_whatever_a_body_raises_is_its_failure_alone(
        self, mage: Mageflow, error: type[BaseException]
    ) -> None:
        @mage.task
        async def odd() -> None:
            raise error

        @mage.task
        async def even() -> int:
            return 2

        async with mage.worker():
            with pytest.raises(RunFailedError, match=error.__name__):
                await (await mage.sign(odd)).run()
            assert await (await mage.sign(even)).run() == 2

    async def test_a_delayed_run_begins_no_sooner(self, mage: Mageflow) -> None:
        @mage.task
        async def late() -> None: ...

        async with mage.worker():
            handle = await (await mage.sign(late, run_options=RunOptions(delay=0.3))).start()
            assert handle.seen.status is RunStatus.SCHEDULED, "as it was made"
            await handle.result(timeout=PATIENCE)
        info = await handle.info()
        assert info.started_at is not None
        assert (info.started_at - info.created_at).total_seconds() >= 0.299

    async def test_runs_of_every_priority_end(self, mage: Mageflow) -> None:
        @mage.task
        async def some(msg: Message) -> int:
            return int(msg["n"])

        handles = [
            await (await mage.sign(some, n=n, run_options=RunOptions(priority=n % 3 + 1))).start() for n in range(9)
        ]
        async with mage.worker():
            assert [await handle.result(timeout=PATIENCE) for handle in handles] == list(range(9))

    async def test_a_body_starts_what_it_likes(self, mage: Mageflow) -> None:
        @mage.task
        async def inner(msg: Message) -> int:
            return int(msg["n"]) + 1

        @mage.task
        async def outer() -> int:
            return int(await (await mage.sign("inner", n=1)).run())

        async with mage.worker():
            assert await (await mage.sign(outer)).run() == 2

    async def test_a_chain_hands_each_result_to_the_next_step(self, mage: Mageflow) -> None:
        @mage.task
        async def add(msg: Message) -> int:
            return int(msg["results"] if "results" in msg else msg["n"]) + 1

        async with mage.worker():
            chain = await mage.chain([add, add, add])
            assert await chain.run({"n": 0}) == 3

    async def test_a_chain_stops_at_the_step_that_fails(self, mage: Mageflow) -> None:
        said: list[str] = []

        @mage.task
        async def first() -> str:
            said.append("first")
            return "fine"

        @mage.task
        async def second(msg: Message) -> None:
            raise ValueError(msg["results"])

        @mage.task
        async def third() -> None:
            said.append("third")

        @mage.task
        async def told(msg: Message) -> None:
            said.append(f"told {msg['results']}")

        async with mage.worker():
            chain = await mage.chain([first, second, third], error_callbacks=[told])
            with pytest.raises(RunFailedError, match="fine"):
                await chain.run()
        assert said == ["first", "told fine"]

    async def test_a_swarms_results_are_in_member_order_and_its_window_holds(self, mage: Mageflow) -> None:
        running = most = 0
        sums: list[int] = []

        @mage.task
        async def member(msg: Message) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return int(msg["n"])

        @mage.task
        async def collect(msg: Message) -> None:
            sums.extend(msg["results"])

        async with mage.worker():
            swarm = await mage.swarm(
                task=member,
                inputs=[{"n": n} for n in range(40)],
                config=SwarmConfig(max_concurrency=4),
                success_callbacks=[collect],
            )
            assert await swarm.run() == list(range(40))
        assert sums == list(range(40))
        assert 1 <= most <= 4

    async def test_a_swarms_outcomes_hold_its_failures_too(self, mage: Mageflow) -> None:
        reports: list[Report] = []

        @mage.task
        async def half(msg: Message) -> int:
            if msg["n"] % 2:
                raise ValueError("odd")
            return int(msg["n"]) // 2

        @mage.task
        async def report(msg: Report) -> None:
            reports.append(msg)

        async with mage.worker():
            swarm = await mage.swarm(task=half, inputs=[{"n": n} for n in range(4)], success_callbacks=[report])
            handle = await swarm.start()
            await handle.settled(timeout=PATIENCE)
        (seen,) = reports
        assert [outcome.value for outcome in seen.outcomes] == [0, None, 1, None]

    async def test_trees_of_chains_and_swarms_join(self, mage: Mageflow) -> None:
        @mage.task
        async def add(msg: Message) -> int:
            return int(msg["results"] if "results" in msg else msg["n"]) + 1

        @mage.task
        async def total(msg: Message) -> int:
            return sum(msg["results"])

        async with mage.worker():
            members = [await mage.chain([await mage.sign(add, n=n), add]) for n in range(5)]
            swarm = await mage.swarm(members, is_swarm_closed=True)
            chain = await mage.chain([swarm, total])
            assert await chain.run() == sum(n + 2 for n in range(5))
