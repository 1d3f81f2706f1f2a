"""What a swarm receives: members added one by one, by its own bodies or in bulk, and its close."""

from __future__ import annotations

import pytest

from mageflow import (
    InvalidSignatureError,
    Mageflow,
    RunStatus,
    SwarmClosedError,
    SwarmConfig,
    SwarmIsCanceledError,
    SwarmOpenError,
    SwarmTaskSignature,
    TaskAndMsgsDontMatchForSwarmError,
    TooManyTasksError,
    current_run,
)
from tests.api.conftest import Face, is_a, work
from tests.api.flow_tasks import Item, Log, closed

# Adding and closing


async def test_aio_run_in_swarm_adds_a_member_and_opens_the_swarm(mage: Mageflow, face: Face, log: Log) -> None:
    after = await face.sign("note", name="after")
    swarm = await face.swarm(success_callbacks=[after])
    first = await swarm.aio_run_in_swarm("times", Item(n=1))
    again = await swarm.aio_run_in_swarm([await face.sign("times"), "times"], {"n": 2})
    third = await swarm.aio_run_tasks_in_swarm(["times", "times"], [Item(n=3), None])
    assert first.id == again.id == third.id
    await work(mage)
    assert await first.status() is RunStatus.RUNNING
    assert not await swarm.is_swarm_done()
    await swarm.close_swarm()
    await swarm.close_swarm()
    assert await first.result() == [2, 4, 4, 6, 0]
    assert await swarm.is_swarm_done()
    await work(mage)
    assert log == [("after", [2, 4, 4, 6, 0])]


async def test_unequal_lists_of_tasks_and_messages_are_refused(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm()
    with pytest.raises(TaskAndMsgsDontMatchForSwarmError, match="2 tasks and 1 messages"):
        await swarm.aio_run_tasks_in_swarm(["times", "times"], [Item()])
    await swarm.refresh()
    assert swarm.tasks == []
    assert await mage.find_runs() == []


async def test_members_added_before_the_start_begin_with_it(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"])
    await swarm.add_task("times", Item(by=3))
    await swarm.add_tasks(["times", await face.sign("times", by=4)])
    await work(mage)
    assert await mage.find_runs() == []
    handle = await swarm.start({"n": 1})
    await swarm.close_swarm()
    await work(mage)
    assert await handle.result() == [2, 3, 2, 4]


async def test_closed_means_closed(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"])
    await swarm.close_swarm()
    assert swarm.is_swarm_closed
    for add in (swarm.add_task("times"), swarm.add_tasks(["times"]), swarm.aio_run_in_swarm("times", Item())):
        with pytest.raises(SwarmClosedError, match="is closed") as caught:
            await add
        assert caught.value.key == swarm.key
    born_closed = await face.swarm(["times"], is_swarm_closed=True)
    with pytest.raises(SwarmClosedError):
        await born_closed.add_task("times")


async def test_too_many_members_are_refused_and_none_of_them_is_added(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(max_task_allowed=2)
    with pytest.raises(TooManyTasksError, match="max_task_allowed is 2"):
        await face.swarm(["times"] * 3, config=config)
    swarm = await face.swarm(["times"], config=config)
    with pytest.raises(TooManyTasksError, match="max_task_allowed of 2"):
        await swarm.add_tasks(["times", "times"])
    await swarm.refresh()
    assert len(swarm.tasks) == 1


async def test_a_swarm_closes_when_it_has_as_many_members_as_it_may_unless_asked_not_to(
    mage: Mageflow, face: Face, log: Log
) -> None:
    config = SwarmConfig(max_task_allowed=2)
    swarm = await face.swarm(["times"], config=config)
    await swarm.add_task("times")
    assert swarm.is_swarm_closed
    with pytest.raises(SwarmClosedError):
        await swarm.add_task("times")
    kept_open = await face.swarm(["times"], config=config)
    await kept_open.add_task("times", close_on_max_task=False)
    assert not kept_open.is_swarm_closed
    with pytest.raises(TooManyTasksError):
        await kept_open.add_task("times")


async def test_after_a_stop_no_member_is_added(mage: Mageflow, face: Face, log: Log) -> None:
    stopped = await face.swarm(["fail"], config=SwarmConfig(stop_after_n_failures=1))
    handle = await stopped.start()
    await work(mage)
    assert await handle.status() is RunStatus.FAILED
    cancelled = await face.swarm(["times"])
    await cancelled.start()
    await cancelled.cancel()
    for swarm in (stopped, cancelled):
        with pytest.raises(SwarmIsCanceledError, match="stopped by failures or cancelled"):
            await swarm.add_task("times")


async def test_run_on_an_open_swarm_is_refused_as_it_would_never_end(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"])
    for attempt in (swarm.run({"n": 1}), swarm.aio_run({"n": 1})):
        with pytest.raises(SwarmOpenError, match="auto_close"):
            await attempt
    assert await mage.find_runs() == []


async def test_auto_close_closes_with_its_last_member(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(auto_close=True)
    swarm = await face.swarm(["times", "times"], config=config)
    async with mage.worker():
        assert await swarm.run({"n": 4}) == [8, 8]
    with pytest.raises(SwarmClosedError):
        await swarm.add_task("times")
    empty = await face.swarm(config=config)
    handle = await empty.start()
    await work(mage)
    assert await handle.status() is RunStatus.RUNNING  # it waits for its first member
    await empty.aio_run_in_swarm("times", {"n": 1})
    await work(mage)
    assert await handle.result() == [2]


async def test_a_body_adds_members_to_the_swarm_it_is_in(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def grow(msg: Item) -> int:
        key = current_run().swarm
        assert key is not None
        swarm = await face.load_signature(key)
        assert is_a(swarm, SwarmTaskSignature)
        if msg.n > 0:
            await swarm.add_task("grow", Item(n=msg.n - 1))
        return msg.n

    swarm = await face.swarm([grow], config=SwarmConfig(auto_close=True, max_concurrency=1))
    async with mage.worker():
        assert await swarm.run({"n": 5}) == [5, 4, 3, 2, 1, 0]


async def test_outside_of_a_swarm_the_current_run_has_none(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def where() -> str | None:
        return current_run().swarm

    async with mage.worker():
        assert await (await face.sign(where)).run() is None
        assert await (await face.chain([where, where])).run() is None
        inner = await face.chain([where, where])
        swarm = await face.swarm([inner], **closed())
        assert await swarm.run() == [swarm.key]


async def test_with_as_many_members_as_it_may_have_from_the_start_it_is_closed(
    mage: Mageflow, face: Face, log: Log
) -> None:
    swarm = await face.swarm(["times"] * 2, config=SwarmConfig(max_task_allowed=2))
    assert swarm.is_swarm_closed
    async with mage.worker():
        assert await swarm.run({"n": 1}) == [2, 2]


async def test_many_additions_at_once_are_all_made_or_none(mage: Mageflow, face: Face, log: Log) -> None:
    one = await face.sign("times")
    swarm = await face.swarm(config=SwarmConfig(max_task_allowed=500))
    with pytest.raises(TooManyTasksError):
        await swarm.add_tasks([one] * 501)
    await swarm.refresh()
    assert swarm.tasks == []
    await swarm.add_tasks([one] * 500)
    assert swarm.is_swarm_closed


async def test_a_swarm_is_no_member_of_itself(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(config=SwarmConfig(auto_close=True))
    with pytest.raises(InvalidSignatureError, match="make it a callback"):
        await swarm.add_task(swarm)
    around = await face.chain([swarm, await face.sign("note", name="after")])
    await swarm.add_task(around)  # which nobody can see before it runs
    handle = await swarm.start()
    await work(mage)
    assert await handle.result() == []
    (within,) = [run for run in await mage.find_runs(task_name="swarm") if run.id != handle.id]
    failure = (await within.outcome()).failure
    assert failure is not None
    assert [run.seen.status for run in await mage.find_runs(task_name="chain")] == [RunStatus.FAILED]
    assert failure.type == "EndlessNestingError"
    assert "a member of itself" in failure.message


async def test_an_open_swarm_that_is_closed_without_members_succeeds(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm()
    handle = await swarm.start()
    assert (await swarm.start()).id == handle.id
    await swarm.close_swarm()
    assert await handle.result() == []


# Bulk


async def test_a_swarm_of_inputs_is_closed_and_has_a_member_for_each(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(task="times", inputs=(Item(n=n) for n in range(130)), by=3)
    assert swarm.is_swarm_closed
    assert len(swarm.tasks) == 130
    async with mage.worker():
        assert await swarm.run() == [3 * n for n in range(130)]


async def test_map_makes_such_a_swarm_of_the_tasks_own_client(mage: Mageflow, face: Face, log: Log) -> None:
    @mage.task
    async def square(msg: Item) -> int:
        return msg.n**2

    after = await face.sign("note", name="after")
    swarm = await square.map([Item(n=n) for n in range(4)], "squares", success_callbacks=[after])
    assert (swarm.task_name, swarm.is_swarm_closed) == ("squares", True)
    async with mage.worker():
        assert await swarm.run() == [0, 1, 4, 9]
    assert log == [("after", [0, 1, 4, 9])]
