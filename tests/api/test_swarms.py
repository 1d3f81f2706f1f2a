"""Swarms: members side by side inside a window, with one end."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from mageflow import (
    ErrorValue,
    Mageflow,
    MageflowError,
    Outcome,
    ReturnValue,
    RunFailedError,
    RunStatus,
    SwarmConfig,
    SwarmTaskSignature,
    TaskFailure,
)
from tests.api.conftest import Face, Gates, is_a, until_status, work
from tests.api.flow_tasks import Item, Log, closed

# Results


async def test_every_member_gets_the_message_and_results_come_in_member_order(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    first, second = [await face.sign("gated", name=name) for name in ("first", "second")]
    after = await face.sign("note", name="after")
    swarm = await face.swarm([first, second, "times"], **closed(success_callbacks=[after]))
    handle = await swarm.aio_run_no_wait({"n": 4, "name": "shared"})
    async with mage.worker():
        await gates.until("first", "second")
        await gates.open("second")
        await gates.open("first")
        assert await handle.result() == ["first", "second", 8]
        await handle.settled(timeout=20)
    assert log == [("after", ["first", "second", 8])]


async def test_members_may_be_signatures_keys_tasks_or_names(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def plus(msg: Item) -> int:
        return msg.n + 1

    key = (await face.sign("times", by=5)).key
    swarm = await face.swarm([await face.sign(plus), key, plus, "times"], "numbers", **closed())
    assert is_a(swarm, SwarmTaskSignature)
    assert swarm.task_name == "numbers"
    assert swarm.tasks[1] == key
    async with mage.worker():
        assert await swarm.run({"n": 10}) == [11, 50, 11, 20]
        assert await swarm.aio_run(Item(n=1)) == [2, 5, 2, 2]


async def test_the_same_signature_may_stand_in_a_swarm_more_than_once(mage: Mageflow, face: Face, log: Log) -> None:
    one = await face.sign("times", by=3)
    async with mage.worker():
        assert await (await face.swarm([one] * 120, **closed())).run({"n": 1}) == [3] * 120


async def test_an_empty_closed_swarm_succeeds_at_once_with_an_empty_list(mage: Mageflow, face: Face, log: Log) -> None:
    after, done = await face.sign("note", name="after"), await face.sign("note", name="done")
    swarm = await face.swarm(**closed(success_callbacks=[after], done_callbacks=[done]))
    handle = await swarm.start()
    assert await handle.status() is RunStatus.SUCCEEDED
    assert await handle.result() == []
    assert await swarm.is_swarm_done()
    await work(mage)
    assert dict(log)["after"] == []
    assert len(log) == 2


async def test_without_a_limit_failures_do_not_stop_it_and_the_results_are_those_that_succeeded(
    mage: Mageflow, face: Face, log: Log
) -> None:
    after, error = await face.sign("note", name="after"), await face.sign("note", name="error")
    swarm = await face.swarm(
        **{"task": "even", "inputs": [{"n": n} for n in range(6)]}, success_callbacks=[after], error_callbacks=[error]
    )
    async with mage.worker():
        assert await swarm.run() == [0, 2, 4]
    assert log == [("after", [0, 2, 4])]


async def test_failures_below_the_limit_do_not_stop_it(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(stop_after_n_failures=4)
    swarm = await face.swarm(task="even", inputs=[{"n": n} for n in range(6)], config=config)
    async with mage.worker():
        assert await swarm.run() == [0, 2, 4]


# Outcomes


class Report(BaseModel):
    outcomes: ReturnValue[list[Outcome[int]]]


async def test_a_callback_that_asks_for_outcomes_gets_every_member_failures_included_in_order(
    mage: Mageflow, face: Face, log: Log
) -> None:
    reports: list[list[Outcome[int]]] = []

    @mage.task
    async def report(msg: Report) -> None:
        reports.append(msg.outcomes)

    swarm = await face.swarm(task="even", inputs=[{"n": n} for n in range(5)], success_callbacks=[report])
    async with mage.worker():
        await swarm.run()
    ((first, second, *others),) = reports
    assert len(others) == 3
    assert (first.status, first.value, first.attempts, first.member) == (RunStatus.SUCCEEDED, 0, 1, swarm.tasks[0])
    assert second.status is RunStatus.FAILED
    assert second.failure is not None
    assert (second.failure.type, second.failure.message) == ("ValueError", "1 is odd")
    assert [outcome.value for outcome in others] == [2, None, 4]


async def test_a_done_callback_may_ask_for_the_outcome_of_the_swarm_or_of_its_members(
    mage: Mageflow, face: Face, log: Log
) -> None:
    got: list[Any] = []

    class Ended(BaseModel):
        outcome: Annotated[Outcome[list[int]], ReturnValue()]

    @mage.task
    async def ended(msg: Ended) -> None:
        got.append(msg.outcome)

    @mage.task
    async def report(msg: Report) -> None:
        got.append(msg.outcomes)

    config = SwarmConfig(max_concurrency=1, stop_after_n_failures=1)
    swarm = await face.swarm(
        task="even", inputs=[{"n": n} for n in (0, 1, 2)], config=config, done_callbacks=[ended, report]
    )
    async with mage.worker(concurrency=1):
        await swarm.start()
    whole, members = got
    assert whole.status is RunStatus.FAILED
    assert whole.failure.type == "SwarmFailedError"
    assert "1 is odd" in whole.failure.message
    assert [each.status for each in members] == [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]


# Stopping


class Failures(Item):
    failures: Annotated[list[TaskFailure], ErrorValue()]


async def test_at_the_nth_failure_error_callbacks_fire_once_while_running_members_finish(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    @mage.task
    async def alert(msg: Failures) -> None:
        await gates.through(f"alert {msg.note} {[failure.message for failure in msg.failures]}")

    @mage.task
    async def bad(msg: dict[str, Any]) -> None:
        await gates.through(msg["name"])
        raise ValueError(msg["name"])

    done = await face.sign("note", name="done")
    members = [
        await face.sign("gated", name="runs on"),
        await face.sign(bad, name="bad 1"),
        await face.sign(bad, name="bad 2"),
        await face.sign("gated", name="runs too"),
        await face.sign("gated", name="never", done_callbacks=[await face.sign("note", name="told off")]),
        await face.sign("gated", name="never"),
    ]
    config = SwarmConfig(max_concurrency=3, stop_after_n_failures=2)
    swarm = await face.swarm(members, **closed(config=config, error_callbacks=[alert], done_callbacks=[done]))
    handle = await swarm.start(Item(note="its own message"))
    async with mage.worker():
        await gates.until("runs on", "bad 1", "bad 2")
        await gates.open("bad 1")
        await gates.until("runs too")
        await gates.open("bad 2")
        await gates.until("alert its own message ['bad 1', 'bad 2']")
        assert await handle.status() is RunStatus.RUNNING
        assert "done" not in dict(log)
        await gates.open()
        with pytest.raises(RunFailedError, match="2 of 6 members failed") as caught:
            await handle.result()
        await handle.settled(timeout=20)
    assert "never" not in gates.entered
    assert len([name for name in gates.entered if name.startswith("alert")]) == 1
    assert sorted(dict(log)) == ["done", "told off"]
    assert isinstance(caught.value.failure, TaskFailure)
    counted = await swarm.progress()
    assert (counted.succeeded, counted.failed, counted.cancelled, counted.waiting) == (2, 2, 2, 0)


async def test_an_error_callback_without_a_list_gets_the_swarms_own_failure(
    mage: Mageflow, face: Face, log: Log
) -> None:
    got: list[Any] = []

    class One(Item):
        failure: Annotated[TaskFailure, ErrorValue()]

    @mage.task
    async def alert(msg: One) -> None:
        got.append((msg.n, msg.failure.type))

    config = SwarmConfig(stop_after_n_failures=1)
    swarm = await face.swarm(["fail"], **closed(config=config, error_callbacks=[alert]))
    await swarm.start({"n": 3})
    await work(mage)
    assert got == [(3, "SwarmFailedError")]


async def test_cancelled_members_fire_their_done_callbacks(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    def with_done(name: str) -> Any:
        return face.sign("note", name=name)

    running = await face.sign("gated", name="running", done_callbacks=[await with_done("of running")])
    waiting = await face.sign("gated", name="waiting", done_callbacks=[await with_done("of waiting")])
    bare = await face.sign("gated", name="bare")
    error, success = await with_done("error"), await with_done("success")
    swarm = await face.swarm(
        [running, waiting, bare],
        **closed(
            config=SwarmConfig(max_concurrency=1),
            error_callbacks=[error],
            success_callbacks=[success],
            done_callbacks=[await with_done("of the swarm")],
        ),
    )
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("running")
        await swarm.cancel()
        await until_status(handle, RunStatus.CANCELLED)
        await handle.settled(timeout=20)
    assert sorted(name for name, _ in log) == ["of running", "of the swarm", "of waiting"]
    assert gates.entered == ["running"]


async def test_queued_members_are_cancelled_at_a_stop_though_the_window_had_taken_them(
    mage: Mageflow, face: Face, log: Log
) -> None:
    ran: list[int] = []

    @mage.task
    async def second_fails(msg: Item) -> None:
        ran.append(msg.n)
        if msg.n == 1:
            raise ValueError("stop")

    config = SwarmConfig(stop_after_n_failures=1)
    done = await face.sign("note", name="done")
    member = await face.sign(second_fails, done_callbacks=[done])
    swarm = await face.swarm(config=config)
    await swarm.add_tasks([member] * 200, [Item(n=n) for n in range(200)])
    handle = await swarm.start()
    async with mage.worker(concurrency=1):
        pass
    assert await handle.status() is RunStatus.FAILED
    assert ran == [0, 1]
    assert len(log) == 200
    counted = await swarm.progress()
    assert (counted.succeeded, counted.failed, counted.cancelled) == (1, 1, 198)


# The message


async def test_binding_later_wins_message_bound_own_message_kwargs_of_the_swarm(
    mage: Mageflow, face: Face, log: Log
) -> None:
    @mage.task
    async def show(msg: dict[str, Any]) -> dict[str, Any]:
        return msg

    member = await face.sign(show, b="bound", c="bound", d="bound", deep={"bound": 1, "x": "bound"})
    swarm = await face.swarm(d="swarm", deep={"swarm": 1, "x": "swarm"})
    await swarm.add_task(member, {"c": "own", "d": "own", "deep": {"own": 1, "x": "own"}})
    await swarm.close_swarm()
    async with mage.worker():
        (result,) = await swarm.run(dict.fromkeys("abcd", "shared") | {"deep": {"shared": 1, "x": "shared"}})
    assert result.pop("deep") == {"shared": 1, "bound": 1, "own": 1, "swarm": 1, "x": "swarm"}
    assert result == {"a": "shared", "b": "bound", "c": "own", "d": "swarm"}


async def test_only_the_set_fields_of_a_members_own_message_count(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm()
    await swarm.add_tasks(["times", "times"], [Item(n=7), Item(by=100)])
    await swarm.close_swarm()
    async with mage.worker():
        assert await swarm.run(Item(n=1, by=10)) == [70, 100]


async def test_acall_puts_its_value_into_each_members_return_field(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm([await face.sign("note", name=name) for name in "ab"], **closed())
    await swarm.acall([1, 2])
    await work(mage)
    assert sorted(log) == [("a", [1, 2]), ("b", [1, 2])]


async def test_an_invalid_message_of_one_member_fails_that_member(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(task="times", inputs=[{"n": 1}, {"n": "one"}, {"n": 3}])
    async with mage.worker():
        assert await swarm.run() == [2, 6]
    failed = [member async for member in swarm.members() if member.status is RunStatus.FAILED]
    assert [member.place for member in failed] == [1]


# The window


async def test_no_more_members_than_the_window_run_at_once(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    names = [f"m{n}" for n in range(5)]
    members = [await face.sign("gated", name=name) for name in names]
    swarm = await face.swarm(members, **closed(config=SwarmConfig(max_concurrency=2)))
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("m0", "m1")
        counted = await swarm.progress()
        assert (counted.total, counted.running, counted.waiting) == (5, 2, 3)
        await gates.open("m1")
        await gates.until("m2")
        assert len(gates.entered) == 3
        counted = await swarm.progress()
        assert (counted.running, counted.waiting, counted.succeeded, counted.ended) == (2, 2, 1, 1)
        await gates.open()
        assert await handle.result() == names


async def test_a_swarm_that_was_not_started_counts_its_members_as_waiting(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"] * 3)
    counted = await swarm.progress()
    assert (counted.total, counted.waiting, counted.closed) == (3, 3, False)
    assert not await swarm.is_swarm_done()
    with pytest.raises(MageflowError, match="has not been started"):
        _ = [member async for member in swarm.members()]
