"""Whole trees of chains and swarms, tried again from where they failed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mageflow import Mageflow, Outcome, ReturnValue, RunStatus, SwarmConfig
from tests.api.conftest import Face, Gates, gated_swarm, until_status, work
from tests.api.flow_tasks import Log


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


async def test_a_member_that_is_told_off_when_its_swarm_is_tried_again_has_not_failed_again(
    mage: Mageflow, face: Face, log: Log
) -> None:
    seen: list[RunStatus] = []

    class Ends(BaseModel):
        outcomes: ReturnValue[list[Outcome[Any]]]

    @mage.task
    async def hear(msg: Ends) -> None:
        seen.extend(outcome.status for outcome in msg.outcomes)

    swarm = await face.swarm(
        task="fail",
        inputs=[{"n": n} for n in range(3)],
        config=SwarmConfig(max_concurrency=1, stop_after_n_failures=2),
        done_callbacks=[hear],
    )
    handle = await swarm.start()
    await work(mage)
    assert seen == [RunStatus.FAILED, RunStatus.FAILED, RunStatus.CANCELLED]
    seen.clear()
    again = await handle.retry()
    await again.cancel()
    await work(mage)
    assert await again.status() is RunStatus.CANCELLED
    assert seen == [RunStatus.CANCELLED] * 3


async def test_a_cancelled_swarm_can_be_retried(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    swarm = await gated_swarm(face, "a", "b", "c", window=1)
    handle = await swarm.start()
    async with mage.worker():
        await gates.open("a")
        await gates.until("b")
        await handle.cancel()
        await until_status(handle, RunStatus.CANCELLED)
        await gates.open()
        assert await (await handle.retry()).result(timeout=20) == ["a", "b", "c"]
    assert gates.entered == ["a", "b", "b", "c"]
