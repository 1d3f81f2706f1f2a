"""The app that is run in processes and killed. What a body does at first, it writes to a file that tests read."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mageflow
from mageflow import Mageflow, MageflowConfig, SwarmTaskSignature, current_run

JOURNAL = Path(os.environ.get("CRASH_JOURNAL", "journal"))
GATE = Path(os.environ.get("CRASH_GATE", "gate"))

if "CRASH_MACHINE" in os.environ:  # as if this process were elsewhere: nobody can tell that it is gone
    patch("mageflow.runtime.worker.this_machine", lambda: os.environ["CRASH_MACHINE"]).start()


def note(what: str) -> None:
    """Say that a body of this process does something."""
    run = current_run()
    line = json.dumps(
        {"what": what, "run": run.id, "attempt": run.attempt, "pid": os.getpid(), "at": time.perf_counter()}
    )
    with JOURNAL.open("a", encoding="utf-8") as journal:  # one short write that appends: processes do not mix
        journal.write(line + "\n")


async def step(msg: dict[str, Any]) -> int:
    await asyncio.sleep(msg["seconds"])
    return int(msg["n"])


async def after(msg: dict[str, Any]) -> int:
    await asyncio.sleep(msg["seconds"])
    return int(msg["results"])


async def hold(msg: dict[str, Any]) -> int:
    """Go on until a gate is open, the usual one or one of its own; the event loop moves."""
    note("hold")
    gate = Path(msg.get("gate", GATE))
    while not gate.exists():  # noqa: ASYNC110 - nothing tells of files
        await asyncio.sleep(0.005)
    note("let go")
    return current_run().attempt


async def spawns(msg: dict[str, Any]) -> str:
    """Make a chain and a member of a swarm, and start them; in the first attempt, stand until killed."""
    chain = await mageflow.chain(["step", "after"], kwargs={"seconds": 0})
    started = await chain.start({"n": 1})
    swarm = await mageflow.load_signature(msg["swarm"])
    assert isinstance(swarm, SwarmTaskSignature)
    await swarm.aio_run_in_swarm("step", {"n": 2, "seconds": 0})
    note("spawned")
    if current_run().attempt == 1:
        await asyncio.Event().wait()
    await swarm.close_swarm()
    return started.id


async def block(msg: dict[str, Any]) -> int:
    """In the first attempt, hold the event loop up until the gate is open."""
    note("block")
    while current_run().attempt == 1 and not GATE.exists():
        time.sleep(0.005)  # noqa: ASYNC251 - it is wrong on purpose
    return current_run().attempt


def thread(msg: dict[str, Any]) -> None:
    """Hold a thread that nobody can stop."""
    note("thread")
    while not GATE.exists():
        time.sleep(0.005)


def register(mage: Mageflow) -> Mageflow:
    """Make the tasks known to a client."""
    for body in (step, after, hold, spawns, block):
        mage.task(body)
    mage.task(thread)
    return mage


mage = register(
    Mageflow(
        config=MageflowConfig(
            lease=float(os.environ.get("CRASH_LEASE", "2")),
            max_stall=float(os.environ.get("CRASH_MAX_STALL", "30")),
            max_worker_losses=10_000,
        )
    )
)
