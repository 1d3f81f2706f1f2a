"""Chains in swarms in chains, swarms and chains as callbacks, and callbacks on every level."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from mageflow import ErrorValue, Mageflow, Outcome, ReturnValue, RunFailedError, RunStatus, SwarmConfig, TaskFailure
from tests.api.conftest import Face, work
from tests.api.flow_tasks import Log, Number


async def _noted(face: Face, name: str) -> dict[str, Any]:
    """Callbacks of all three kinds, which tell their level and kind."""
    return {
        f"{kind}_callbacks": [await face.sign("note", name=f"{name} {kind}")] for kind in ("success", "error", "done")
    }


async def test_a_chain_in_a_swarm_in_a_chain(mage: Mageflow, face: Face, log: Log) -> None:
    inner = await face.chain(["add", await face.sign("add", plus=10)])
    swarm = await face.swarm([inner, "add", inner], is_swarm_closed=True)
    outer = await face.chain(["add", swarm, "total"])
    async with mage.worker():
        assert await outer.run({"value": 0}) == 12 + 2 + 12


async def test_callbacks_fire_once_on_every_level_where_all_goes_well(mage: Mageflow, face: Face, log: Log) -> None:
    step = await face.sign("add", **await _noted(face, "step"))
    inner = await face.chain([step, "add"], **await _noted(face, "inner chain"))
    swarm = await face.swarm([inner, "add"], is_swarm_closed=True, **await _noted(face, "swarm"))
    outer = await face.chain([swarm, "total"], **await _noted(face, "outer chain"))
    await outer.start({"value": 1})
    await work(mage)
    levels = ("step", "inner chain", "swarm", "outer chain")
    assert sorted(name for name, _ in log) == sorted(
        f"{level} {kind}" for level in levels for kind in ("done", "success")
    )
    results = dict(log)
    assert [results[f"{level} success"] for level in levels] == [2, 3, [3, 2], 5]


async def test_callbacks_fire_once_on_every_level_where_a_step_at_the_bottom_fails(
    mage: Mageflow, face: Face, log: Log
) -> None:
    step = await face.sign("refuse", **await _noted(face, "step"))
    inner = await face.chain(["add", step, "add"], **await _noted(face, "inner chain"))
    config = SwarmConfig(stop_after_n_failures=1)
    swarm = await face.swarm([inner], is_swarm_closed=True, config=config, **await _noted(face, "swarm"))
    outer = await face.chain([swarm, "total"], **await _noted(face, "outer chain"))
    handle = await outer.start({"value": 1})
    await work(mage)
    levels = ("step", "inner chain", "swarm", "outer chain")
    assert sorted(name for name, _ in log) == sorted(
        f"{level} {kind}" for level in levels for kind in ("done", "error")
    )
    with pytest.raises(RunFailedError, match="not 2"):
        await handle.result()


async def test_error_callbacks_of_an_outer_chain_get_the_message_of_the_step_that_failed_at_the_bottom(
    mage: Mageflow, face: Face, log: Log
) -> None:
    class Alert(Number):
        failure: Annotated[TaskFailure, ErrorValue()]

    got: list[Any] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        got.append((msg.value, msg.plus, msg.failure.message, msg.failure.task_name))

    inner = await face.chain(["add", await face.sign("refuse", plus=9)], error_callbacks=[alert])
    outer = await face.chain(["add", inner, "add"], error=alert)
    await outer.start({"value": 5})
    await work(mage)
    assert got == [(7, 9, "not 7", "refuse")] * 2


async def test_a_failed_chain_is_one_failure_of_its_swarm(mage: Mageflow, face: Face, log: Log) -> None:
    failing = await face.chain(["add", "refuse"])
    swarm = await face.swarm([failing, "add", failing], is_swarm_closed=True)
    async with mage.worker():
        assert await swarm.run({"value": 1}) == [2]
    counted = await swarm.progress()
    assert (counted.succeeded, counted.failed) == (1, 2)


async def test_a_swarm_lists_the_failures_of_the_steps_at_the_bottom(mage: Mageflow, face: Face, log: Log) -> None:
    class Alert(Number):
        failures: Annotated[list[TaskFailure], ErrorValue()]

    got: list[Any] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        got.append((msg.value, [(failure.task_name, failure.message) for failure in msg.failures]))

    failing = await face.chain(["add", "refuse"])
    config = SwarmConfig(stop_after_n_failures=2)
    swarm = await face.swarm([failing, "refuse"], is_swarm_closed=True, config=config, error_callbacks=[alert])
    await swarm.start({"value": 1})
    await work(mage)
    assert got == [(1, [("refuse", "not 2"), ("refuse", "not 1")])]


async def test_a_swarm_as_a_callback_gives_each_member_the_result(mage: Mageflow, face: Face, log: Log) -> None:
    members = [await face.sign("add", plus=plus) for plus in (1, 2, 3)]
    summed = await face.sign("total", success_callbacks=[await face.sign("note", name="sum")])
    swarm = await face.swarm(members, is_swarm_closed=True, success_callbacks=[summed])
    await (await face.sign("add", success_callbacks=[swarm])).start({"value": 9})
    await work(mage)
    assert log == [("sum", 36)]


async def test_a_chain_as_a_swarms_callback_gets_the_list(mage: Mageflow, face: Face, log: Log) -> None:
    chain = await face.chain(["total", "add", await face.sign("note", name="end")])
    swarm = await face.swarm(["add"] * 3, is_swarm_closed=True, success_callbacks=[chain])
    await swarm.start({"value": 1})
    await work(mage)
    assert log == [("end", 7)]


async def test_a_chain_and_a_swarm_as_error_callbacks_get_the_message_and_the_failure(
    mage: Mageflow, face: Face, log: Log
) -> None:
    class Alert(Number):
        name: str
        failure: Annotated[TaskFailure, ErrorValue()]

    got: list[Any] = []

    @mage.task
    async def alert(msg: Alert) -> str:
        got.append((msg.name, msg.value, msg.failure.message))
        return msg.name

    chain = await face.chain([await face.sign(alert, name="chain"), await face.sign("note", name="next")])
    swarm = await face.swarm([await face.sign(alert, name=name) for name in "ab"], is_swarm_closed=True)
    await (await face.sign("refuse", error_callbacks=[chain, swarm])).start({"value": 3})
    await work(mage)
    assert sorted(got) == [("a", 3, "not 3"), ("b", 3, "not 3"), ("chain", 3, "not 3")]
    assert log == [("next", "chain")]


async def test_a_chain_as_a_done_callback_gets_the_outcome(mage: Mageflow, face: Face, log: Log) -> None:
    class Ended(BaseModel):
        outcome: Annotated[Outcome[Any], ReturnValue()]

    @mage.task
    async def judge(msg: Ended) -> str:
        return msg.outcome.status.value

    chain = await face.chain([judge, await face.sign("note", name="judged")])
    await (await face.sign("refuse", done_callbacks=[chain])).start({"value": 3})
    await work(mage)
    assert log == [("judged", "failed")]


async def test_a_swarm_in_a_swarm_gives_a_list_in_a_list(mage: Mageflow, face: Face, log: Log) -> None:
    leaf = await face.swarm(["add", await face.sign("add", plus=2)], is_swarm_closed=True)
    middle = await face.swarm([leaf, "add", leaf], is_swarm_closed=True)
    root = await face.swarm([middle, middle], is_swarm_closed=True)
    async with mage.worker():
        assert await root.run({"value": 0}) == [[[1, 2], 1, [1, 2]]] * 2


async def test_outcomes_of_members_that_are_chains_and_swarms(mage: Mageflow, face: Face, log: Log) -> None:
    class Report(BaseModel):
        outcomes: ReturnValue[list[Outcome[Any]]]

    got: list[Outcome[Any]] = []

    @mage.task
    async def report(msg: Report) -> None:
        got.extend(msg.outcomes)

    members = [
        await face.chain(["add", "add"], "sums"),
        await face.swarm(["add", "add"], "pair", is_swarm_closed=True),
        await face.chain(["add", "refuse"], "broken"),
    ]
    swarm = await face.swarm(members, is_swarm_closed=True, success_callbacks=[report])
    await swarm.start({"value": 1})
    await work(mage)
    assert [(each.task_name, each.status, each.value) for each in got] == [
        ("sums", RunStatus.SUCCEEDED, 3),
        ("pair", RunStatus.SUCCEEDED, [2, 2]),
        ("broken", RunStatus.FAILED, None),
    ]
    assert got[2].failure is not None
    assert got[2].failure.message == "not 2"
    assert [each.member for each in got] == swarm.tasks


async def test_the_message_reaches_the_bottom_from_the_outside_to_the_inside(
    mage: Mageflow, face: Face, log: Log
) -> None:
    @mage.task
    async def show(msg: dict[str, Any]) -> dict[str, Any]:
        return msg

    inner = await face.swarm([await face.sign(show, member="leaf", x="leaf")], is_swarm_closed=True, inner=1, y="inner")
    chain = await face.chain([inner, await face.sign(show)], chain=1, y="chain")
    outer = await face.swarm(outer=1, x="outer", y="outer")
    await outer.add_task(chain, {"own": 1})
    await outer.close_swarm()
    async with mage.worker():
        (result,) = await outer.run({"sent": 1, "x": "sent"})
    # The second step has the chain's kwargs; what the first one got is in its result.
    assert result == {
        "chain": 1,
        "y": "chain",
        "results": [
            {"sent": 1, "own": 1, "outer": 1, "chain": 1, "member": "leaf", "inner": 1, "x": "leaf", "y": "inner"}
        ],
    }


async def test_an_open_swarm_that_closes_by_itself_may_be_a_step(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["add", "add"], config=SwarmConfig(auto_close=True))
    chain = await face.chain(["add", swarm, "total"])
    async with mage.worker():
        assert await chain.run({"value": 0}) == 4


async def test_twelve_levels_deep(mage: Mageflow, face: Face, log: Log) -> None:
    leaf: Any = await face.sign("add")
    for _ in range(6):
        leaf = await face.swarm([await face.chain(["add", leaf])], is_swarm_closed=True, success_callbacks=["total"])
        leaf = await face.chain([leaf, "total"])
    async with mage.worker():
        assert await leaf.run({"value": 0}) == 7


async def test_one_callback_that_asks_for_lists_serves_tasks_chains_and_swarms(
    mage: Mageflow, face: Face, log: Log
) -> None:
    class Alert(Number):
        failures: Annotated[list[TaskFailure], ErrorValue()]

    class Report(BaseModel):
        outcomes: ReturnValue[list[Outcome[Any]]]

    got: list[Any] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        got.append([failure.message for failure in msg.failures])

    @mage.task
    async def report(msg: Report) -> None:
        got.append([outcome.status for outcome in msg.outcomes])

    callbacks = {"error_callbacks": [alert], "done_callbacks": [report]}
    config = SwarmConfig(stop_after_n_failures=2)
    for failing in (
        await face.sign("refuse", **callbacks),
        await face.chain(["add", "refuse"], **callbacks),
        await face.swarm(["refuse", "refuse"], is_swarm_closed=True, config=config, **callbacks),
    ):
        await failing.start({"value": 1})
        async with mage.worker(concurrency=1):
            pass
    failed = RunStatus.FAILED
    assert got == [["not 1"], [failed], ["not 2"], [failed], ["not 1"] * 2, [failed] * 2]
