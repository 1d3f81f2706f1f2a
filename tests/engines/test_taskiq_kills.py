"""Workers killed at random, and the server too: every run ends once, and what it calls exists once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from mageflow import Mageflow, RunStatus
from mageflow.core.records import RunRecord
from mageflow.errors import StoreError
from mageflow.ports.store import Filter
from mageflow.runtime.listing import runs_of
from tests.crash.processes import LONG, until
from tests.engines.processes import TaskiqWorkers
from tests.redis.servers import MISSING, Server, programs

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals"),
    pytest.mark.timeout(600 if LONG else 180),
]

RUNS = 500 if LONG else 100


@pytest.fixture
def redis() -> Iterator[Server]:
    """A server that keeps what it has acknowledged."""
    found = programs()
    if not found:
        pytest.skip(MISSING)
    server = Server(next(iter(found.values())), {"appendonly": "yes", "appendfsync": "always"})
    server.start()
    yield server
    server.close()


async def is_over(mage: Mageflow) -> bool:
    try:
        return await mage.store.count(Filter(live=True)) == 0
    except StoreError:
        return False  # the server is away


@pytest.mark.parametrize("restarts", [False, True], ids=["workers", "workers and server"])
async def test_whoever_is_killed_every_run_ends_once(
    workers: TaskiqWorkers, mage: Mageflow, redis: Server, restarts: bool
) -> None:
    """And no body whose end was committed runs again."""
    chance = random.Random(7)
    for _ in range(2):
        workers.start()
    await until(lambda: len(workers.pids()) == 2, workers.said)
    signature = await mage.sign("step", seconds=0.05, success_callbacks=["after"])

    async def begin() -> None:
        for n in range(RUNS):
            await signature.start({"n": n})
            await asyncio.sleep(0.03)

    starting = asyncio.create_task(begin())
    kills, next_kill, restart_at = 0, time.monotonic() + 0.5, time.monotonic() + 1.5
    deadline = time.monotonic() + (550 if LONG else 150)
    while not (starting.done() and await is_over(mage)):
        assert time.monotonic() < deadline, workers.said()[-5000:]
        pids = workers.pids()
        if pids and not starting.done() and time.monotonic() > next_kill:
            os.kill(chance.choice(pids), signal.SIGKILL)
            kills += 1
            next_kill = time.monotonic() + 1.0
        if restarts and time.monotonic() > restart_at:
            restarts = False
            redis.kill()
            redis.start()
        await asyncio.sleep(0.02)
    await starting
    print(f"{kills} kills")
    assert kills > 0
    runs: list[RunRecord] = [run async for run in runs_of(mage.store, Filter())]
    assert Counter((run.task, run.status) for run in runs) == {
        ("step", RunStatus.SUCCEEDED): RUNS,
        ("after", RunStatus.SUCCEEDED): RUNS,
    }
    steps = {run.key: run for run in runs if run.task == "step"}
    assert Counter(run.cause for run in runs if run.task == "after") == Counter(list(steps))
    attempts = {run: max(each["attempt"] for each in workers.noted("begin", run=run)) for run in steps}
    assert attempts == {run: record.attempt for run, record in steps.items()}, "a body ran after the end of its run"
