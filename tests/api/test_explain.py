"""`explain`: why a run is where it is, what it waits for, since when, and the command that moves it."""

from __future__ import annotations

import asyncio
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import mageflow
from mageflow import Explanation, Mageflow, MageflowConfig, RunHandle, RunOptions, RunStatus
from tests.api.conftest import until_status, work

pytestmark = pytest.mark.filterwarnings("ignore::mageflow.UnknownTaskWarning")


def command(mage: Mageflow, *words: str) -> str | None:
    """The command line on this store; memory is reached by no other process."""
    location = mage.store.location
    return None if location.startswith("memory") else shlex.join(("mageflow", *words, "--store", location))


def a_worker(mage: Mageflow) -> str | None:
    return None if mage.store.location.startswith("memory") else "mageflow worker pkg.mod:mage"


def since(explanation: Explanation) -> datetime:
    """Since when; never later than it was looked at."""
    assert explanation.since is not None
    assert explanation.since <= explanation.at
    return explanation.since


# Waiting


async def test_a_delayed_run_waits_for_its_time(mage: Mageflow) -> None:
    @mage.task
    async def later() -> None:
        return

    run = await (await mage.sign(later)).start(options=RunOptions(delay=9000))
    told = await mage.explain(run.id)
    assert (told.key, told.kind, told.task_name, told.status) == (run.id, "run", "later", "scheduled")
    assert told.reason.startswith("It was started to begin at ")
    assert told.reason.endswith(": that is in 2 h 30 min.")
    assert told.waits_for is not None
    assert told.waits_for.startswith("its time, ")
    assert since(told) == run.created_at
    assert told.next_step is None
    assert told.facts["due_at"] == run.seen.due_at.isoformat()


async def test_a_run_between_two_attempts_says_which_retry_why_and_when(mage: Mageflow) -> None:
    @mage.task(retries=3, backoff_factor=600)
    async def fails() -> None:
        raise ValueError("no\nsecond line")

    run = await (await mage.sign(fails)).start()
    await work(mage)
    told = await mage.explain(run.id)
    assert told.status == "scheduled"
    assert told.reason.startswith("It failed with ValueError: no and is tried again in ")
    assert told.reason.endswith(": retry 1 of 3.")
    assert told.facts["failure"] == {"type": "ValueError", "message": "no\nsecond line"}
    assert told.facts["attempts"] == 1
    started = run.created_at if (seen := await run.info()).started_at is None else seen.started_at
    assert started <= since(told) <= told.at, "since the attempt failed, not since the run was made"


async def test_a_due_run_where_no_worker_runs(mage: Mageflow) -> None:
    @mage.task
    async def due() -> None:
        return

    run = await (await mage.sign(due)).start()
    told = await mage.explain(run.id)
    assert (told.status, told.waits_for) == ("queued", "a worker that knows the task 'due'")
    assert told.reason == f"It is due, but no worker is running on {mage.store.location}."
    assert since(told) == run.created_at
    assert told.next_step == a_worker(mage)


async def test_a_due_run_where_workers_are_busy(mage: Mageflow) -> None:
    go_on = asyncio.Event()

    @mage.task
    async def busy() -> None:
        await go_on.wait()

    signature = await mage.sign(busy)
    first = await signature.start()
    async with mage.worker(concurrency=1):
        await until_status(first, RunStatus.RUNNING)
        second = await signature.start(options=RunOptions(schedule_timeout=60))
        told = await mage.explain(second.id)
        go_on.set()
    assert (told.status, told.waits_for, told.next_step) == ("queued", "a free place in a worker", None)
    assert told.reason.startswith(
        "It is due: the next free place in a worker takes it. 1 live worker knows the task 'busy' and holds 1 run now."
    )
    assert told.reason.endswith(", its schedule_timeout.")
    assert told.facts["workers_that_know"] == 1


async def test_an_unroutable_run_says_until_when_it_waits_and_what_is_known(mage: Mageflow) -> None:
    @mage.task
    async def send_email() -> None:
        return

    async with Mageflow(store=mage.store) as other:
        run = await (await other.sign("send_mail")).start()
        assert (await other.explain(run.id)).status == "queued"
        async with mage.worker():
            await until_status(run, RunStatus.UNROUTABLE)
            told = await mage.explain(run.id)
    assert told.reason.startswith("No worker knows the task 'send_mail' (but 'send_email'). It fails at ")
    assert told.waits_for == "a worker that knows the task 'send_mail'"
    assert told.next_step == a_worker(mage)
    assert since(told) >= run.created_at
    fails_at = datetime.fromisoformat(told.facts["fails_at"])
    assert fails_at - since(told) == timedelta(hours=24)


# Held


async def test_a_suspended_run_names_what_holds_it_and_the_command_that_resumes_that(mage: Mageflow) -> None:
    @mage.task
    async def step() -> None:
        return

    signature = await mage.sign(step)
    run = await signature.start()
    before = datetime.now(UTC)
    await run.suspend()
    told = await mage.explain(run.id)
    assert told.status == "suspended"
    assert told.reason == "It is held before its body begins: it was suspended itself."
    assert told.waits_for == f"a resume of {run.id}"
    assert told.next_step == command(mage, "resume", run.id)
    assert since(told) >= before - timedelta(seconds=1)
    assert told.facts["held_by"] == [{"key": run.id, "control": "suspend"}]

    await signature.suspend()
    told = await mage.explain(run.id)
    assert told.next_step == command(mage, "resume", signature.key)
    await signature.resume()
    assert await run.status() is RunStatus.QUEUED, "what it says is enough"
    await signature.suspend()

    started = await signature.start()
    told = await mage.explain(started.id)
    assert told.reason.endswith(f"its signature {signature.key} was suspended, and with it all of its runs.")
    assert told.next_step == command(mage, "resume", signature.key)
    assert since(told) == started.created_at


async def test_a_callback_that_is_held_by_its_ancestor_names_that_one(mage: Mageflow) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    @mage.task
    async def first() -> None:
        entered.set()
        await go_on.wait()

    @mage.task
    async def second() -> None:
        return

    run = await (await mage.sign(first, success_callbacks=[second])).start()
    async with mage.worker():
        await entered.wait()
        await run.suspend()
        told = await mage.explain(run.id)
        assert told.reason.endswith(
            "Since it was suspended itself, what follows this run is held; its body ends as it would."
        )
        go_on.set()
        await run.result(timeout=10)
        (held,) = await run.caused()
        told = await mage.explain(held.id)
        assert told.status == "suspended"
        assert f"the run {run.id} of task 'first', from which it follows, was suspended" in told.reason
        assert told.next_step == command(mage, "resume", run.id)
        await run.resume()
        await run.settled(timeout=10)


async def test_an_interrupted_run_begins_again_when_it_is_resumed(mage: Mageflow) -> None:
    entered = asyncio.Event()

    @mage.task
    async def endless() -> None:
        entered.set()
        await asyncio.sleep(3600)

    run = await (await mage.sign(endless)).start()
    async with mage.worker():
        await entered.wait()
        await run.interrupt()
        await until_status(run, RunStatus.INTERRUPTED)
        told = await mage.explain(run.id)
        await run.cancel()
    assert told.status == "interrupted"
    assert told.reason.startswith("Its body was stopped in attempt 1, and runs again from its beginning")
    assert told.next_step == command(mage, "resume", run.id)
    assert since(told) >= run.created_at


# Running


async def test_a_running_run_says_who_holds_it_and_whether_that_one_beats(mage: Mageflow) -> None:
    go_on = asyncio.Event()

    @mage.task(execution_timeout=600)
    async def body() -> None:
        await go_on.wait()

    run = await (await mage.sign(body)).start()
    async with mage.worker("press") as worker:
        await until_status(run, RunStatus.RUNNING)
        told = await mage.explain(run.id)
        watched = await mage.explain(run.id, watch=10)
        go_on.set()
    assert (told.status, told.waits_for, told.next_step) == ("running", "the end of its body", None)
    assert told.reason.startswith("Its body runs in the worker press (process ")
    assert "attempt 1. It is stopped at " in told.reason
    assert told.facts["beat_seen"] is None
    assert watched.facts["beat_seen"] is True
    assert ", and the worker beats." in watched.reason
    assert told.facts["worker"] == worker_key(told) != ""
    assert told.facts["worker_name"] == "press"
    assert since(told) >= run.created_at
    del worker


def worker_key(told: Explanation) -> str:
    key: str = told.facts["worker"]
    return key if key.startswith("wrk_") else ""


async def test_a_body_that_was_asked_to_stop_and_has_not(mage: Mageflow) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    @mage.task
    async def stubborn() -> None:
        entered.set()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue

    run = await (await mage.sign(stubborn)).start()
    async with mage.worker():
        await entered.wait()
        await run.cancel()
        told = await mage.explain(run.id)
        go_on.set()
    assert told.status == "running"
    assert "Since it was cancelled itself, its body is asked to stop" in told.reason


# Ended


async def test_a_run_that_succeeded_says_what_it_caused(mage: Mageflow) -> None:
    @mage.task
    async def first() -> None:
        return

    @mage.task
    async def second() -> None:
        return

    run = await (await mage.sign(first, success_callbacks=[second, second])).start()
    await work(mage)
    told = await mage.explain(run.id)
    assert (told.status, told.waits_for, told.next_step) == ("succeeded", None, None)
    assert told.reason.startswith("It succeeded in attempt 1 after ")
    assert told.reason.endswith("Its end started 2 succeeded.")
    assert told.since == (await run.info()).ended_at
    assert set(told.facts["caused"].values()) == {"succeeded"}


async def test_a_run_that_failed_can_be_tried_again(mage: Mageflow) -> None:
    @mage.task(retries=1)
    async def fails() -> None:
        raise ValueError("no")

    run = await (await mage.sign(fails)).start()
    await work(mage)
    told = await mage.explain(run.id)
    assert told.reason.startswith("It failed in attempt 2, the last of 2, at ")
    assert told.reason.endswith(": ValueError: no.")
    assert told.next_step == command(mage, "retry", run.id)
    again = await run.retry()
    told = await mage.explain(run.id)
    assert told.reason.endswith(f"It was tried again as {again.id}, which is queued.")
    assert told.next_step is None


async def test_a_cancelled_run_says_what_cancelled_it(mage: Mageflow) -> None:
    @mage.task
    async def step() -> None:
        return

    run = await (await mage.sign(step)).start()
    await run.cancel()
    told = await mage.explain(run.id)
    assert told.status == "cancelled"
    assert told.reason.endswith(": it was cancelled itself.")
    assert told.next_step == command(mage, "retry", run.id)


# Signatures, and what is not there


async def test_a_signature(mage: Mageflow) -> None:
    @mage.task
    async def step() -> None:
        return

    signature = await mage.sign(step)
    told = await mage.explain(signature.key)
    assert (told.kind, told.status, told.task_name, told.next_step) == ("signature", "active", "step", None)
    assert told.reason == "This signature of the task 'step' is active. None of its runs is still to end."
    await signature.start()
    told = await mage.explain(signature.key)
    assert told.reason.endswith(" 1 of its runs has not ended (1 queued); no worker is running that knows the task.")
    assert told.next_step == a_worker(mage)

    await signature.suspend()
    told = await mage.explain(signature.key)
    assert told.status == "suspended"
    assert told.reason.startswith("This signature was suspended: its runs are held, those that are still to be started")
    assert told.next_step == command(mage, "resume", signature.key)
    assert since(told) >= signature.creation_time


@pytest.mark.parametrize("key", ["run_zzz", "sig_zzz", "", "nonsense"])
async def test_a_key_that_the_store_does_not_have_is_explained_too(mage: Mageflow, key: str) -> None:
    told = await mage.explain(key)
    assert (told.kind, told.status, told.since) == ("unknown", "unknown", None)
    assert told.reason.startswith(f"{mage.store.location} has nothing under this key")
    assert told.next_step == command(mage, "ls")


async def test_an_expired_run_is_dated_by_its_id(tmp_path: Path) -> None:
    config = MageflowConfig(ttl=mageflow.TTLConfig(ttl_when_sign_done=0.01))
    async with Mageflow(store=tmp_path / "flows.db", config=config) as mage:

        @mage.task
        async def step() -> None:
            return

        run = await (await mage.sign(step)).start()
        await work(mage)
        async with asyncio.timeout(10):
            while await mage.load_run(run.id) is not None:
                await mage.purge()
        told = await mage.explain(run.id)
    assert "Going by its id it was made " in told.reason
    made = datetime.fromisoformat(told.facts["made_at"])
    assert abs(made - run.created_at) < timedelta(seconds=2)


# How it is said


async def test_it_prints_well_and_is_json(mage: Mageflow) -> None:
    @mage.task
    async def step() -> None:
        return

    run: RunHandle[None] = await (await mage.sign(step)).start()
    await run.suspend()
    told = await mageflow.explain(run.id)
    lines = str(told).splitlines()
    assert lines[0] == f"{run.id}  step  suspended"
    assert lines[1] == told.reason
    assert [line.split("  ")[0] for line in lines[2:4]] == ["waits for", "since"]
    assert (lines[4] if len(lines) > 4 else None) == (f"next step  {told.next_step}" if told.next_step else None)
    assert Explanation.model_validate_json(told.model_dump_json()) == told
