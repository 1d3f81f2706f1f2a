"""The signature of a swarm: loaded, duplicated, used as a callback, and the options and keys of its runs."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel

from mageflow import (
    Mageflow,
    OptionError,
    ReturnValue,
    RunOptions,
    RunStatus,
    SwarmConfig,
    SwarmTaskSignature,
    UnfilledFieldError,
    UnfilledFieldWarning,
)
from tests.api.conftest import Face, Gates, is_a, work
from tests.api.flow_tasks import Log, closed


async def test_a_loaded_swarm_shows_what_it_is(mage: Mageflow, face: Face, log: Log) -> None:
    config = SwarmConfig(max_concurrency=3, stop_after_n_failures=2, max_task_allowed=9, auto_close=True)
    made = await face.swarm(["times", "times"], "loaded", config=config, by=5)
    swarm = await face.load_signature(made.key)
    assert is_a(swarm, SwarmTaskSignature)
    assert (swarm.config, swarm.tasks, dict(swarm.kwargs)) == (config, made.tasks, {"by": 5})
    assert not swarm.is_swarm_closed
    assert await face.load_signature("sig_of_nothing") is None


async def test_members_are_given_in_order_with_their_runs(mage: Mageflow, face: Face, log: Log, gates: Gates) -> None:
    members = [await face.sign("gated", name=name) for name in "abc"]
    swarm = await face.swarm(members, **closed(config=SwarmConfig(max_concurrency=1)))
    handle = await swarm.start()
    async with mage.worker():
        await gates.until("a")
        await gates.open("a")
        await gates.until("b")
        seen = [member async for member in swarm.members()]
        assert [member.place for member in seen] == [0, 1, 2]
        assert [member.status for member in seen] == [RunStatus.SUCCEEDED, RunStatus.RUNNING, None]
        assert [member.signature for member in seen] == [members[0].key, members[1].key, None]
        run = await mage.load_run(seen[1].run_id)
        assert run is not None
        assert (run.seen.parent, run.seen.place) == (handle.id, 1)
        await gates.open()
        await handle.result()


async def test_a_duplicate_of_a_swarm_is_a_swarm_of_its_own(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"] * 60, config=SwarmConfig(auto_close=True))
    copy = await swarm.aduplicate()
    await copy.add_task("times")
    await swarm.refresh()
    assert (len(swarm.tasks), len(copy.tasks)) == (60, 61)
    assert copy.tasks[:60] == swarm.tasks
    async with mage.worker():
        assert await swarm.run({"n": 1}) == [2] * 60
        again = await swarm.aduplicate()  # it has closed by itself, and its copy is closed too
        assert await copy.run({"n": 1}) == [2] * 61
    assert again.is_swarm_closed


async def test_a_swarm_as_a_callback_fills_each_members_return_field(mage: Mageflow, face: Face, log: Log) -> None:
    class Strict(BaseModel):
        value: Annotated[int, ReturnValue()]
        unit: str

    @mage.task
    async def measure(msg: Strict) -> str:
        return f"{msg.value} {msg.unit}"

    lacking = await face.swarm([measure], **closed())
    with pytest.warns(UnfilledFieldWarning, match=r"the success callback 'measure' of 'times' requires 'unit'"):
        flow = await face.sign("times", success_callbacks=[lacking])
    with pytest.raises(UnfilledFieldError):
        await flow.start({"n": 1})
    members = [await face.sign(measure, unit=unit) for unit in ("m", "kg")]
    swarm = await face.swarm(members, **closed(success_callbacks=[await face.sign("note", name="measured")]))
    await (await face.sign("times", success_callbacks=[swarm])).start({"n": 1})
    own = await face.swarm(**closed(), task=measure, inputs=[{"unit": "s"}])
    await face.sign("times", success_callbacks=[own])
    await work(mage)
    assert log == [("measured", ["2 m", "2 kg"])]


async def test_a_run_of_a_swarm_takes_options(mage: Mageflow, face: Face, log: Log) -> None:
    swarm = await face.swarm(["times"], **closed(run_options=RunOptions(delay=3600)))
    late = await swarm.start({"n": 1})
    now = await swarm.start({"n": 2}, options=RunOptions(delay=0, priority=3))
    await work(mage)
    assert await late.status() is RunStatus.SCHEDULED
    assert await now.result() == [4]
    runs = await mage.find_runs(task_name="times")
    assert [run.seen.priority for run in runs] == [3]


async def test_an_option_of_bodies_means_nothing_to_a_swarm(mage: Mageflow, face: Face, log: Log) -> None:
    with pytest.raises(OptionError, match=r"run_options=RunOptions\(retries=...\) means nothing to a swarm"):
        await face.swarm(["times"], run_options=RunOptions(retries=3))
    with pytest.raises(OptionError, match=r"options=RunOptions\(execution_timeout=...\) means nothing to a chain"):
        await (await face.chain(["times", "times"])).start(options=RunOptions(execution_timeout=3))


async def test_an_idempotency_key_is_that_of_a_name_and_without_one_of_a_signature(
    mage: Mageflow, face: Face, log: Log
) -> None:
    once = RunOptions(idempotency_key="monday")
    named = [await face.swarm(["times"], "report", **closed()) for _ in range(2)]
    unnamed = [await face.swarm(["times"], **closed()) for _ in range(2)]
    chain = await face.chain(["times", "times"], "report", by=1)
    first, again = [await swarm.start(options=once) for swarm in named]
    assert first.id == again.id
    others = [await swarm.start(options=once) for swarm in [*unnamed, chain, unnamed[0]]]
    assert len({first.id, *(handle.id for handle in others)}) == 4
    assert others[0].id == others[-1].id
