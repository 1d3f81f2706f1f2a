"""Flows on the processes of `taskiq worker`: what they run, how they die, and what becomes of it."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from mageflow import Mageflow, MageflowConfig, RunFailedError, UnknownTaskWarning
from mageflow.core.records import RunRecord
from mageflow.ports.store import Filter
from mageflow.runtime.listing import runs_of
from tests.crash.processes import PATIENCE, until
from tests.engines.processes import TaskiqWorkers
from tests.redis.servers import Server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are signalled and groups of them killed")


async def all_runs(mage: Mageflow, **where: Any) -> list[RunRecord]:
    return [run async for run in runs_of(mage.store, Filter(**where))]


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_a_flow_runs_on_workers_that_were_started_later(
    workers: TaskiqWorkers, mage: Mageflow, program: Any, kind: str
) -> None:
    """What was started before any worker was there is not lost, though a stream would lose it."""
    greeted = await (await mage.sign("greet", name="ada")).start()
    added = await (await mage.sign(program.add, a=1, success_callbacks=["after"])).start({"b": 5})
    workers.start(ENGINE_BROKER=kind)
    assert await greeted.result(timeout=PATIENCE) == "hello greet: ada"
    assert await added.result(timeout=PATIENCE) == 6
    await added.settled(timeout=PATIENCE)
    (caused,) = await added.caused()
    assert await caused.result(timeout=PATIENCE) == 6


async def test_labels_of_a_retry_count_once(workers: TaskiqWorkers, mage: Mageflow, program: Any) -> None:
    workers.start()
    handle = await (await mage.sign(program.divide, b=0)).start({"a": 1})
    with pytest.raises(RunFailedError, match="division by zero"):
        await handle.result(timeout=PATIENCE)
    assert len(workers.noted("divide")) == 3, "max_retries counts attempts"


async def test_calls_of_taskiqs_own_are_what_they_were(workers: TaskiqWorkers, program: Any) -> None:
    workers.start()
    await until(lambda: bool(workers.noted("startup")), workers.said)
    await program.broker.startup()
    await program.divide.kiq(1, 1)
    await until(lambda: len(workers.noted("divide")) == 1, workers.said)
    await program.divide.kiq(1, 0)
    await until(lambda: "ZeroDivisionError" in workers.said(), workers.said)
    assert program.divide(6, 3) == 2
    await program.broker.shutdown()


async def test_a_worker_that_is_told_to_stop_lets_its_bodies_end(workers: TaskiqWorkers, mage: Mageflow) -> None:
    """And ends, though nothing comes to its queue any more."""
    worker = workers.start()
    handle = await (await mage.sign("step", n=1, seconds=1.0)).start()
    await until(lambda: bool(workers.noted("begin")), workers.said)
    worker.send_signal(signal.SIGTERM)
    assert await handle.result(timeout=PATIENCE) == 1
    await until(lambda: worker.poll() is not None, workers.said)
    assert not await all_runs(mage, kind="worker")
    assert len(workers.noted("shutdown")) == 1
    assert (await mage.store.query(Filter(kind="worker"), limit=5)).records == ()


async def test_a_cancel_reaches_a_body_in_another_process(workers: TaskiqWorkers, mage: Mageflow) -> None:
    workers.start()
    handle = await (await mage.sign("hold")).start()
    await until(lambda: bool(workers.noted("hold")), workers.said)
    begun = time.monotonic()
    await handle.cancel()
    assert (await handle.outcome(timeout=PATIENCE)).status == "cancelled"
    print(f"cancelled after {(time.monotonic() - begun) * 1000:.0f} ms")


async def test_the_run_of_a_worker_that_is_killed_in_a_body_is_tried_again(
    workers: TaskiqWorkers, mage: Mageflow
) -> None:
    workers.start()
    handle = await (await mage.sign("hold", success_callbacks=["after"])).start()
    await until(lambda: bool(workers.noted("hold")), workers.said)
    killed_at = time.perf_counter()
    os.kill(workers.pids()[0], signal.SIGKILL)  # `taskiq worker` starts another one
    await until(lambda: bool(workers.noted("hold", attempt=2)), workers.said)
    print(f"begun again after {workers.noted('hold', attempt=2)[0]['at'] - killed_at:.2f} s")
    workers.gate.touch()
    assert await handle.result(timeout=PATIENCE) == 2
    await handle.settled(timeout=PATIENCE)
    assert len(await handle.caused()) == 1


async def test_a_task_that_old_workers_do_not_know_waits_for_new_ones(workers: TaskiqWorkers, mage: Mageflow) -> None:
    old = workers.start()
    await until(lambda: bool(workers.noted("startup")), workers.said)
    with pytest.warns(UnknownTaskWarning):
        handle = await (await mage.sign("brand_new")).start()
    await until(lambda: "no live worker knows the task 'brand_new'" in workers.said(), workers.said)
    workers.start(ENGINE_DEPLOY="new")
    assert await handle.result(timeout=PATIENCE) == "known by now"
    assert old.poll() is None


async def test_two_services_on_one_store_do_not_take_each_others_runs(
    workers: TaskiqWorkers, mage: Mageflow, redis: Server
) -> None:
    other = Mageflow(ListQueueBroker(redis.url, queue_name="others"), redis.url, config=MageflowConfig(lease=2.0))
    said: list[int] = []

    @other.task(name="theirs")
    async def theirs(msg: dict[str, Any]) -> int:
        said.append(msg["n"])
        return int(msg["n"])

    workers.start()
    async with other, other.worker():
        ours = [await (await mage.sign("step", n=n)).start() for n in range(10)]
        mine = [await (await other.sign(theirs, n=n)).start() for n in range(10)]
        assert [await handle.result(timeout=PATIENCE) for handle in ours] == list(range(10))
        assert [await handle.result(timeout=PATIENCE) for handle in mine] == list(range(10))
        across = await (await other.sign(theirs, n=77, success_callbacks=[await mage.sign("step", n=78)])).start()
        await across.settled(timeout=PATIENCE)
        assert len(workers.noted("end", n=78)) == 1
    assert sorted(said) == [*range(10), 77]


async def test_workers_of_one_machine_share_a_file_as_their_store(
    workers: TaskiqWorkers, redis: Server, tmp_path: Path
) -> None:
    file = tmp_path / "flows.db"
    for _ in range(2):
        workers.start(ENGINE_STORE=str(file))
    async with Mageflow(RedisStreamBroker(redis.url, queue_name="flows"), file) as mage:
        await until(lambda: len(workers.pids()) == 2, workers.said)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownTaskWarning)  # the workers may not have said yet what they know
            swarm = await mage.swarm(task="step", inputs=[{"n": n} for n in range(50)])
        assert await (await swarm.start()).result(timeout=PATIENCE) == list(range(50))
