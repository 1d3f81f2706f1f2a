"""Suspend, interrupt, resume and cancel, on whole trees of chains and swarms."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mageflow import (
    Mageflow,
    RunCancelledError,
    RunHandle,
    RunStatus,
)
from tests.api.conftest import Face, Gates, gated_chain, gated_swarm, until_status, work
from tests.api.flow_tasks import Log

# Suspending


async def test_a_suspended_chain_stops_before_its_next_step(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    chain = await gated_chain(face, "first", "second")
    handle = await chain.start()
    async with mage.worker():
        await gates.until("first")
        await face.pause(chain.key)
        assert await handle.status() is RunStatus.SUSPENDED
        await gates.open()
        (first,) = await mage.find_runs(task_name="gated")
        assert await first.result(timeout=20) == "first"
        assert len(await mage.find_runs(task_name="gated")) == 1
        await face.resume(chain.key)
        assert await handle.result(timeout=20) == "second"
    assert gates.entered == ["first", "second"]


async def test_a_suspended_swarm_closes_its_window_and_resume_opens_it(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    swarm = await gated_swarm(face, "a", "b", "c", window=1)
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a")
        await handle.suspend()
        await gates.open("a", "b")
        (a,) = await mage.find_runs(task_name="gated")
        await a.result(timeout=20)
        assert (await swarm.progress()).waiting == 2
        await handle.resume()
        await gates.until("c")
        await gates.open()
        assert await handle.result(timeout=20) == ["a", "b", "c"]
    assert gates.entered == ["a", "b", "c"]


async def test_a_suspended_swarm_that_was_not_started_begins_when_it_is_resumed(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    swarm = await gated_swarm(face, "a")
    await swarm.pause_task("suspend")
    assert swarm.task_status == "suspended"
    handle = await swarm.start()
    await gates.open()
    await work(mage)
    assert await handle.status() is RunStatus.SUSPENDED
    await swarm.resume()
    await work(mage)
    assert await handle.result() == ["a"]


async def test_members_that_are_added_while_it_is_suspended_wait(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    swarm = await face.swarm()
    handle = await swarm.start()
    await swarm.suspend()
    await swarm.aio_run_in_swarm("gated", {"name": "late"})
    await swarm.close_swarm()
    await gates.open()
    await work(mage)
    assert gates.entered == []
    await swarm.resume()
    await work(mage)
    assert await handle.result() == ["late"]


async def test_suspending_the_root_reaches_every_descendant(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    inner = await gated_chain(face, "a1", "a2")
    swarm = await face.swarm([inner, await gated_chain(face, "b1", "b2")], is_swarm_closed=True)
    root = await face.chain([swarm, await face.sign("note", name="end")])
    handle = await root.start()
    async with mage.worker():
        await gates.until("a1", "b1")
        await handle.suspend()
        await gates.open()
        for run in await mage.find_runs(task_name="gated"):
            await run.result(timeout=20)
        assert sorted(gates.entered) == ["a1", "b1"]
        await handle.resume()
        assert await handle.result(timeout=20) == "end"
    assert sorted(gates.entered) == ["a1", "a2", "b1", "b2"]
    assert log == [("end", ["a2", "b2"])]


async def test_resuming_with_a_new_window(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    swarm = await gated_swarm(face, *"abcdef", window=2)
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a", "b")
        await swarm.suspend()
        await swarm.resume(max_concurrency=4)
        await gates.until("a", "b", "c", "d")
        counted = await swarm.progress()
        assert (counted.running, counted.waiting) == (4, 2)
        assert swarm.config.max_concurrency == 4
        await swarm.resume(max_concurrency=1)
        await gates.open("a", "b", "c")
        for member in [member async for member in swarm.members()][:3]:
            run = await mage.load_run(member.run_id)
            assert run is not None
            await run.result(timeout=20)
        assert (await swarm.progress()).running == 1
        await gates.open()
        assert await handle.result(timeout=20) == list("abcdef")


# Interrupting


async def test_an_interrupted_tree_stops_what_runs_and_resume_runs_it_again(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    swarm = await gated_swarm(face, "a", "b", "c", window=2)
    root = await face.chain([swarm, await face.sign("note", name="end")])
    handle = await root.start()
    async with mage.worker():
        await gates.until("a", "b")
        await face.pause(root.key, "interrupt")
        for run in await mage.find_runs(task_name="gated"):
            await until_status(run, RunStatus.INTERRUPTED)
        assert await handle.status() is RunStatus.INTERRUPTED
        await gates.open()
        await face.resume(root.key)
        assert await handle.result(timeout=20) == "end"
    assert sorted(gates.entered) == ["a", "a", "b", "b", "c"]
    assert log == [("end", ["a", "b", "c"])]


async def test_what_succeeded_does_not_run_again_after_an_interrupt(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    chain = await gated_chain(face, "first", "second", "third")
    handle = await chain.start()
    async with mage.worker():
        await gates.open("first")
        await gates.until("second")
        await handle.interrupt()
        await until_status((await mage.find_runs(task_name="gated"))[0], RunStatus.INTERRUPTED)
        await gates.open()
        await handle.resume()
        assert await handle.result(timeout=20) == "third"
    assert gates.entered == ["first", "second", "second", "third"]


Deed = Callable[[RunHandle[Any]], Awaitable[None]]


async def _suspend(handle: RunHandle[Any]) -> None:
    await handle.suspend()


async def _interrupt(handle: RunHandle[Any]) -> None:
    await handle.interrupt()


async def _resume(handle: RunHandle[Any]) -> None:
    await handle.resume()


@pytest.mark.parametrize(
    "deeds",
    list(itertools.product([_suspend, _interrupt, _resume], repeat=3)),
    ids=lambda deeds: "-".join(deed.__name__.strip("_") for deed in deeds),
)
async def test_in_any_order_and_repeated_and_the_tree_ends_as_if_nothing_had_been(
    mage: Mageflow, log: Log, gates: Gates, deeds: tuple[Deed, ...]
) -> None:
    inner = await mage.chain([await mage.sign("gated", name=name) for name in ("1", "2")])
    swarm = await mage.swarm([inner, *[await mage.sign("gated", name=name) for name in "abcd"]], is_swarm_closed=True)
    root = await mage.chain([swarm, await mage.sign("note", name="end")])
    handle = await root.start()
    async with mage.worker(concurrency=3):
        await gates.open("1", "a", "c")
        await gates.until("b")
        for deed in deeds:  # while members begin and end
            await deed(handle)
            await deed(handle)
        await gates.open()
        for _ in range(2):
            await handle.resume()
        assert await handle.result(timeout=20) == "end"
    assert log == [("end", ["2", "a", "b", "c", "d"])]
    assert sorted(set(gates.entered)) == ["1", "2", "a", "b", "c", "d"]


# Cancelling


async def test_one_handle_cancels_the_whole_tree(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    done = {"done_callbacks": [await face.sign("note", name="done")]}
    other = await face.sign("note", name="success or error")
    swarm = await gated_swarm(face, "a", "b", "c", window=2, success_callbacks=[other], error_callbacks=[other], **done)
    root = await face.chain([swarm, await face.sign("note", name="next")], error=other, success=other, **done)
    handle = await root.start()
    async with mage.worker():
        await gates.until("a", "b")
        for _ in range(2):
            await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=20)
        await handle.settled(timeout=20)
    assert [name for name, _ in log] == ["done", "done"]
    assert {run.seen.status for run in await mage.find_runs(task_name="gated")} == {RunStatus.CANCELLED}
    assert (await swarm.progress()).cancelled == 3


async def test_a_cancelled_step_cancels_its_chain(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    chain = await gated_chain(
        face,
        "first",
        "second",
        done_callbacks=[await face.sign("note", name="done")],
        error=await face.sign("note", name="error"),
    )
    handle = await chain.start()
    async with mage.worker():
        await gates.until("first")
        await (await mage.find_runs(task_name="gated"))[0].cancel()
        with pytest.raises(RunCancelledError):
            await handle.result(timeout=20)
        await handle.settled(timeout=20)
    assert [name for name, _ in log] == ["done"]


async def test_a_cancelled_tree_is_not_resumed(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    handle = await (await gated_swarm(face, "a")).start()
    await handle.cancel()
    for deed in (_suspend, _interrupt, _resume):
        await deed(handle)
    await gates.open()
    await work(mage)
    assert await handle.status() is RunStatus.CANCELLED
    assert gates.entered == []


async def test_cancelling_a_suspended_tree_ends_it(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    swarm = await gated_swarm(face, "a", "b", window=1)
    handle = await swarm.start()
    await handle.suspend()
    await handle.cancel()
    await work(mage)
    assert await handle.status() is RunStatus.CANCELLED
    assert (await swarm.progress()).cancelled == 2
