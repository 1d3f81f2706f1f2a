"""What swarms cost: members made, executed and cancelled a second, the memory they take, and the longest commit.

`python -m benchmarks.swarms N` measures in a process of its own, so that its memory is that of one swarm.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from mageflow import Mageflow, RunHandle, SwarmConfig
from mageflow.stores.sqlite.writer import Writer

__all__ = ["measure"]

_WINDOW = 100


def measure(count: int, *, what: str) -> dict[str, float]:
    """Measure one swarm of `count` members in a new process.

    Args:
        count: how many members.
        what: `"members"` (empty bodies), `"callbacks"` (each with a success callback), or `"cancel"` (all of them are
            made, and cancelled when half of that is done).
    """
    command = [sys.executable, "-m", "benchmarks.swarms", str(count), what]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


class _Commits:
    """Notes how long each transaction of the writer takes, from its begin to its commit."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def watch(self) -> Any:
        attempt = Writer._attempt  # pyright: ignore[reportPrivateUsage]

        def timed(writer: Writer, *args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return attempt(writer, *args, **options)
            finally:
                self.times.append(time.perf_counter() - begun)

        return patch.object(Writer, "_attempt", timed)


async def _swarm(store: Path, count: int, what: str) -> dict[str, float]:
    commits = _Commits()
    with commits.watch():
        async with Mageflow(store=store) as mage:

            @mage.task
            async def nothing(msg: dict[str, Any]) -> None: ...

            signature = await mage.sign(nothing, success_callbacks=[nothing] if what == "callbacks" else [])
            before, begun = _resident(), time.perf_counter()
            swarm = await mage.swarm(
                task=signature,
                inputs=({"number": number} for number in range(count)),
                config=SwarmConfig(max_concurrency=count if what == "cancel" else _WINDOW),
            )
            found = {"made_per_s": count / (time.perf_counter() - begun)}
            if what == "cancel":
                found |= await _cancelled(mage, await swarm.start(), count, commits)
            else:
                begun, used = time.perf_counter(), time.process_time()
                async with mage.worker():
                    await swarm.start()
                found["ended_per_s"] = count / (time.perf_counter() - begun)
                found["cpu_us"] = 1e6 * (time.process_time() - used) / count
            found["memory_mb"] = _resident() - before
            found["longest_commit_ms"] = 1000 * max(commits.times)
    return found


async def _cancelled(mage: Mageflow, handle: RunHandle[Any], count: int, commits: _Commits) -> dict[str, float]:
    """Make members until half of them are there, with a worker that does not know their task; then cancel all."""
    begun = time.perf_counter()
    async with Mageflow(store=mage.store) as other, other.worker(drain=False):
        opened = 0
        async for seen in handle.events():
            progress = seen.progress
            opened = progress.total - progress.waiting if progress is not None else count
            if opened >= count / 2:
                break
        rate = opened / (time.perf_counter() - begun)
        commits.times.clear()
        begun = time.perf_counter()
        await handle.cancel()
        await handle.settled()
        return {"opened_per_s": rate, "cancelled_per_s": count / (time.perf_counter() - begun)}


def _resident() -> float:
    """Give the megabytes of memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    with TemporaryDirectory(prefix="mageflow-bench-") as name:
        json.dump(asyncio.run(_swarm(Path(name) / "swarm.db", int(sys.argv[1]), sys.argv[2])), sys.stdout)
