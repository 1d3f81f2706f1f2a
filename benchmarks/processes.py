"""What is measured between processes on one file: how soon a run begins in another, and what a second worker brings."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from mageflow import Mageflow

__all__ = ["idle_share", "pickup", "throughput"]

_PROGRAM = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from benchmarks.processes import work
asyncio.run(work(*sys.argv[1:]))
"""
_SPIN = 0.005
"""Seconds of a core that a CPU-bound body takes."""


def _client(store: str) -> Mageflow:
    mage = Mageflow(store=store)

    @mage.task
    async def note(msg: dict[str, Any]) -> float:
        return time.perf_counter()  # one clock for all processes of a machine

    @mage.task
    async def nothing(msg: dict[str, Any]) -> None: ...

    @mage.task
    async def spin(msg: dict[str, Any]) -> None:
        until = time.thread_time() + _SPIN
        while time.thread_time() < until:
            pass

    return mage


async def work(store: str, concurrency: str) -> None:
    """Be a worker until the standard input ends."""
    async with _client(store) as mage, mage.worker(concurrency=int(concurrency), drain=False):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def _workers(store: Path, count: int, concurrency: int = 100) -> Generator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", _PROGRAM, str(store), str(concurrency)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.communicate(timeout=60)


async def pickup(store: Path, count: int = 300) -> tuple[float, float]:
    """Start runs one by one in this process, for an idle worker in another.

    Returns:
        The median, and the 99th percentile, of the milliseconds from the call of `start` to the body's first line.
    """
    figures: list[float] = []
    with _workers(store, 1):
        async with _client(str(store)) as mage:
            signature = await mage.sign("note")
            for _ in range(count + 20):
                begun = time.perf_counter()
                handle = await signature.start({})
                figures.append((await handle.result(timeout=30) - begun) * 1000)
    figures = sorted(figures[20:])
    return median(figures), figures[int(len(figures) * 0.99)]


async def throughput(store: Path, task: str, count: int, processes: int) -> float:
    """Give the runs a second that worker processes execute of a backlog."""
    async with _client(str(store)) as mage:
        signature = await mage.sign(task)
        await asyncio.gather(*(signature.start({}) for _ in range(count)))
        begun = time.perf_counter()
        with _workers(store, processes):
            begun = time.perf_counter()
            left = await _left(mage)
            begun_with = left
            while left:
                await asyncio.sleep(0.05)
                left = await _left(mage)
            return begun_with / (time.perf_counter() - begun)


async def _left(mage: Mageflow) -> int:
    from mageflow.ports.store import Filter  # noqa: PLC0415

    return await mage.store.count(Filter(live=True))


def idle_share(store: Path, seconds: float = 5.0) -> float:
    """Give the share of a core that an idle worker takes, by the system's own account."""
    with _workers(store, 1) as (process,):
        time.sleep(1.0)  # what a start leaves behind
        before, begun = _cpu_seconds(process.pid), time.perf_counter()
        time.sleep(seconds)
        return (_cpu_seconds(process.pid) - before) / (time.perf_counter() - begun)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
