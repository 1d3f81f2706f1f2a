"""Workers killed at random, and the server too: every run ends once, and what it calls exists once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mageflow import Mageflow
from tests.crash.killing import every_run_ended_once, kill_until_all_have_ended
from tests.crash.processes import LONG, until
from tests.engines.processes import EmbeddedWorkers, TaskiqWorkers
from tests.engines.servers import NatsServer
from tests.redis.servers import MISSING, Server, missing, programs

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals"),
    pytest.mark.timeout(600),
]

RUNS = 500
SEEDS = [int(each) for each in os.environ.get("KILL_SEEDS", "7").split()]
"""`KILL_SEEDS="1 2 3" make test` tries more of them."""


@pytest.fixture
def redis() -> Iterator[Server]:
    """A server that keeps what it has acknowledged."""
    found = programs()
    if not found:
        missing(MISSING)
    server = Server(next(iter(found.values())), {"appendonly": "yes", "appendfsync": "always"})
    server.start()
    yield server
    server.close()


@pytest.fixture
def workers(tmp_path: Path, redis: Server, carrier: str, request: pytest.FixtureRequest) -> Iterator[TaskiqWorkers]:
    environment = {"ENGINE_BROKER": carrier}
    if carrier == "jetstream":
        nats: NatsServer = request.getfixturevalue("nats")
        environment |= {"ENGINE_NATS": nats.url, "ENGINE_QUEUE": f"kills_{tmp_path.name}"}
    kind = EmbeddedWorkers if carrier == "none" else TaskiqWorkers
    workers = kind(tmp_path, redis.url, **environment)
    yield workers
    workers.end()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("carrier", ["none", "stream", "list", "jetstream"], ids=lambda each: each)
async def test_whoever_is_killed_every_run_ends_once(
    workers: TaskiqWorkers, mage: Mageflow, redis: Server, seed: int
) -> None:
    """And no body whose end was committed runs again. In the midst of it the server is killed, and starts again."""
    chance = random.Random(seed)
    workers.start(2)
    await until(lambda: len(workers.pids()) == 2, workers.said)
    signature = await mage.sign("step", seconds=0.05, success_callbacks=["after"])
    restart_at = chance.randrange(RUNS // 5, RUNS)

    async def begin_some(numbers: range) -> None:
        for n in numbers:
            await signature.start({"n": n})
            await asyncio.sleep(0.05)
            if n == restart_at:
                await asyncio.to_thread(redis.kill)
                await asyncio.to_thread(redis.start)

    async def begin() -> None:
        await asyncio.gather(*(begin_some(range(place, RUNS, 10)) for place in range(10)))

    def kill() -> bool:
        pids = workers.pids()
        if pids:
            os.kill(chance.choice(pids), signal.SIGKILL)
        return bool(pids)

    begun = time.monotonic()
    most = 100 if LONG else 200  # to start a worker is what takes most of the time
    kills = await kill_until_all_have_ended(
        mage, begin(), kill, between=lambda: chance.randrange(5, most), said=workers.said
    )
    print(f"{kills} kills in {time.monotonic() - begun:.1f} s")
    assert kills > 0
    runs = await every_run_ended_once(mage, RUNS)
    steps = {run.key: run.attempt for run in runs if run.task == "step"}
    begun_attempts = sorted((each["run"], each["attempt"]) for each in workers.noted("begin"))
    assert len(begun_attempts) == len(set(begun_attempts)), "a body began twice for one claim"
    # Of a run that is claimed the attempt goes up; no body of it began after the attempt that ended it.
    assert {run: max(n for each, n in begun_attempts if each == run) for run in steps} == steps
