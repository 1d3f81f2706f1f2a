"""Killing workers while runs go through, and what must be true of the runs afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from mageflow import Mageflow, RunStatus
from mageflow.core.records import RunRecord
from mageflow.errors import StoreError
from mageflow.ports.store import Filter
from mageflow.runtime.listing import runs_of
from tests.crash.processes import PATIENCE

__all__ = ["all_runs", "every_run_ended_once", "kill_until_all_have_ended"]


async def kill_until_all_have_ended(
    mage: Mageflow,
    begin: Coroutine[Any, Any, object],
    kill: Callable[[], bool],
    *,
    between: Callable[[], int],
    said: Callable[[], str],
    pause: float = 0.0,
) -> int:
    """Kill again and again, until all that `begin` starts has ended.

    Kills follow what has ended, and not the clock: on a machine that is too busy to start a worker between two kills,
    nothing would ever end. For the same reason the only bound is on the time in which nothing ends.

    Args:
        mage: the client of the process that starts the runs.
        begin: starts them.
        kill: kills one worker, if there is one that serves; says whether there was.
        between: gives how many runs are to end before the next kill.
        said: what is shown where nothing ends any more.
        pause: seconds between two kills at least.

    Returns:
        How many workers were killed.
    """
    starting = asyncio.create_task(begin)
    kills, ended, enough = 0, 0, between()
    moved = time.monotonic()
    next_kill = moved + pause
    while True:
        is_begun = starting.done()
        now = time.monotonic()
        try:
            latest = await mage.store.count(Filter(live=False))
            if is_begun and await mage.store.count(Filter(live=True)) == 0:
                break
        except StoreError:
            latest = ended  # the server is away
        if latest != ended:
            ended, moved = latest, now
        assert now < moved + 2 * PATIENCE, f"nothing ends any more\n{said()[-5000:]}"
        if now > next_kill and ended >= enough and kill():
            kills += 1
            enough, next_kill = ended + between(), now + pause
        await asyncio.sleep(0.05)
    await starting
    return kills


async def all_runs(mage: Mageflow) -> list[RunRecord]:
    """Read all runs there are."""
    return [run async for run in runs_of(mage.store, Filter())]


async def every_run_ended_once(mage: Mageflow, count: int) -> list[RunRecord]:
    """Hold that so many runs of `step` have succeeded, each with one run of its callback `after`; give all runs."""
    runs = await all_runs(mage)
    assert Counter((run.task, run.status) for run in runs) == {
        ("step", RunStatus.SUCCEEDED): count,
        ("after", RunStatus.SUCCEEDED): count,
    }
    causes = Counter(run.cause for run in runs if run.task == "after")
    assert causes == Counter(run.key for run in runs if run.task == "step")
    return runs
