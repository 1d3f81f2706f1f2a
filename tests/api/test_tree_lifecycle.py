"""Suspend, interrupt, resume, cancel, remove and retry, on whole trees of chains and swarms."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from mageflow import (
    Mageflow,
    MageflowConfig,
    RunCancelledError,
    RunHandle,
    RunStatus,
    SignatureNotFoundError,
    SignatureTTLConfig,
    SwarmConfig,
    TTLConfig,
)
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock
from tests.api.conftest import Face, Gates, until_status, work

Log = list[tuple[str, Any]]


class Seen(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    results: Any = None


@pytest.fixture
def log(mage: Mageflow) -> Log:
    seen: Log = []

    @mage.task
    async def note(msg: Seen) -> str:
        seen.append((msg.name, msg.results))
        return msg.name

    return seen


async def _gated_swarm(face: Face, *names: str, window: int = 30, **given: Any) -> Any:
    members = [await face.sign("gated", name=name) for name in names]
    return await face.swarm(members, is_swarm_closed=True, config=SwarmConfig(max_concurrency=window), **given)


async def _gated_chain(face: Face, *names: str, **given: Any) -> Any:
    return await face.chain([await face.sign("gated", name=name) for name in names], **given)


# Suspending


async def test_a_suspended_chain_stops_before_its_next_step(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    chain = await _gated_chain(face, "first", "second")
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
    swarm = await _gated_swarm(face, "a", "b", "c", window=1)
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
    swarm = await _gated_swarm(face, "a")
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
    inner = await _gated_chain(face, "a1", "a2")
    swarm = await face.swarm([inner, await _gated_chain(face, "b1", "b2")], is_swarm_closed=True)
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
    swarm = await _gated_swarm(face, *"abcdef", window=2)
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
    swarm = await _gated_swarm(face, "a", "b", "c", window=2)
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
    chain = await _gated_chain(face, "first", "second", "third")
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
    swarm = await _gated_swarm(
        face, "a", "b", "c", window=2, success_callbacks=[other], error_callbacks=[other], **done
    )
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
    chain = await _gated_chain(
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
    handle = await (await _gated_swarm(face, "a")).start()
    await handle.cancel()
    for deed in (_suspend, _interrupt, _resume):
        await deed(handle)
    await gates.open()
    await work(mage)
    assert await handle.status() is RunStatus.CANCELLED
    assert gates.entered == []


async def test_cancelling_a_suspended_tree_ends_it(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    swarm = await _gated_swarm(face, "a", "b", window=1)
    handle = await swarm.start()
    await handle.suspend()
    await handle.cancel()
    await work(mage)
    assert await handle.status() is RunStatus.CANCELLED
    assert (await swarm.progress()).cancelled == 2


# Removing


async def test_remove_takes_the_members_and_callbacks_that_nobody_else_uses(
    mage: Mageflow, face: Face, log: Log
) -> None:
    own, shared, callback = [await face.sign("note", name=name) for name in ("own", "shared", "callback")]
    of_own = await face.sign("note", name="of own")
    own_with = await face.sign("note", name="own", success_callbacks=[of_own])
    inner = await face.chain([own, own_with])
    swarm = await face.swarm([inner, shared, shared], error_callbacks=[callback])
    another = await face.chain([shared, shared])
    assert await face.remove(swarm.key)
    assert not await face.remove(swarm.key)
    left = [
        key for key in (own, shared, callback, of_own, own_with, inner, another) if await face.load_signature(key.key)
    ]
    assert left == [shared, another]
    with pytest.raises(SignatureNotFoundError):
        await swarm.start()


async def test_remove_spares_the_callbacks_it_is_told_to(mage: Mageflow, face: Face, log: Log) -> None:
    error, success = await face.sign("note", name="error"), await face.sign("note", name="success")
    chain = await face.chain([success, success], error=error, success=success)
    await chain.remove(with_error=False)
    assert await face.load_signature(error.key) is not None
    assert await face.load_signature(success.key) is None


async def test_a_tree_that_runs_when_its_signature_is_removed_ends_with_all_it_needs(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    @mage.task
    async def show(msg: dict[str, Any]) -> str:
        return str(msg["text"])

    after = await face.sign("note", name="after")
    second = await face.sign("show")
    first = await face.sign("gated", name="a")
    config = SwarmConfig(max_concurrency=1)
    swarm = await face.swarm(
        [first, second], is_swarm_closed=True, config=config, success_callbacks=[after], text="bound to all"
    )
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a")
        await swarm.remove()
        await gates.open()
        await handle.settled(timeout=20)
    assert await handle.status() is RunStatus.SUCCEEDED
    assert log == [("after", ["a", "bound to all"])]


async def test_an_open_swarm_that_is_removed_ends_with_the_members_it_has(
    mage: Mageflow, face: Face, log: Log, gates: Gates
) -> None:
    swarm = await face.swarm()
    handle = await swarm.aio_run_in_swarm("gated", {"name": "only"})
    async with mage.worker():
        await gates.until("only")
        await swarm.remove()
        await gates.open()
        assert await handle.result(timeout=20) == ["only"]


# Trying again


async def test_a_chain_is_retried_from_the_step_that_failed(mage: Mageflow, face: Face, log: Log) -> None:
    ran: list[str] = []
    repaired: list[bool] = []

    @mage.task
    async def first(msg: dict[str, Any]) -> str:
        ran.append("first")
        return f"of {msg['n']}"

    @mage.task
    async def second(msg: dict[str, Any]) -> str:
        ran.append(f"second {msg['results']}")
        if not repaired:
            raise RuntimeError("broken")
        return "whole"

    chain = await face.chain([first, second, await face.sign("note", name="third")])
    handle = await chain.start({"n": 1})
    await work(mage)
    assert await handle.status() is RunStatus.FAILED
    repaired.append(True)
    again = await handle.retry()
    assert (await handle.retry()).id == again.id
    await work(mage)
    assert await again.result() == "third"
    assert ran == ["first", "second of 1", "second of 1"]
    assert log == [("third", "whole")]
    assert await handle.status() is RunStatus.FAILED


async def test_a_swarm_is_retried_from_the_members_that_failed_or_never_ran(
    mage: Mageflow, face: Face, log: Log
) -> None:
    ran: list[int] = []
    repaired: list[bool] = []

    @mage.task
    async def shaky(msg: dict[str, Any]) -> int:
        ran.append(msg["n"])
        if msg["n"] == 2 and not repaired:
            raise RuntimeError("broken")
        return int(msg["n"])

    config = SwarmConfig(max_concurrency=1, stop_after_n_failures=1)
    after = await face.sign("note", name="after")
    swarm = await face.swarm(task=shaky, inputs=[{"n": n} for n in range(5)], config=config, success_callbacks=[after])
    handle = await swarm.start()
    await work(mage)
    assert await handle.status() is RunStatus.FAILED
    assert ran == [0, 1, 2]
    repaired.append(True)
    again = await handle.retry()
    await work(mage)
    assert await again.result() == [0, 1, 2, 3, 4]
    assert ran == [0, 1, 2, 2, 3, 4]
    assert log == [("after", [0, 1, 2, 3, 4])]


async def test_a_tree_is_retried_from_the_leaf_that_failed(mage: Mageflow, face: Face, log: Log) -> None:
    ran: list[str] = []
    repaired: list[bool] = []

    @mage.task
    async def leaf(msg: dict[str, Any]) -> str:
        ran.append(msg["name"])
        if msg["name"] == "b2" and not repaired:
            raise RuntimeError("broken")
        return str(msg["name"])

    chains = [await face.chain([await face.sign(leaf, name=f"{key}{n}") for n in (1, 2, 3)]) for key in "abc"]
    config = SwarmConfig(stop_after_n_failures=1)
    swarm = await face.swarm(chains, is_swarm_closed=True, config=config)
    root = await face.chain([await face.sign(leaf, name="root"), swarm, await face.sign("note", name="end")])
    handle = await root.start()
    await work(mage)
    assert await handle.status() is RunStatus.FAILED
    before = sorted(ran)
    ran.clear()
    repaired.append(True)
    again = await handle.retry()
    await work(mage)
    assert await again.result() == "end"
    assert sorted([*before, *ran]) == sorted(["root", *(f"{key}{n}" for key in "abc" for n in (1, 2, 3)), "b2"])
    assert log == [("end", ["a3", "b3", "c3"])]


async def test_a_cancelled_swarm_can_be_retried(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    swarm = await _gated_swarm(face, "a", "b", "c", window=1)
    handle = await swarm.start()
    async with mage.worker():
        await gates.open("a")
        await gates.until("b")
        await handle.cancel()
        await until_status(handle, RunStatus.CANCELLED)
        await gates.open()
        assert await (await handle.retry()).result(timeout=20) == ["a", "b", "c"]
    assert gates.entered == ["a", "b", "b", "c"]


# Retention


async def test_a_members_run_is_kept_as_long_as_its_root() -> None:
    clock = ManualClock()
    ttl = TTLConfig(
        ttl_when_sign_done=60, task=SignatureTTLConfig(ttl_when_sign_done=1), swarm=SignatureTTLConfig(active_ttl=500)
    )
    async with Mageflow(store=MemoryStore(clock), config=MageflowConfig(ttl=ttl)) as mage:

        @mage.task
        async def one() -> int:
            return 1

        swarm = await mage.swarm([one, one], is_swarm_closed=True)
        handle = await swarm.start()
        await work(mage)
        clock.advance(59)
        await mage.purge()
        assert await handle.result() == [1, 1]
        clock.advance(2)
        await mage.purge()
        assert await mage.find_runs() == []
        assert await mage.load_signature(swarm.key) is not None
        clock.advance(500)
        await mage.purge()
        assert await mage.load_signature(swarm.key) is None


async def test_each_kind_has_its_own_retention_and_keeps_its_members_signatures() -> None:
    clock = ManualClock()
    ttl = TTLConfig(
        active_ttl=100,
        task=SignatureTTLConfig(active_ttl=10),
        chain=SignatureTTLConfig(active_ttl=1000, ttl_when_sign_done=2000),
        swarm=SignatureTTLConfig(ttl_when_sign_done=5),
    )
    async with Mageflow(store=MemoryStore(clock), config=MageflowConfig(ttl=ttl)) as mage:

        @mage.task
        async def one() -> int:
            return 1

        lone, member = await mage.sign(one), await mage.sign(one)
        chain = await mage.chain([member, member])
        swarm = await mage.swarm([one], is_swarm_closed=True)
        of_chain, of_swarm = await chain.start(), await swarm.start()
        await work(mage)
        clock.advance(50)
        await mage.purge()
        assert await mage.load_signature(lone.key) is None
        assert await mage.load_signature(member.key) is not None
        assert await mage.load_run(of_swarm.id) is None
        clock.advance(60)
        await mage.purge()
        assert await mage.load_signature(swarm.key) is None
        async with mage.worker():
            assert await chain.run() == 1
        clock.advance(1100)
        await mage.purge()
        assert await mage.load_signature(member.key) is None
        assert await of_chain.result() == 1


async def test_what_a_retry_took_over_is_kept_as_long_as_the_retry() -> None:
    clock = ManualClock()
    config = MageflowConfig(ttl=TTLConfig(ttl_when_sign_done=60))
    async with Mageflow(store=MemoryStore(clock), config=config) as mage:
        repaired: list[bool] = []

        @mage.task
        async def shaky(msg: dict[str, Any]) -> int:
            if msg.get("fragile") and not repaired:
                raise RuntimeError("broken")
            return int(msg["n"])

        stops = SwarmConfig(stop_after_n_failures=1, max_concurrency=1)
        swarm = await mage.swarm(task=shaky, inputs=[{"n": 1}, {"n": 2, "fragile": True}], config=stops)
        handle = await swarm.start()
        await work(mage)
        repaired.append(True)
        clock.advance(50)
        again = await handle.retry()
        clock.advance(20)
        await mage.purge()
        await work(mage)
        assert await again.result() == [1, 2]
        clock.advance(50)
        await mage.purge()
        assert await again.result() == [1, 2]
        clock.advance(20)
        await mage.purge()
        await mage.purge()
        assert await mage.find_runs() == []
