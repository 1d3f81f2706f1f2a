"""When callbacks fire, in which order, with what, and what they do not touch."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from mageflow import (
    Mageflow,
    NonRetryable,
    Outcome,
    ReturnValue,
    RunOptions,
    RunStatus,
    UnfilledFieldError,
    UnfilledFieldWarning,
)
from tests.api.conftest import Sign, work


class Note(BaseModel):
    name: str
    results: Any = None


@pytest.fixture
def fired(mage: Mageflow) -> list[str]:
    """The names of the notes that ran, in order; signed as `note`, with a `name` bound."""
    names: list[str] = []

    @mage.task
    async def note(msg: Note) -> str:
        names.append(msg.name)
        return msg.name

    @mage.task
    async def succeed() -> int:
        return 1

    @mage.task
    async def fail() -> None:
        raise RuntimeError("as it should")

    return names


async def test_success_fires_success_and_done_callbacks_in_list_order(
    mage: Mageflow, sign: Sign, fired: list[str]
) -> None:
    a, b, c, d = [await sign("note", name=name) for name in "abcd"]
    await (await sign("succeed", success_callbacks=[a, b], error_callbacks=[c], done_callbacks=[d])).start()
    async with mage.worker(concurrency=1):
        pass
    assert fired == ["a", "b", "d"]


async def test_failure_fires_error_and_done_callbacks_in_list_order(
    mage: Mageflow, sign: Sign, fired: list[str]
) -> None:
    a, c, d, e, z = [await sign("note", name=name) for name in "acdez"]
    await (await sign("fail", success_callbacks=[a], error_callbacks=[c, d, e], done_callbacks=[z])).start()
    async with mage.worker(concurrency=1):
        pass
    assert fired == ["c", "d", "e", "z"]


async def test_a_flow_that_has_begun_is_finished_before_a_younger_one_begins(
    mage: Mageflow, sign: Sign, fired: list[str]
) -> None:
    for name in "abc":
        last = await sign("note", name=f"last of {name}")
        middle = await sign("note", name=f"middle of {name}", success_callbacks=[last])
        await (await sign("note", name=f"first of {name}", success_callbacks=[middle])).start()
    async with mage.worker(concurrency=1):
        pass
    assert fired == [f"{place} of {name}" for name in "abc" for place in ("first", "middle", "last")]


async def test_cancellation_fires_done_callbacks_only(mage: Mageflow, sign: Sign, fired: list[str]) -> None:
    a, b, c = [await sign("note", name=name) for name in "abc"]
    handle = await (await sign("succeed", success_callbacks=[a], error_callbacks=[b], done_callbacks=[c])).start()
    await handle.cancel()
    await work(mage)
    assert fired == ["c"]
    assert await handle.status() is RunStatus.CANCELLED


async def test_a_callback_may_be_given_as_signature_key_task_or_name(
    mage: Mageflow, sign: Sign, fired: list[str]
) -> None:
    ran: list[str] = []

    @mage.task
    async def bare() -> None:
        ran.append("bare")

    signature = await sign("note", name="signature")
    by_key = await sign("note", name="key")
    flow = await sign("succeed", success_callbacks=[signature, by_key.key, bare, "bare"])
    assert list(flow.success_callbacks[:2]) == [signature.key, by_key.key]
    await flow.start()
    await work(mage)
    assert sorted(fired) == ["key", "signature"]
    assert ran == ["bare", "bare"]


async def test_a_callback_has_callbacks_of_its_own(mage: Mageflow, sign: Sign) -> None:
    class Number(BaseModel):
        value: Annotated[int, ReturnValue()] = 0

    seen: list[int] = []

    @mage.task
    async def add_one(msg: Number) -> int:
        seen.append(msg.value)
        return msg.value + 1

    signature = await sign(add_one)
    for _ in range(9):
        signature = await sign(add_one, success_callbacks=[signature])
    handle = await signature.start()
    async with mage.worker():
        await handle.settled(timeout=10)
    assert seen == list(range(10))


async def test_one_signature_may_be_the_callback_of_a_thousand(mage: Mageflow) -> None:
    failures: list[int] = []

    class Number(BaseModel):
        number: int

    @mage.task
    async def fail(msg: Number) -> None:
        raise RuntimeError(str(msg.number))

    @mage.task("log-error")
    async def log_error(msg: Number) -> None:
        failures.append(msg.number)

    shared = await mage.sign("log-error")
    for number in range(1000):
        await (await mage.sign(fail, error_callbacks=[shared], number=number)).start()
    await work(mage)
    assert sorted(failures) == list(range(1000))


async def test_a_callback_that_raises_does_not_touch_the_others(mage: Mageflow, sign: Sign, fired: list[str]) -> None:
    first, last = await sign("note", name="first"), await sign("note", name="last")
    handle = await (await sign("succeed", success_callbacks=[first, "fail", last])).start()
    await work(mage)
    assert sorted(fired) == ["first", "last"]
    assert await handle.result() == 1
    (failed,) = await mage.find_runs(status="failed")
    assert failed.task_name == "fail"
    assert failed.seen.cause == handle.id


async def test_callbacks_fire_after_the_last_attempt_only(mage: Mageflow, sign: Sign, fired: list[str]) -> None:
    attempts: list[int] = []

    @mage.task(retries=3)
    async def flaky(msg: dict[str, Any]) -> str:
        attempts.append(len(attempts) + 1)
        assert fired == []
        if len(attempts) <= msg["failures"]:
            raise RuntimeError("not yet")
        return "in the end"

    good, bad = await sign("note", name="good"), await sign("note", name="bad")
    flow = await sign(flaky, success_callbacks=[good], error_callbacks=[bad])
    await flow.start({"failures": 3})
    await work(mage)
    assert (attempts, fired) == ([1, 2, 3, 4], ["good"])
    attempts.clear()
    fired.clear()
    await flow.start({"failures": 4})
    await work(mage)
    assert (attempts, fired) == ([1, 2, 3, 4], ["bad"])


async def test_what_can_never_succeed_is_not_tried_again(mage: Mageflow, sign: Sign, fired: list[str]) -> None:
    attempts: list[int] = []

    @mage.task(retries=3)
    async def hopeless() -> None:
        attempts.append(1)
        raise NonRetryable("never")

    bad = await sign("note", name="bad")
    await (await sign(hopeless, error_callbacks=[bad])).start()
    await work(mage)
    assert (len(attempts), fired) == (1, ["bad"])


async def test_a_done_callback_receives_the_outcome_whichever_it_is(mage: Mageflow, sign: Sign) -> None:
    class Done(BaseModel):
        outcome: Annotated[Outcome[int], ReturnValue()]

    seen: dict[RunStatus, Outcome[int]] = {}

    @mage.task
    async def done(msg: Done) -> None:
        seen[msg.outcome.status] = msg.outcome

    @mage.task
    async def divide(msg: dict[str, Any]) -> int:
        return 10 // int(msg["by"])

    flow = await sign(divide, done_callbacks=[done], run_options=RunOptions(retries=1))
    good, bad = await flow.start({"by": 2}), await flow.start({"by": 0})
    stopped = await flow.start({"by": 1})
    await stopped.cancel()
    await work(mage)
    assert set(seen) == {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
    outcome = seen[RunStatus.SUCCEEDED]
    assert (outcome.value, outcome.attempts, outcome.run_id, outcome.failure) == (5, 1, good.id, None)
    outcome = seen[RunStatus.FAILED]
    assert outcome.failure is not None
    assert (outcome.failure.type, outcome.attempts, outcome.run_id) == ("ZeroDivisionError", 2, bad.id)
    assert (await bad.outcome()).failure == outcome.failure
    outcome = seen[RunStatus.CANCELLED]
    assert (outcome.attempts, outcome.value, outcome.run_id) == (0, None, stopped.id)


async def test_callbacks_can_be_added_to_a_signature_until_its_run_begins(
    mage: Mageflow, sign: Sign, fired: list[str]
) -> None:
    a, b, c = [await sign("note", name=name) for name in "abc"]
    flow = await sign("succeed", success_callbacks=[a])
    await flow.start()
    await flow.success_callbacks.aappend(b)
    await flow.success_callbacks.aextend([c, a])
    assert flow.success_callbacks == [a.key, b.key, c.key, a.key]
    async with mage.worker(concurrency=1):
        pass
    assert fired == ["a", "b", "c", "a"]


async def test_a_removed_callback_leaves_a_failed_run_that_says_so(
    mage: Mageflow, sign: Sign, fired: list[str]
) -> None:
    a, b = [await sign("note", name=name) for name in "ab"]
    flow = await sign("succeed", success_callbacks=[a, b])
    await a.remove()
    handle = await flow.start()
    await work(mage)
    assert fired == ["b"]
    (gone,) = await mage.find_runs(status=RunStatus.FAILED)
    assert gone.seen.cause == handle.id
    assert gone.seen.failure is not None
    assert a.key in gone.seen.failure.message
    assert "sign it again" in gone.seen.failure.message


async def test_a_signature_survives_its_run_and_runs_again(mage: Mageflow, sign: Sign, fired: list[str]) -> None:
    flow = await sign("succeed", success_callbacks=[await sign("note", name="again")])
    for _ in range(3):
        await flow.start()
        await work(mage)
    assert fired == ["again"] * 3


async def test_more_callbacks_than_one_commit_holds_all_fire_once(mage: Mageflow, fired: list[str]) -> None:
    callbacks = [await mage.sign("note", name=str(place)) for place in range(900)]
    handle = await (await mage.sign("succeed", done_callbacks=callbacks)).start()
    async with mage.worker():
        await handle.settled(timeout=30)
    assert sorted(fired, key=int) == [str(place) for place in range(900)]


# Required fields that nothing fills


class Letter(BaseModel):
    to: str
    text: Annotated[str, ReturnValue()]


async def test_a_field_that_nothing_fills_warns_at_sign_and_is_refused_at_start(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def write() -> str:
        return "dear"

    sent: list[Letter] = []

    @mage.task
    async def send(msg: Letter) -> None:
        sent.append(msg)

    callback = await sign(send)
    with pytest.warns(UnfilledFieldWarning, match=r"'send' of 'write' requires 'to'.*kwargs\.aupdate\(to="):
        flow = await sign(write, success_callbacks=[callback])
    with pytest.raises(UnfilledFieldError, match="requires 'to'") as caught:
        await flow.start()
    assert (caught.value.task_name, caught.value.fields) == ("send", ("to",))
    with pytest.raises(UnfilledFieldError):
        await flow.run()
    assert await mage.find_runs() == []
    await callback.kwargs.aupdate(to="ada")
    await flow.start()
    await work(mage)
    assert [(letter.to, letter.text) for letter in sent] == [("ada", "dear")]


async def test_an_error_callback_is_filled_by_the_failed_tasks_message(mage: Mageflow, sign: Sign) -> None:
    class Order(BaseModel):
        order_id: int
        region: str = "eu"

    class Alert(BaseModel):
        order_id: int
        region: str
        channel: str

    @mage.task
    async def process(msg: Order) -> None:
        raise RuntimeError

    told: list[Alert] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        told.append(msg)

    flow = await sign(process, error_callbacks=[await sign(alert, channel="mail")])
    await flow.start(Order(order_id=3))
    await work(mage)
    assert told == [Alert(order_id=3, region="eu", channel="mail")]
    with pytest.warns(UnfilledFieldWarning, match="'channel'"):
        await sign(process, error_callbacks=[alert])


async def test_many_flows_started_at_once_each_fire_their_callback_once(mage: Mageflow) -> None:
    counts: dict[int, int] = {}

    class Count(BaseModel):
        number: Annotated[int, ReturnValue()]

    @mage.task
    async def give(msg: dict[str, int]) -> int:
        return msg["number"]

    @mage.task
    async def count(msg: Count) -> None:
        counts[msg.number] = counts.get(msg.number, 0) + 1

    flow = await mage.sign(give, success_callbacks=[count])
    async with mage.worker(concurrency=20):
        await asyncio.gather(*(flow.start({"number": number}) for number in range(500)))
    assert counts == dict.fromkeys(range(500), 1)
