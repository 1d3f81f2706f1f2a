"""What mageflow adds on Hatchet, paired in one run with plain tasks on the same worker and server.

`HATCHET_CLIENT_TOKEN=… python -m benchmarks.on_hatchet redis://localhost:6379/0`
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from hatchet_sdk import Context, Hatchet
from pydantic import BaseModel

from mageflow import Mageflow, SwarmConfig
from mageflow.hatchet import HatchetMageflow

HOPS = 30
MEMBERS = 500
SETTLES = 10.0
"""Seconds after 500 runs: the server works on for as long as twice the time in which their bodies began, and would do
so at the expense of whoever comes next."""


class Hop(BaseModel):
    left: int = 0
    log: str = ""


def client(store: str) -> tuple[HatchetMageflow, list[Any]]:
    """Give the client with the tasks of both kinds: mageflow's, and plain ones that Hatchet alone knows."""
    hatchet = Mageflow(Hatchet(), store)

    @hatchet.task(name="bench-hop")
    async def hop(msg: Hop) -> None:
        note(msg.log)

    @hatchet.task(name="bench-noop")
    async def noop(msg: Hop) -> None:
        note(msg.log)

    @hatchet.hatchet.task(name="bench-plain-hop", input_validator=Hop)
    async def plain_hop(msg: Hop, ctx: Context) -> None:
        note(msg.log)
        if msg.left:
            await plain_hop.aio_run(Hop(left=msg.left - 1, log=msg.log), wait_for_result=False)

    @hatchet.hatchet.task(name="bench-plain-noop", input_validator=Hop)
    async def plain_noop(msg: Hop, ctx: Context) -> None:
        note(msg.log)

    PLAIN.update(hop=plain_hop, noop=plain_noop)
    return hatchet, [hop, noop, plain_hop, plain_noop]


PLAIN: dict[str, Any] = {}


def note(log: str) -> None:
    """Note that a body begins."""
    with open(log, "a") as file:
        file.write(f"{time.monotonic()}\n")


def read(log: str) -> list[str]:
    return Path(log).read_text().splitlines() if os.path.exists(log) else []


async def noted(log: str, count: int) -> list[float]:
    """Wait until so many bodies have begun, and give when each did."""
    async with asyncio.timeout(120):
        while True:
            lines = read(log)
            if len(lines) >= count:
                return [float(line) for line in lines]
            await asyncio.sleep(0.02)


async def ready(log: str) -> None:
    """Wait until the worker serves: Hatchet drops what is submitted before its tasks are registered."""
    while not read(log):
        await PLAIN["noop"].aio_run(Hop(log=log), wait_for_result=False)
        await asyncio.sleep(1)


async def line(hatchet: HatchetMageflow) -> str:
    """Sign a line of callbacks, each the success callback of the one before; give the first one's key."""
    key: list[str] = []
    for _ in range(HOPS + 1):
        key = [(await hatchet.sign("bench-hop", success_callbacks=key, kwargs={"log": LOG[0]})).key]
    return key[0]


LOG = [""]


async def begin_many(hatchet: HatchetMageflow, kind: str, log: str) -> tuple[float, asyncio.Task[Any]]:
    """Start a swarm, or as many plain runs; give the time, and the call, which for plain runs outlasts them."""
    if kind == "plain":
        task = PLAIN["noop"]
        items = [task.create_bulk_run_item(Hop(log=log)) for _ in range(MEMBERS)]
        return time.monotonic(), asyncio.create_task(task.aio_run_many(items, wait_for_result=False))
    config = SwarmConfig(max_concurrency=MEMBERS)
    swarm = await hatchet.swarm(task="bench-noop", inputs=[Hop(log=log)] * MEMBERS, config=config)
    return time.monotonic(), asyncio.create_task(swarm.start())


async def measure(store: str, folder: Path, repeats: int) -> None:
    hatchet, _ = client(store)
    async with hatchet:
        await ready(str(folder / "ready"))
        hops: dict[str, list[float]] = {"mageflow": [], "plain": []}
        swarms: dict[str, list[float]] = {"mageflow": [], "plain": []}
        for repeat in range(repeats + 1):  # the first one warms up
            for kind in ("plain", "mageflow"):
                log = LOG[0] = str(folder / f"hop-{kind}-{repeat}")
                if kind == "plain":
                    await PLAIN["hop"].aio_run(Hop(left=HOPS, log=log), wait_for_result=False)
                else:
                    first = await hatchet.load_signature(await line(hatchet))
                    assert first is not None
                    await first.start()
                times = await noted(log, HOPS + 1)
                if repeat:
                    hops[kind] += [1000 * (after - before) for before, after in pairwise(times)]
            for kind in ("plain", "mageflow") if repeat % 2 else ("mageflow", "plain"):
                await asyncio.sleep(SETTLES)
                log = str(folder / f"swarm-{kind}-{repeat}")
                begun, call = await begin_many(hatchet, kind, log)
                times = await noted(log, MEMBERS)
                await call
                if repeat:
                    swarms[kind].append(max(times) - begun)
                    print(f"{kind}: {swarms[kind][-1]:.2f} s", flush=True)
            await asyncio.sleep(SETTLES)
        show("hop, ms", hops)
        show(f"{MEMBERS} members until the last began, s", swarms)
        ratios = sorted(ours / plain for ours, plain in zip(swarms["mageflow"], swarms["plain"], strict=True))
        print("pair by pair:", ", ".join(f"{ratio:.2f}" for ratio in ratios), f"median {median(ratios):.2f}")


def show(what: str, found: dict[str, list[float]]) -> None:
    ours, plain = median(found["mageflow"]), median(found["plain"])
    low, high = (sorted(found["mageflow"])[int(len(found["mageflow"]) * part)] for part in (0.05, 0.95))
    print(f"{what}: mageflow {ours:.3g} ({low:.3g} to {high:.3g}), plain {plain:.3g}, ratio {ours / plain:.2f}")


def serve(store: str) -> None:
    hatchet, tasks = client(store)
    hatchet.worker("bench", slots=MEMBERS, workflows=tasks).start()


def main() -> None:
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
        return
    store = sys.argv[1]
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    worker = subprocess.Popen([sys.executable, "-m", "benchmarks.on_hatchet", "serve", store], start_new_session=True)
    try:
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(measure(store, Path(name), repeats))
    finally:
        worker.terminate()
        worker.wait(30)


if __name__ == "__main__" and multiprocessing.parent_process() is None:
    main()
