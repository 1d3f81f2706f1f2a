"""`explain` of chains and swarms: which members block, and why; of members, what they are members of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from mageflow import Explanation, Mageflow, OptionError, Progress, RunOptions, RunStatus, SwarmConfig
from mageflow.core.records import Record, RunRecord
from tests.api.conftest import until_status, work
from tests.api.test_explain import a_worker, command

pytestmark = pytest.mark.filterwarnings("ignore::mageflow.UnknownTaskWarning")


class Gate:
    """Tasks of which one stands still until it is let go, and one fails."""

    def __init__(self, mage: Mageflow) -> None:
        self.go_on = asyncio.Event()

        @mage.task
        async def quick(msg: dict[str, Any]) -> dict[str, Any]:
            return {**msg}

        @mage.task
        async def stands(msg: dict[str, Any]) -> None:
            await self.go_on.wait()

        @mage.task(retries=2, backoff_factor=600)
        async def flaky(msg: dict[str, Any]) -> None:
            raise ValueError("not yet")

        @mage.task
        async def fails(msg: dict[str, Any]) -> None:
            raise ValueError("never")

        self.quick, self.stands, self.flaky, self.fails = quick, stands, flaky, fails


@pytest.fixture
def gate(mage: Mageflow) -> Gate:
    return Gate(mage)


async def until_ended(mage: Mageflow, run_id: str, count: int) -> None:
    """Wait until so many members of a run have ended."""
    handle = await mage.load_run(run_id)
    assert handle is not None
    async with asyncio.timeout(20):
        async for seen in handle.events():
            if seen.progress is not None and seen.progress.ended >= count:
                return
    raise AssertionError("it ended before")


async def explained(mage: Mageflow, key: str, when: Callable[[Explanation], bool]) -> Explanation:
    """Explain it once that can be said of it."""
    changed = asyncio.Event()
    record = (await mage.store.load((key,)))[key]
    assert isinstance(record, RunRecord)

    def ring(_: Record | None) -> None:
        changed.set()

    unwatch = mage.store.watch_tree(record.root or key, ring)
    try:
        async with asyncio.timeout(20):
            while not when(told := await mage.explain(key)):
                with contextlib.suppress(TimeoutError):  # no ring tells that a time has come
                    await asyncio.wait_for(changed.wait(), 0.1)
                changed.clear()
            return told
    finally:
        unwatch()


def _inner(told: Explanation) -> list[str]:
    return [inner.status for each in told.members for inner in each.members]


# Chains


async def test_a_chain_says_at_which_step_it_is_and_what_that_one_waits_for(mage: Mageflow, gate: Gate) -> None:
    chain = await mage.chain([gate.quick, gate.stands, gate.quick], "import")
    run = await chain.start({})
    told = await mage.explain(run.id)
    assert (told.status, told.task_name, told.waits_for) == ("running", "import", "its step 1")
    assert told.reason == "It is at step 1 of 3."
    (first,) = told.members
    assert first.reason == f"It is due, but no worker is running on {mage.store.location}."
    assert first.member_of == f"step 1 of 3 of the chain 'import' ({run.id})"
    assert (first.facts["parent"], first.facts["place"]) == (run.id, 0)
    assert told.next_step == a_worker(mage), "what moves its member moves it"
    async with mage.worker("press"):
        await until_ended(mage, run.id, 1)
        told = await explained(mage, run.id, lambda told: [each.status for each in told.members] == ["running"])
        assert told.reason == "It is at step 2 of 3."
        assert told.members[0].reason.startswith("Its body runs in the worker press (process ")
        assert told.next_step is None
        assert told.facts["members"]["succeeded"] == 1
        gate.go_on.set()
        await run.settled(timeout=10)
    told = await mage.explain(run.id)
    assert told.reason.startswith("All of its 3 steps succeeded after ")
    assert (told.waits_for, told.members, told.next_step) == (None, [], None)


async def test_a_chain_that_failed_names_its_step(mage: Mageflow, gate: Gate) -> None:
    run = await (await mage.chain([gate.quick, gate.fails, gate.quick], "import")).start({})
    await work(mage)
    told = await mage.explain(run.id)
    assert told.reason.startswith("It failed at step 2 of 3, at ")
    assert told.reason.endswith(": ValueError: never. 1 later step never ran.")
    assert told.next_step == command(mage, "retry", run.id)
    (failed,) = told.members
    assert failed.task_name == "fails"


async def test_a_step_between_two_attempts(mage: Mageflow, gate: Gate) -> None:
    run = await (await mage.chain([gate.flaky, gate.quick])).start({})
    await work(mage)
    told = await mage.explain(run.id)
    (step,) = told.members
    assert step.status == "scheduled"
    assert step.reason.startswith("It failed with ValueError: not yet and is tried again in ")
    assert str(told).splitlines()[-1] == f"  {step.key}  flaky  scheduled: {step.reason}"


async def test_a_step_that_no_worker_knows(mage: Mageflow, gate: Gate) -> None:
    async with Mageflow(store=mage.store) as other:
        run = await (await other.chain(["quick", "quik"], "import")).start({})
    async with mage.worker():
        told = await explained(mage, run.id, lambda told: [each.status for each in told.members] == ["unroutable"])
    assert told.members[0].reason.startswith("No worker knows the task 'quik' (but 'quick'")
    assert told.next_step == a_worker(mage)


# Swarms


async def test_a_swarm_says_how_many_have_ended_and_that_its_window_is_full(mage: Mageflow, gate: Gate) -> None:
    members: list[Any] = [gate.quick, gate.fails, *[gate.stands] * 8]
    swarm = await mage.swarm(members, "pages", config=SwarmConfig(max_concurrency=5), is_swarm_closed=True)
    run = await swarm.start({})
    async with mage.worker():
        await until_ended(mage, run.id, 2)
        told = await mage.explain(run.id)
        gate.go_on.set()
    assert told.reason == (
        "2 of its 10 members have ended (1 succeeded and 1 failed). 5 are on their way, and its window of 5 is full: "
        "3 wait for room in it."
    )
    assert told.waits_for == "8 members"
    assert len(told.members) == 3, "the first few"
    assert told.other_members == 2
    assert str(told).splitlines()[-1] == "  and 2 others"
    assert told.facts["window"] == 5
    assert Explanation.model_validate_json(told.model_dump_json()) == told
    told = await mage.explain(run.id)
    assert told.reason.startswith("It succeeded after ")
    assert told.reason.endswith("10 of its 10 members have ended (9 succeeded and 1 failed).")


async def test_an_open_swarm_that_nobody_closed_says_how_to_close_it(mage: Mageflow, gate: Gate) -> None:
    swarm = await mage.swarm([gate.quick], "pages")
    run = await swarm.start({})
    told = await mage.explain(run.id)
    assert told.reason.endswith("does not end before somebody closes it: swarm.close_swarm().")
    assert told.next_step == a_worker(mage), "its member first"
    await work(mage)
    told = await mage.explain(run.id)
    assert told.reason == (
        "1 of its 1 member has ended (1 succeeded). It is open, and does not end before somebody closes it: "
        "swarm.close_swarm()."
    )
    assert (told.status, told.waits_for) == ("running", "its close, or more members")
    assert told.next_step == command(mage, "close", swarm.key)
    held = await mage.explain(swarm.key)
    assert held.reason.startswith(
        "This swarm 'pages' of 1 member is open; its window is 30. 1 of its runs has not ended"
    )
    assert held.next_step == command(mage, "close", swarm.key)
    await swarm.close_swarm()
    assert (await mage.explain(run.id)).status == "succeeded"
    held = await mage.explain(swarm.key)
    assert (
        held.reason == "This swarm 'pages' of 1 member is closed; its window is 30. None of its runs is still to end."
    )


async def test_a_swarm_that_closes_by_itself_waits_for_its_first_member(mage: Mageflow) -> None:
    swarm = await mage.swarm(config=SwarmConfig(auto_close=True))
    told = await mage.explain((await swarm.start()).id)
    assert told.waits_for == "its first member"
    assert told.next_step is None


async def test_a_swarm_that_is_stopping_and_one_that_was_stopped(mage: Mageflow, gate: Gate) -> None:
    config = SwarmConfig(max_concurrency=2, stop_after_n_failures=1)
    swarm = await mage.swarm([gate.stands, gate.fails, *[gate.quick] * 4], config=config, is_swarm_closed=True)
    run = await swarm.start({})
    async with mage.worker():
        await until_ended(mage, run.id, 5)
        told = await mage.explain(run.id)
        gate.go_on.set()
    assert told.reason.startswith("It is stopping: 1 member failed, and stop_after_n_failures is 1. ")
    assert [each.task_name for each in told.members] == ["stands"]
    told = await mage.explain(run.id)
    assert told.status == "failed"
    assert "1 of 6 members failed, and stop_after_n_failures is 1" in told.reason
    assert told.reason.endswith("6 of its 6 members have ended (1 succeeded, 1 failed and 4 cancelled).")
    assert [each.task_name for each in told.members] == ["fails"]
    assert told.next_step == command(mage, "retry", run.id)


# Held, cancelled, nested


async def test_a_held_swarm_waits_for_its_resume_and_says_what_has_begun(mage: Mageflow, gate: Gate) -> None:
    swarm = await mage.swarm([gate.stands, gate.quick], config=SwarmConfig(max_concurrency=1), is_swarm_closed=True)
    chain = await mage.chain([swarm, gate.quick], "import")
    run = await chain.start({})
    async with mage.worker():
        told = await explained(mage, run.id, lambda told: _inner(told) == ["running"])
        inner = told.members[0].key
        assert told.members[0].member_of == f"step 1 of 2 of the chain 'import' ({run.id})"
        await run.suspend()
        told = await explained(mage, inner, lambda told: told.status == "suspended")
        assert told.reason == (
            "It is held, and no further member begins (0 of its 2 members have ended; 1 member that had begun has not "
            f"ended): the run {run.id} of chain 'import', from which it follows, was suspended."
        )
        assert told.waits_for == f"a resume of {run.id}"
        assert told.next_step == command(mage, "resume", run.id)
        gate.go_on.set()
        outer = await mage.explain(run.id)
        assert outer.status == "suspended"
        assert outer.reason.startswith("It is held, and no further step begins (0 of 2 steps succeeded): ")
        await run.resume()
        await run.settled(timeout=20)
    assert (await mage.explain(run.id)).status == "succeeded"


async def test_a_member_that_is_held_itself_is_what_blocks(mage: Mageflow, gate: Gate) -> None:
    swarm = await mage.swarm([gate.quick] * 5, is_swarm_closed=True)
    run = await swarm.start({})
    members = [each async for each in swarm.members()]
    handle = await mage.load_run(members[3].run_id)
    assert handle is not None
    await handle.suspend()
    await work(mage)
    told = await mage.explain(run.id)
    (blocking,) = told.members
    assert blocking.key == handle.id
    assert blocking.reason == "It is held before its body begins: it was suspended itself."
    assert told.next_step == command(mage, "resume", handle.id)


async def test_a_cancelled_swarm(mage: Mageflow, gate: Gate) -> None:
    swarm = await mage.swarm([gate.quick, gate.quick], is_swarm_closed=True)
    run = await swarm.start({})
    await run.cancel()
    await work(mage)
    told = await mage.explain(run.id)
    assert told.status == "cancelled"
    assert ": it was cancelled itself. 2 of its 2 members have ended (2 cancelled)." in told.reason


async def test_what_is_left_to_a_worker_says_so_where_there_is_none(mage: Mageflow, gate: Gate) -> None:
    swarm = await mage.swarm(
        task=gate.quick, inputs=({"n": n} for n in range(1000)), config=SwarmConfig(max_concurrency=1000)
    )
    run = await swarm.start()
    told = await mage.explain(run.id)
    assert " are on their way, and a worker is to begin more: " in told.reason
    assert told.reason.endswith(f" No worker is running on {mage.store.location} that would carry on with that.")
    assert told.next_step == a_worker(mage)


async def test_one_run_of_a_swarm_is_resumed_with_another_window(mage: Mageflow, gate: Gate) -> None:
    swarm = await mage.swarm([gate.quick] * 9, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
    run, other = await swarm.start({}), await swarm.start({})
    await run.suspend()
    await run.resume(max_concurrency=4)
    assert (await mage.explain(run.id)).facts["window"] == 4
    assert (await run.info()).progress == Progress(total=9, waiting=5, running=4)
    assert (await mage.explain(other.id)).facts["window"] == 2, "that one alone"
    with pytest.raises(OptionError, match="max_concurrency"):
        await run.resume(max_concurrency=0)
    chain = await (await mage.chain([gate.quick, gate.quick])).start({})
    with pytest.raises(OptionError, match="is for swarms"):
        await chain.resume(max_concurrency=2)


async def test_a_chain_that_waits_for_its_time_and_one_that_is_due(mage: Mageflow, gate: Gate) -> None:
    chain = await mage.chain([gate.quick, gate.quick])
    told = await mage.explain((await chain.start({}, options=RunOptions(delay=3600))).id)
    assert told.status == "scheduled"
    assert told.reason.startswith("It was started to begin at ")
    soon = await chain.start({}, options=RunOptions(delay=0.001))
    told = await explained(mage, soon.id, lambda told: told.status == "queued")
    assert told.reason == (
        f"It is due, but no worker is running on {mage.store.location} that would begin its first members."
    )
    assert told.next_step == a_worker(mage)


async def test_the_signature_of_a_chain(mage: Mageflow, gate: Gate) -> None:
    chain = await mage.chain([gate.quick, gate.quick], "import")
    told = await mage.explain(chain.key)
    assert told.reason == "This chain 'import' of 2 steps is active. None of its runs is still to end."
    run = await chain.start({})
    await chain.suspend()
    told = await mage.explain(chain.key)
    assert told.status == "suspended"
    assert (await mage.explain(run.id)).next_step == command(mage, "resume", chain.key)
    await chain.resume()
    async with mage.worker():
        await until_status(run, RunStatus.SUCCEEDED)
