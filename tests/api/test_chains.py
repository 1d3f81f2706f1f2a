"""Chains: steps one after another, each with the result of the one before."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from mageflow import (
    ChainTaskSignature,
    ErrorValue,
    InvalidSignatureError,
    Mageflow,
    Outcome,
    ReturnValue,
    RunFailedError,
    RunOptions,
    RunStatus,
    SignatureNotFoundError,
    TaskFailure,
    UnfilledFieldError,
    UnfilledFieldWarning,
)
from tests.api.conftest import Face, is_a, work
from tests.api.flow_tasks import Log, Number


async def test_a_steps_result_goes_to_the_next_steps_return_field(mage: Mageflow, face: Face, log: Log) -> None:
    chain = await face.chain(["add", await face.sign("add", plus=10), "add"])
    assert is_a(chain, ChainTaskSignature)
    async with mage.worker():
        assert await chain.run(Number(value=1)) == 13
        assert await chain.aio_run({"value": 2}) == 14
        assert await (await chain.aio_run_no_wait({"value": 3})).aio_result() == 15


async def test_steps_may_be_signatures_keys_tasks_or_names(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def double(msg: Number) -> int:
        return msg.value * 2

    key = (await face.sign("add", plus=2)).key
    chain = await face.chain([await face.sign(double), key, double, "add"], "doubling")
    assert chain.task_name == "doubling"
    assert len(chain.tasks) == 4
    assert chain.tasks[1] == key
    async with mage.worker():
        assert await chain.run({"value": 1}) == 9


async def test_a_chain_without_a_name_has_one(mage: Mageflow, face: Face, log: Log) -> None:
    assert (await face.chain(["add", "add"])).task_name == "chain"


@pytest.mark.parametrize("steps", [[], ["add"]])
async def test_a_chain_has_at_least_two_steps(mage: Mageflow, face: Face, log: Log, steps: list[str]) -> None:
    with pytest.raises(InvalidSignatureError, match="at least two steps"):
        await face.chain(steps)


async def test_a_step_that_was_removed_is_refused(mage: Mageflow, face: Face, log: Log) -> None:
    gone = await face.sign("add")
    await gone.remove()
    with pytest.raises(SignatureNotFoundError, match=gone.key):
        await face.chain(["add", gone])


async def test_success_callbacks_get_the_last_result_and_the_first_is_the_one_named_success(
    mage: Mageflow, face: Face, log: Log
) -> None:
    first, second, done = [await face.sign("note", name=name) for name in ("first", "second", "done")]
    chain = await face.chain(["add", "add"], None, None, first, success_callbacks=[second], done_callbacks=[done])
    handle = await chain.start({"value": 5})
    async with mage.worker(concurrency=1):
        await handle.settled(timeout=20)
    assert [(name, value) for name, value in log if name != "done"] == [("first", 7), ("second", 7)]
    (ended,) = [value for name, value in log if name == "done"]
    outcome = Outcome[int].model_validate(ended)
    assert (outcome.status, outcome.value, outcome.task_name) == (RunStatus.SUCCEEDED, 7, "chain")


class Alert(Number):
    failure: Annotated[TaskFailure, ErrorValue()]
    of: str


async def test_a_failed_step_ends_the_chain_and_error_callbacks_get_that_steps_message_and_failure(
    mage: Mageflow, face: Face, log: Log
) -> None:
    order: list[Any] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        order.append((msg.of, msg.value, msg.plus, msg.failure.type, msg.failure.message, msg.failure.task_name))

    of_step = await face.sign(alert, of="step")
    of_chain, another = await face.sign(alert, of="chain"), await face.sign(alert, of="another")
    never = await face.sign("note", name="never")
    failing = await face.sign("refuse", plus=4, error_callbacks=[of_step], success_callbacks=[never])
    last = await face.sign("note", name="later step")
    chain = await face.chain(["add", failing, last], None, of_chain, never, error_callbacks=[another])
    handle = await chain.start({"value": 1})
    async with mage.worker(concurrency=1):
        with pytest.raises(RunFailedError, match="not 2") as caught:
            await handle.result()
    said = (2, 4, "ValueError", "not 2", "refuse")
    assert order == [("step", *said), ("chain", *said), ("another", *said)]
    assert log == []
    failure: Any = caught.value.failure
    assert failure.task_name == "refuse"
    info = await handle.info()
    assert info.progress is not None
    assert (info.progress.succeeded, info.progress.failed, info.progress.cancelled) == (1, 1, 1)


async def test_the_first_step_may_fail_with_the_message_that_the_chain_was_started_with(
    mage: Mageflow, face: Face, log: Log
) -> None:
    chain = await face.chain(["fail", "add"], error=await face.sign("note", name="error"))
    await chain.start({"sent": 1, "results": "kept as sent"})
    await work(mage)
    assert log == [("error", "kept as sent")]


async def test_kwargs_of_a_chain_are_bound_to_every_step_and_stand_over_its_own(
    mage: Mageflow, face: Face, log: Log
) -> None:
    steps = [await face.sign("add", plus=3), "add"]
    async with mage.worker():
        assert await (await face.chain(steps, plus=100)).run({"value": 1}) == 201
        assert await (await face.chain(steps, kwargs={"plus": 1000})).run({"value": 1, "plus": 7}) == 2001
        assert await (await face.chain(steps)).run({"value": 1, "plus": 7}) == 5


async def test_kwargs_of_a_chain_that_are_changed_count_for_steps_that_have_not_begun(
    mage: Mageflow, face: Face, log: Log
) -> None:
    chain = await face.chain(["add", "add"], plus=1)
    handle = await chain.start({"value": 0})
    await chain.kwargs.aupdate(plus=5)
    await work(mage)
    assert await handle.result() == 10


async def test_a_step_keeps_its_own_callbacks_and_retries(mage: Mageflow, face: Face, log: Log) -> None:
    attempts: list[int] = []

    @mage.task
    async def shaky(msg: Number) -> int:
        attempts.append(msg.value)
        if len(attempts) < 3:
            raise RuntimeError("again")
        return msg.value + 1

    note = await face.sign("note", name="step")
    step = await face.sign(shaky, success_callbacks=[note], run_options=RunOptions(retries=2))
    chain = await face.chain(["add", step, "add"])
    async with mage.worker():
        assert await chain.run({"value": 1}) == 4
    assert attempts == [2, 2, 2]
    assert log == [("step", 3)]


async def test_a_chain_can_be_started_again_and_its_runs_are_apart(mage: Mageflow, face: Face, log: Log) -> None:
    chain = await face.chain(["add", "add"])
    handles = [await chain.start({"value": n}) for n in range(5)]
    await work(mage)
    assert [await handle.result() for handle in handles] == [2, 3, 4, 5, 6]


async def test_acall_puts_its_value_into_the_first_steps_return_field(mage: Mageflow, face: Face, log: Log) -> None:
    chain = await face.chain(["add", "add"])
    handle = await chain.acall(40)
    plain = await chain.acall({"value": 1}, set_return_field=False, plus=5)
    await work(mage)
    assert await handle.result() == 42
    assert await plain.result() == 11


async def test_a_loaded_chain_shows_what_it_is(mage: Mageflow, face: Face, log: Log) -> None:
    made = await face.chain(["add", "add"], "sums", await face.sign("note", name="e"), plus=2)
    chain = await face.load_signature(made.key)
    assert is_a(chain, ChainTaskSignature)
    assert chain == made
    assert chain.tasks == made.tasks
    assert (chain.task_name, dict(chain.kwargs), len(chain.error_callbacks)) == ("sums", {"plus": 2}, 1)
    assert chain.task_status == "active"
    async with mage.worker():
        assert await chain.run({"value": 0}) == 4


async def test_a_duplicate_of_a_chain_is_a_chain_of_its_own(mage: Mageflow, face: Face, log: Log) -> None:
    chain = await face.chain(["add", "add"], plus=1, success_callbacks=[await face.sign("note", name="after")])
    copies = await chain.aduplicate_many(2)
    await copies[0].kwargs.aupdate(plus=10)
    assert [type(copy) for copy in copies] == [ChainTaskSignature] * 2
    assert all(copy.tasks == chain.tasks and copy.key != chain.key for copy in copies)
    async with mage.worker():
        assert await copies[0].run({"value": 0}) == 20
        assert await copies[1].run({"value": 0}) == 2
        assert await chain.run({"value": 0}) == 2
    assert len(log) == 3


async def test_a_step_whose_required_field_nothing_fills_warns_and_is_refused_at_the_start(
    mage: Mageflow, face: Face, log: Log
) -> None:
    class Strict(BaseModel):
        value: Annotated[int, ReturnValue()]
        unit: str

    ran: list[str] = []

    @mage.task
    async def measure(msg: Strict) -> int:
        ran.append(msg.unit)
        return msg.value

    step = await face.sign(measure)
    with pytest.warns(UnfilledFieldWarning, match=r"step 2, 'measure' of 'chain' requires 'unit'"):
        chain = await face.chain(["add", step])
    with pytest.raises(UnfilledFieldError, match="'unit'"):
        await chain.start({"value": 1})
    assert await mage.find_runs() == []
    await step.kwargs.aupdate(unit="m")
    await chain.start({"value": 1})
    bound = await face.chain(["add", await face.sign(measure)], unit="kg")
    await bound.start({"value": 1})
    await face.chain([await face.sign(measure), "add"])  # its first step gets what the chain is started with
    await work(mage)
    assert sorted(ran) == ["kg", "m"]


async def test_a_chain_as_a_callback_fills_its_first_steps_field(mage: Mageflow, face: Face, log: Log) -> None:
    class Strict(BaseModel):
        value: Annotated[int, ReturnValue()]
        unit: str

    @mage.task
    async def measure(msg: Strict) -> str:
        return f"{msg.value} {msg.unit}"

    lacking = await face.chain([measure, await face.sign("note", name="lacking")])
    with pytest.warns(UnfilledFieldWarning, match=r"the success callback 'measure' of 'add' requires 'unit'"):
        await face.sign("add", success_callbacks=[lacking])
    whole = await face.chain([await face.sign(measure, unit="m"), await face.sign("note", name="whole")])
    flow = await face.sign("add", success_callbacks=[whole])
    await flow.start({"value": 1})
    await work(mage)
    assert log == [("whole", "2 m")]


async def test_an_invalid_message_fails_its_step_and_the_chain(mage: Mageflow, face: Face, log: Log) -> None:
    chain = await face.chain(["note", "add"], error=await face.sign("note", name="error"))
    handle = await chain.start({"name": "not a number"})
    await work(mage)
    with pytest.raises(RunFailedError, match="InvalidMessageError"):
        await handle.result()
    assert [name for name, _ in log] == ["not a number", "error"]


async def test_a_delayed_chain_and_a_delayed_step_wait(mage: Mageflow, face: Face, log: Log) -> None:
    late = await face.chain(["add", "add"], run_options=RunOptions(delay=3600))
    handle = await late.start()
    assert await handle.status() is RunStatus.SCHEDULED
    step = await face.sign("add", run_options=RunOptions(delay=3600))
    waiting = await (await face.chain(["add", step])).start()
    await work(mage)
    assert await handle.status() is RunStatus.SCHEDULED
    assert await waiting.status() is RunStatus.RUNNING
    progress = (await waiting.info()).progress
    assert progress is not None
    assert (progress.succeeded, progress.running) == (1, 1)
