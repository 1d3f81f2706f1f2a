"""A program on Taskiq and Redis: what `taskiq worker tests.engines.program:broker` runs, and what starts its runs.

With `ENGINE_BROKER=none` its runs are pulled from the store, by `mageflow worker tests.engines.program:mage`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

from taskiq import AsyncBroker, Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from mageflow import Mageflow, MageflowConfig, current_run
from mageflow.engines.local import LocalEngine

URL = os.environ.get("ENGINE_REDIS", "redis://127.0.0.1:1/0")
QUEUE = os.environ.get("ENGINE_QUEUE", "flows")
JOURNAL = Path(os.environ.get("ENGINE_JOURNAL", "journal"))
GATE = Path(os.environ.get("ENGINE_GATE", "gate"))
CARRIER = os.environ.get("ENGINE_BROKER", "stream")
NATS = os.environ.get("ENGINE_NATS", "nats://127.0.0.1:1")


def note(what: str, **facts: Any) -> None:
    """Write a line that outlives the process."""
    entry = {"what": what, "pid": os.getpid(), "at": time.perf_counter(), **facts}
    with JOURNAL.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(entry) + "\n")


def make_broker() -> AsyncBroker:
    match CARRIER:
        case "list":
            return ListQueueBroker(URL, queue_name=QUEUE)
        case "jetstream":
            return PullBasedJetStreamBroker([NATS], subject=QUEUE, stream_name=QUEUE, durable=QUEUE)
        case _:
            return RedisStreamBroker(URL, queue_name=QUEUE, xread_block=200)


broker = make_broker()
store = os.environ.get("ENGINE_STORE", URL)
config = MageflowConfig(lease=2.0, redeliver_after=2.0, max_worker_losses=10_000)
# The embedded engine is not offered beside Redis; one that is given is taken, and holds the pulls of that store.
mage = Mageflow(LocalEngine() if CARRIER == "none" else broker, store, config=config)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def begin(state: TaskiqState) -> None:
    state.greeting = "hello"
    note("startup")


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def end(state: TaskiqState) -> None:
    note("shutdown")


def greeting(context: Annotated[Context, TaskiqDepends()]) -> str:
    return f"{context.state.greeting} {context.message.task_name}"


@broker.task
async def add(a: int, b: int = 2) -> int:
    return a + b


@broker.task(task_name="divide", retry_on_error=True, max_retries=3)
def divide(a: int, b: int) -> float:
    note("divide")
    return a / b


@mage.task
async def greet(msg: dict[str, Any], words: Annotated[str, TaskiqDepends(greeting)]) -> str:
    return f"{words}: {msg['name']}"


@mage.task
async def step(msg: dict[str, Any]) -> int:
    run = current_run()
    note("begin", run=run.id, n=msg["n"], attempt=run.attempt)
    await asyncio.sleep(msg.get("seconds", 0))
    note("end", run=run.id, n=msg["n"], attempt=run.attempt)
    return int(msg["n"])


@mage.task
async def after(msg: dict[str, Any]) -> int:
    return int(msg["results"])


@mage.task
async def hold() -> int:
    run = current_run()
    note("hold", run=run.id, attempt=run.attempt)
    while not GATE.exists():  # noqa: ASYNC110 - nothing tells of files
        await asyncio.sleep(0.01)
    return run.attempt


if os.environ.get("ENGINE_DEPLOY") == "new":

    @mage.task
    async def brand_new() -> str:
        return "known by now"
