"""What is measured of mageflow itself: bodies do nothing, the store is a file at its default durability."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from mageflow import Mageflow, TaskSignature

__all__ = ["hop", "import_time", "runs"]


async def hop(store: str | Path, *, length: int = 200, repeats: int = 5) -> list[float]:
    """Give, for each repeat, the milliseconds from one body's end to the start of its success callback's body.

    A line of `length` callbacks, each the success callback of the one before; the worker is up and warm.
    """
    began: list[float] = []
    done = asyncio.Event()
    async with Mageflow(store=store) as mage:

        @mage.task
        async def link(msg: dict[str, Any]) -> None:
            began.append(time.perf_counter())
            if len(began) == length:
                done.set()

        figures: list[float] = []
        async with mage.worker():
            for _ in range(repeats + 1):
                line: TaskSignature[Any, Any] = await mage.sign(link)
                for _ in range(length - 1):
                    line = await mage.sign(link, success_callbacks=[line])
                began.clear()
                done.clear()
                await line.start({})
                await done.wait()
                figures.append((began[-1] - began[0]) / (length - 1) * 1000)
    return figures[1:]


async def runs(store: str | Path, count: int, *, starters: int = 100) -> tuple[float, float]:
    """Start `count` independent runs and execute them, in one process.

    Returns:
        Runs started a second, while nothing else goes on; runs a second from the first start to the last body's end,
        all going on at once.
    """
    ended = 0
    done = asyncio.Event()
    async with Mageflow(store=store) as mage:

        @mage.task
        async def nothing(msg: dict[str, Any]) -> None:
            nonlocal ended
            ended += 1
            if ended == count:
                done.set()

        signature = await mage.sign(nothing)

        async def start(share: int) -> None:
            for _ in range(share):
                await signature.start({})

        async def start_all(total: int) -> float:
            begun = time.perf_counter()
            each = total // starters
            shares = [each + (place < total % starters) for place in range(starters)]
            await asyncio.gather(*(start(share) for share in shares))
            return time.perf_counter() - begun

        async with mage.worker():
            begun = time.perf_counter()
            await start_all(count)
            await done.wait()
            whole = time.perf_counter() - begun
        alone = min(count, 5_000)
        started = await start_all(alone)
    return alone / started, count / whole


def import_time(module: str, *, repeats: int = 7) -> float:
    """Give the median seconds that a new process spends on importing `module`, compiled as an installation has it."""
    code = f"import time; begun = time.perf_counter(); import {module}; print(time.perf_counter() - begun)"
    with TemporaryDirectory(prefix="mageflow-bench-") as cache:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = cache
        times: list[float] = []
        for _ in range(repeats + 1):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=env)
            times.append(float(done.stdout))
    return median(times[1:])
