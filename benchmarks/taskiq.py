"""What a run costs on Taskiq and Redis, beside Taskiq alone: `python -m benchmarks.taskiq`.

Plain and ours take turns on one server and one `taskiq worker` with one process, each started anew. A hop is the time
from one body's beginning to the next one's: plain, a body kicks the next one itself; ours, a success callback does. A
drain is 10,000 bodies that do nothing: plain, messages that wait when the worker starts; ours, the members of a swarm.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from mageflow import RunHandle, SwarmConfig
from tests.redis.servers import Server, programs

ROOT = Path(__file__).resolve().parents[1]


class _Bench:
    def __init__(self, folder: Path, server: Server, kind: str) -> None:
        self.folder, self.server = folder, server
        self.stamps = folder / "stamps"
        self.stamps.touch()
        os.environ.update(
            BENCH_REDIS=server.url,
            BENCH_STAMPS=str(self.stamps),
            BENCH_BROKER=kind,
            PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        )
        self.program: Any = importlib.import_module("benchmarks.taskiq_program")
        self.plain: Any = importlib.import_module("benchmarks.taskiq_plain")

    def worker(self, *, ours: bool) -> subprocess.Popen[bytes]:
        module = (self.program if ours else self.plain).__name__
        command = [sys.executable, "-m", "taskiq", "worker", f"{module}:broker", "--workers", "1"]
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                [*command, "--log-level", "WARNING"], stdout=said, stderr=said, start_new_session=True
            )

    async def stamp(self, what: str) -> tuple[float, float]:
        """Wait until the last body has begun; give when the first and the last did."""
        while True:
            for line in self.stamps.read_text().splitlines():
                name, _, first, last = line.split()
                if name == what:
                    return float(first), float(last)
            await asyncio.sleep(0.02)

    async def hop(self, what: str, hops: int, *, ours: bool) -> float:
        """Give the milliseconds of a hop."""
        worker = self.worker(ours=ours)
        try:
            if ours:
                mage = self.program.mage
                signature = await mage.sign("ours", what=what, of=hops + 1)
                for _ in range(hops):
                    signature = await mage.sign("ours", what=what, of=hops + 1, success_callbacks=[signature])
                await signature.start({})
            else:
                await self.plain.plain_hop.kiq(what, hops + 1, hops)
            first, last = await self.stamp(what)
            return (last - first) / hops * 1000
        finally:
            _stop(worker)

    async def drain(self, what: str, size: int, *, ours: bool) -> float:
        """Give how many bodies began in a second."""
        handle: RunHandle[Any] | None = None
        if ours:
            mage = self.program.mage
            messages = [{"what": what, "of": size}] * size
            swarm = await mage.swarm(task="ours", inputs=messages, config=SwarmConfig(max_concurrency=1000))
            handle = await swarm.start()
        else:
            for _ in range(size // 100):
                await asyncio.gather(*(self.plain.plain.kiq(what, size) for _ in range(100)))
        worker = self.worker(ours=ours)
        try:
            first, last = await self.stamp(what)
            if handle is not None:
                await handle.result(timeout=600)
            return size / (last - first)
        finally:
            _stop(worker)


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """End a worker; Taskiq's own may wait for a message that never comes."""
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


async def measure(kind: str, repeats: int, hops: int, size: int) -> dict[str, Any]:
    """Take all figures for a kind of broker; the program is imported for one kind in a process."""
    found: dict[str, list[float]] = {"hop_plain_ms": [], "hop_ms": [], "plain_per_s": [], "members_per_s": []}
    server = Server(next(iter(programs().values())))
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="mageflow-bench-") as name:
            bench = _Bench(Path(name), server, kind)
            await bench.program.broker.startup()
            await bench.plain.broker.startup()
            for turn in range(repeats):
                found["hop_plain_ms"].append(await bench.hop(f"hop-plain-{turn}", hops, ours=False))
                found["hop_ms"].append(await bench.hop(f"hop-ours-{turn}", hops, ours=True))
                found["plain_per_s"].append(await bench.drain(f"plain-{turn}", size, ours=False))
                found["members_per_s"].append(await bench.drain(f"ours-{turn}", size, ours=True))
                print(json.dumps({name: round(values[-1], 2) for name, values in found.items()}), file=sys.stderr)
            await bench.program.mage.aclose()
            await bench.program.broker.shutdown()
            await bench.plain.broker.shutdown()
    finally:
        server.close()
    middle = {name: median(values) for name, values in found.items()}
    hop_ratio = median(a / b for a, b in zip(found["hop_ms"], found["hop_plain_ms"], strict=True))
    drain_ratio = median(a / b for a, b in zip(found["members_per_s"], found["plain_per_s"], strict=True))
    return {"broker": kind, **middle, "hop_ratio": hop_ratio, "drain_ratio": drain_ratio, "all": found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=("stream", "list"), default="stream")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hops", type=int, default=200)
    parser.add_argument("--size", type=int, default=10_000)
    given = parser.parse_args()
    begun = time.perf_counter()
    found = asyncio.run(measure(given.broker, given.repeats, given.hops, given.size))
    print(json.dumps(found | {"took_s": time.perf_counter() - begun}, indent=2))


if __name__ == "__main__":
    main()
