"""When a run begins, how often it is tried, how long it may take; and which option beats which."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from mageflow import (
    Mageflow,
    MageflowConfig,
    OptionError,
    RetryAfter,
    RunFailedError,
    RunOptions,
    RunStatus,
    TTLConfig,
    UnknownTaskWarning,
    current_run,
)
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock
from tests.api.conftest import Sign, work


async def test_a_delayed_run_stays_stored_until_its_time() -> None:
    clock = ManualClock()
    mage = Mageflow(store=MemoryStore(clock))

    @mage.task
    async def later() -> str:
        return "now"

    signature = await mage.sign(later, run_options=RunOptions(delay=60))
    handle = await signature.start()
    eta = datetime.fromtimestamp(clock.now() + 100, UTC)
    other = await (await mage.sign(later)).start(options=RunOptions(eta=eta))
    await work(mage)
    assert await handle.status() is await other.status() is RunStatus.SCHEDULED
    assert {run.id for run in await mage.find_runs(status="scheduled")} == {other.id, handle.id}
    clock.advance(60)
    assert await handle.status() is RunStatus.QUEUED
    assert [run.id for run in await mage.find_runs(status=RunStatus.QUEUED)] == [handle.id]
    await work(mage)
    assert await handle.result() == "now"
    clock.advance(41)
    await work(mage)
    assert await other.result() == "now"
    assert (await other.info()).due_at == eta


async def test_a_worker_wakes_up_for_a_delayed_run(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def soon() -> str:
        return "soon"

    async with mage.worker():
        assert await (await sign(soon)).run(options=RunOptions(delay=timedelta(milliseconds=50))) == "soon"


async def test_run_options_beat_the_signatures_which_beat_the_tasks_field_by_field(mage: Mageflow, sign: Sign) -> None:
    @mage.task(retries=1, priority=2, execution_timeout=10)
    async def task() -> None: ...

    plain = await (await sign(task)).start()
    signature = await sign(task, run_options=RunOptions(retries=2, priority=3))
    signed = await signature.start()
    run = await signature.start(options=RunOptions(retries=0))
    found = [(info.retries, info.priority) for info in [await each.info() for each in (plain, signed, run)]]
    assert found == [(1, 2), (2, 3), (0, 3)]
    await work(mage)


async def test_the_highest_priority_runs_first(mage: Mageflow, sign: Sign) -> None:
    order: list[int] = []

    @mage.task
    async def note(msg: dict[str, int]) -> None:
        order.append(msg["priority"])

    signature = await sign(note)
    for priority in (1, 3, 2, 1, 3):
        await signature.start({"priority": priority}, options=RunOptions(priority=priority))
    async with mage.worker(concurrency=1):
        pass
    assert order == [3, 3, 2, 1, 1]


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_steady_stream_of_high_work_does_not_starve_low_work(mage: Mageflow, concurrency: int) -> None:
    begun: list[str] = []
    low_began = asyncio.Event()

    @mage.task(priority=1)
    async def low() -> None:
        begun.append("low")
        low_began.set()

    @mage.task(priority=3)
    async def high(msg: dict[str, Any]) -> None:
        begun.append("high")
        if not low_began.is_set() and len(begun) < 500:  # as much again as is begun: there is always some waiting
            await stream.start()

    stream = await mage.sign(high)
    await (await mage.sign(low)).start()
    for _ in range(20):
        await stream.start()
    async with mage.worker(concurrency=concurrency):
        async with asyncio.timeout(20):
            await low_began.wait()
    place = begun.index("low")
    assert place < 8 + concurrency, "every eighth run that a worker takes is the longest due"
    assert place >= 7, "and all the others go by priority"


async def test_an_idempotency_key_gives_one_run(mage: Mageflow, sign: Sign) -> None:
    count: list[int] = []

    @mage.task
    async def charge(msg: dict[str, Any]) -> int:
        count.append(1)
        return len(count)

    @mage.task
    async def other() -> None: ...

    once = RunOptions(idempotency_key="order-7")
    signature = await sign(charge)
    handles = await asyncio.gather(*(signature.start({"n": n}, options=once) for n in range(10)))
    assert len({handle.id for handle in handles}) == 1
    again = await (await sign(charge, run_options=once)).start()
    assert again.id == handles[0].id
    assert (await (await sign(other)).start(options=once)).id != again.id
    await work(mage)
    assert (await signature.start(options=once)).id == again.id
    assert count == [1]


async def test_an_idempotency_key_with_a_window_gives_a_new_run_when_it_is_over() -> None:
    """Whether the run of the window before has ended or not, and however long ended runs are kept else."""
    clock = ManualClock()
    mage = Mageflow(store=MemoryStore(clock), config=MageflowConfig(ttl=TTLConfig(ttl_when_sign_done=60)))

    @mage.task
    async def charge(msg: dict[str, Any]) -> Any:
        return msg["n"]

    signature = await mage.sign(charge, run_options=RunOptions(idempotency_window=timedelta(hours=1)))
    once = RunOptions(idempotency_key="order-7")
    handles = await asyncio.gather(*(signature.start({"n": n}, options=once) for n in range(10)))
    first = handles[0]
    assert len({handle.id for handle in handles}) == 1
    await work(mage)
    clock.advance(3599)
    await mage.store.purge(100)
    again = await signature.start({"n": 99}, options=once)
    assert again.id == first.id
    assert await again.result() == 0, "it is kept as long as its key gives it"
    clock.advance(1)
    second = await signature.start({"n": 1}, options=once)
    assert second.id != first.id
    assert (await signature.start(options=once)).id == second.id
    clock.advance(3600)
    third = await signature.start({"n": 2}, options=once)
    assert third.id not in (first.id, second.id), "though the second has not ended"
    await work(mage)
    assert (await second.result(), await third.result()) == (1, 2)
    await mage.store.purge(100)
    clock.advance(3601)
    await mage.store.purge(100)
    assert await mage.load_run(third.id) is None, "then it goes like any other"


async def test_the_windows_of_a_key_are_each_tasks_own(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def one() -> None: ...

    @mage.task
    async def two() -> None: ...

    once = RunOptions(idempotency_key="k", idempotency_window=60)
    first, second = await (await sign(one)).start(options=once), await (await sign(two)).start(options=once)
    assert first.id != second.id
    await first.cancel()
    assert (await (await sign(one)).start(options=once)).id == first.id
    again = await first.retry()
    assert again.id != first.id
    assert (await (await sign(one)).start(options=once)).id == first.id


async def test_an_async_body_out_of_time_is_stopped_and_tried_again(mage: Mageflow, sign: Sign) -> None:
    stopped: list[int] = []

    @mage.task(execution_timeout=0.05, retries=1)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert current_run().cancelled
            stopped.append(current_run().attempt)
            raise

    handle = await (await sign(slow)).start()
    async with mage.worker():
        with pytest.raises(RunFailedError, match=r"ExecutionTimeout: .*execution_timeout of 0\.05 s"):
            await handle.result(timeout=10)
    assert stopped == [1, 2]


async def test_a_sync_body_out_of_time_is_told_and_abandoned(
    mage: Mageflow, sign: Sign, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()

    @mage.task(execution_timeout=0.05)
    def slow() -> None:
        while not current_run().cancelled:
            told.wait(0.001)
        told.set()

    handle = await (await sign(slow)).start()
    async with mage.worker():
        with pytest.raises(RunFailedError, match="ExecutionTimeout"):
            await handle.result(timeout=10)
    assert await asyncio.to_thread(told.wait, 10)
    assert "abandoned in its thread because of its execution_timeout" in caplog.text


async def test_a_run_that_no_worker_begins_in_time_fails() -> None:
    clock = ManualClock()
    mage = Mageflow(store=MemoryStore(clock))

    @mage.task
    async def late() -> None: ...

    handle = await (await mage.sign(late)).start(options=RunOptions(schedule_timeout=30))
    clock.advance(31)
    async with mage.worker():
        with pytest.raises(RunFailedError, match="ScheduleTimeout: no worker began this run"):
            await handle.result(timeout=10)


async def test_a_run_that_no_worker_can_begin_fails_in_time_all_the_same(mage: Mageflow, sign: Sign) -> None:
    """No claim ever looks at it: all places are taken, or nobody here knows its task."""
    told: list[str] = []
    over = asyncio.Event()

    @mage.task
    async def long() -> None:
        await over.wait()

    @mage.task(schedule_timeout=0.1)
    async def waits() -> None:
        told.append("ran")

    elsewhere = Mageflow(store=mage.store)
    with pytest.warns(UnknownTaskWarning):
        unknown = await elsewhere.sign("unknown", run_options=RunOptions(schedule_timeout=0.1))
    await (await sign(long)).start()
    async with mage.worker(concurrency=1):
        for handle in (await (await sign(waits)).start(), await unknown.start()):
            with pytest.raises(RunFailedError, match="ScheduleTimeout"):
                await handle.result(timeout=10)
        over.set()
    assert told == []


@pytest.mark.parametrize(
    ("raised", "attempts"),
    [(TimeoutError, 3), (ConnectionRefusedError, 3), (ConnectionResetError, 1), (ValueError, 1)],
)
async def test_only_the_named_exceptions_are_tried_again(
    mage: Mageflow, raised: type[Exception], attempts: int
) -> None:
    @mage.task(retries=2, retry_on=(TimeoutError, ConnectionError), give_up_on=ConnectionResetError)
    async def call() -> None:
        raise raised("no")

    handle = await (await mage.sign(call)).start()
    await work(mage)
    assert (await handle.info()).attempts == attempts


async def test_a_body_says_when_it_is_to_be_tried_again() -> None:
    clock = ManualClock()
    mage = Mageflow(store=MemoryStore(clock))

    @mage.task(retries=1, backoff_factor=2, retry_on=TimeoutError)
    async def busy() -> None:
        raise RetryAfter(timedelta(minutes=5), "the server is busy")

    handle = await (await mage.sign(busy)).start()
    await work(mage)
    info = await handle.info()
    assert info.due_at.timestamp() == pytest.approx(clock.now() + 300)
    assert info.failure is not None
    assert (info.failure.type, info.failure.message) == ("RetryAfter", "the server is busy")
    clock.advance(301)
    await work(mage)
    assert await handle.status() is RunStatus.FAILED


async def test_a_retry_waits_for_its_backoff() -> None:
    clock = ManualClock()
    mage = Mageflow(store=MemoryStore(clock))
    attempts: list[float] = []

    @mage.task(retries=3, backoff_factor=10, backoff_max_seconds=50)
    async def flaky() -> None:
        attempts.append(clock.now())
        raise RuntimeError

    handle = await (await mage.sign(flaky)).start()
    for longest in (10, 50, 50):
        await work(mage)
        info = await handle.info()
        pause = info.due_at.timestamp() - clock.now()
        assert longest * 0.75 <= pause <= longest
        assert info.status is RunStatus.SCHEDULED
        assert info.failure is not None
        clock.advance(longest)
    await work(mage)
    assert await handle.status() is RunStatus.FAILED
    assert len(attempts) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delay": -1}, ["delay=-1", "zero or more"]),
        ({"delay": timedelta(seconds=-1)}, ["delay", "zero or more"]),
        ({"delay": float("nan")}, ["delay", "finite"]),
        ({"delay": "soon"}, ["delay='soon'", "timedelta"]),
        ({"eta": datetime(2030, 1, 1)}, ["eta", "no time zone", "aware"]),  # noqa: DTZ001 - naive on purpose
        ({"eta": 5}, ["eta=5", "datetime"]),
        ({"eta": datetime(2030, 1, 1, tzinfo=UTC), "delay": 5}, ["delay and eta"]),
        ({"retries": -1}, ["retries=-1", "0 or more"]),
        ({"retries": 1.5}, ["retries=1.5", "whole number"]),
        ({"retries": True}, ["retries=True"]),
        ({"priority": 0}, ["priority=0", "from 1 to 3"]),
        ({"priority": 4}, ["priority=4", "from 1 to 3"]),
        ({"execution_timeout": 0}, ["execution_timeout=0", "more than zero"]),
        ({"schedule_timeout": -5}, ["schedule_timeout=-5"]),
        ({"backoff_factor": 0.5}, ["backoff_factor=0.5", "1 or more"]),
        ({"idempotency_key": ""}, ["idempotency_key=''", "not empty"]),
        ({"idempotency_window": 0}, ["idempotency_window=0"]),
        ({"idempotency_key": 7}, ["idempotency_key=7", "string"]),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_with_what_is_allowed(
    options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(OptionError) as caught:
        RunOptions(**options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retrys": 3}, ["'retrys'", "retries"]),
        ({"timeout": 3}, ["'timeout'"]),
        ({"concurrency": "input.user_id"}, ["concurrency", "Hatchet"]),
        ({"rate_limits": []}, ["rate_limits", "Hatchet"]),
        ({"queue_name": "x"}, ["queue_name", "Taskiq"]),
        ({"retry_on": "TimeoutError"}, ["retry_on='TimeoutError'", "exception class"]),
        ({"give_up_on": [KeyboardInterrupt]}, ["give_up_on", "exception class"]),
        ({"eta": datetime(2030, 1, 1, tzinfo=UTC)}, ["eta", "RunOptions(eta=...)"]),
        ({"retries": -1}, ["retries=-1"]),
    ],
)
def test_an_option_of_a_task_that_is_unknown_or_another_engines_is_refused(
    mage: Mageflow, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(OptionError) as caught:
        cast("Any", mage).task(**options)(lambda: None)

    for word in words:
        assert word in str(caught.value)


async def test_options_of_a_run_must_be_run_options(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop() -> None: ...

    signature: Any = await sign(noop)
    with pytest.raises(OptionError, match=r"RunOptions\(retries=3\)"):
        await signature.start(options={"delay": 5})
