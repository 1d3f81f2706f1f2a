"""Workers that are killed, stopped and stuck: every run ends once, and what causes it to is taken up in time."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from mageflow import Mageflow, RunHandle, RunStatus
from tests.crash.killing import all_runs, every_run_ended_once, kill_until_all_have_ended
from tests.crash.processes import LONG, PATIENCE, Workers, until

RUNS = 20_000 if LONG else 2_000
LEASE = 2.0


async def start(mage: Mageflow, task: str) -> RunHandle[int]:
    signature = await mage.sign(task, success_callbacks=[await callback(mage)])
    return await signature.start({})


async def callback(mage: Mageflow) -> str:
    return (await mage.sign("after", seconds=0)).key


async def ended_once(mage: Mageflow, handle: RunHandle[int], result: int, *, others: int = 0) -> None:
    """The run has this result, and one callback that has seen it; beside them are so many others."""
    assert await handle.result(timeout=PATIENCE) == result
    await handle.settled(timeout=PATIENCE)
    runs = await all_runs(mage)
    assert [run.status for run in runs] == [RunStatus.SUCCEEDED] * (2 + others)
    (caused,) = await handle.caused()
    assert await caused.result(timeout=PATIENCE) == result


@pytest.mark.timeout(1800 if LONG else 300)
async def test_with_a_worker_killed_every_second_every_run_ends_once(workers: Workers, mage: Mageflow) -> None:
    chance = random.Random(4)
    alive = [workers.worker() for _ in range(3)]
    await workers.ready(*alive)
    signature = await mage.sign("step", seconds=0.02, success_callbacks=[await callback(mage)])

    async def begin_some(numbers: range) -> None:
        for n in numbers:
            await signature.start({"n": n})

    async def begin() -> None:
        await asyncio.gather(*(begin_some(range(place, RUNS, 50)) for place in range(50)))

    def kill() -> bool:
        place = chance.randrange(3)
        if not workers.serves(alive[place]):
            return False
        alive[place].kill()
        alive[place].wait()
        alive[place] = workers.worker()
        return True

    begun = time.monotonic()
    kills = await kill_until_all_have_ended(mage, begin(), kill, between=lambda: 20, pause=1.0, said=workers.said)
    print(f"{kills} kills in {time.monotonic() - begun:.1f} s")
    assert kills > 0
    await every_run_ended_once(mage, RUNS)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["its machine sees it", "only its beats tell"])
async def test_a_killed_workers_runs_are_taken_up_within_the_lease_and_a_second(
    workers: Workers, mage: Mageflow, elsewhere: bool
) -> None:
    """Where the process is of this machine, it is not even the lease.

    The second is for what follows; on a machine that is too busy, before or after, as long as it takes there for some
    ordinary runs.
    """
    doomed = workers.worker(CRASH_MACHINE="another") if elsewhere else workers.worker()
    handle = await start(mage, "hold")
    await until(lambda: len(workers.noted("hold")) == 1, workers.said)
    other = workers.worker()
    await workers.ready(other)
    before = await seconds_of_a_run(mage)
    killed_at = time.perf_counter()
    doomed.kill()
    doomed.wait()
    stood = await until(lambda: len(workers.noted("hold", 2)) == 1, workers.said)
    (again,) = workers.noted("hold", 2)
    assert again["pid"] == other.pid
    seconds = again["at"] - killed_at
    # Who stood still for half a lease, and saw no beats for that, watches them anew.
    watched = max([killed_at, *(each.until for each in stood if each.seconds > LEASE / 4)])
    lost = sum(each.seconds for each in stood if each.until > watched)
    second = max(1.0, 10 * before, 10 * await seconds_of_a_run(mage))
    print(f"taken up after {seconds:.2f} s, the lease is {LEASE:g} s")
    assert again["at"] - watched - lost < (LEASE if elsewhere else LEASE / 4) + second
    workers.gate.touch()
    await ended_once(mage, handle, 2, others=2)


async def seconds_of_a_run(mage: Mageflow) -> float:
    begun = time.perf_counter()
    assert await (await (await mage.sign("step", seconds=0)).start({"n": 0})).result(timeout=PATIENCE) == 0
    return time.perf_counter() - begun


async def test_a_stopped_worker_that_wakes_too_late_is_refused(workers: Workers, mage: Mageflow) -> None:
    sleeper = workers.worker()
    handle = await start(mage, "hold")
    await until(lambda: len(workers.noted("hold")) == 1, workers.said)
    sleeper.send_signal(signal.SIGSTOP)
    other = workers.worker()
    await until(lambda: len(workers.noted("hold", 2)) == 1, workers.said)
    workers.gate.touch()
    await ended_once(mage, handle, 2)
    sleeper.send_signal(signal.SIGCONT)
    await until(lambda: "declared dead" in workers.said(sleeper), workers.said)
    await ended_once(mage, handle, 2)
    info = await handle.info()
    assert info.attempts == 2
    await can_still_work(workers, mage, sleeper, other)


async def test_a_worker_whose_event_loop_stands_still_loses_its_runs(workers: Workers, mage: Mageflow) -> None:
    """Its process is alive and well otherwise, and its late end is refused."""
    stuck = workers.worker(CRASH_MAX_STALL="0.5")
    handle = await start(mage, "block")
    await until(lambda: len(workers.noted("block")) == 1, workers.said)
    other = workers.worker()
    await ended_once(mage, handle, 2)
    assert "has stood still" in workers.said(stuck)
    assert workers.noted("block", 2)[0]["pid"] == other.pid
    workers.gate.touch()
    await until(lambda: "was refused" in workers.said(stuck) or "declared dead" in workers.said(stuck), workers.said)
    await ended_once(mage, handle, 2)
    await can_still_work(workers, mage, stuck, other)


async def test_a_loop_that_is_busy_for_longer_than_the_lease_keeps_its_runs(workers: Workers, mage: Mageflow) -> None:
    busy, other = workers.worker(), workers.worker()
    await workers.ready(busy, other)
    handle = await start(mage, "block")
    await until(lambda: len(workers.noted("block")) == 1, workers.said)
    patience = time.monotonic() + 1.5 * LEASE
    await until(lambda: time.monotonic() > patience)
    workers.gate.touch()
    await ended_once(mage, handle, 1)
    assert "is dead" not in workers.said()


async def can_still_work(
    workers: Workers, mage: Mageflow, worker: subprocess.Popen[bytes], other: subprocess.Popen[bytes]
) -> None:
    """What was given up for dead begins anew, and serves."""
    other.kill()
    other.wait()
    handle = await (await mage.sign("hold")).start({})
    await handle.result(timeout=PATIENCE)
    assert workers.noted("let go")[-1]["pid"] == worker.pid


async def test_what_the_body_of_a_killed_worker_made_is_there_once(workers: Workers, mage: Mageflow) -> None:
    swarm = await mage.swarm()
    doomed = workers.worker()
    handle = await (await mage.sign("spawns")).start({"swarm": swarm.key})
    await until(lambda: len(workers.noted("spawned", 1)) == 1, workers.said)
    doomed.kill()
    doomed.wait()
    workers.worker()
    chain = await mage.load_run(await handle.result(timeout=PATIENCE))
    assert chain is not None
    assert await chain.result(timeout=PATIENCE) == 1
    await until(swarm.is_swarm_done, workers.said)
    runs = Counter(run.task for run in await all_runs(mage))
    assert runs == {"spawns": 1, "chain": 1, "step": 2, "after": 1, "swarm": 1}
