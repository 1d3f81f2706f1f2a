"""What `taskiq worker benchmarks.taskiq_plain:broker` runs for `benchmarks.taskiq`: Taskiq alone, without us."""

from __future__ import annotations

import os
import time
from pathlib import Path

from taskiq_redis import ListQueueBroker, RedisStreamBroker

URL = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:1/0")
STAMPS = Path(os.environ.get("BENCH_STAMPS", "stamps"))
LISTS = os.environ.get("BENCH_BROKER") == "list"

_seen: dict[str, tuple[int, float]] = {}


def broker_of(queue: str) -> ListQueueBroker | RedisStreamBroker:
    """Make a broker of the kind that is measured."""
    return ListQueueBroker(URL, queue_name=queue) if LISTS else RedisStreamBroker(URL, queue_name=queue)


def count(what: str, of: int) -> None:
    """Note when the first and when the last of so many bodies began."""
    before, first = _seen.get(what, (0, time.perf_counter()))
    _seen[what] = (before + 1, first)
    if before + 1 == of:
        with STAMPS.open("a") as stamps:
            stamps.write(f"{what} {of} {first} {time.perf_counter()}\n")


broker = broker_of("bench-plain")


@broker.task(task_name="plain_hop")
async def plain_hop(what: str, of: int, left: int) -> None:
    count(what, of)
    if left:
        await plain_hop.kiq(what, of, left - 1)


@broker.task(task_name="plain")
async def plain(what: str, of: int) -> None:
    count(what, of)
