"""The tasks that the tests on a real server run, and the worker process that they kill."""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportArgumentType=false, reportCallIssue=false
from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from hatchet_sdk import Context, Depends, Hatchet
from pydantic import BaseModel

import mageflow
from mageflow import ErrorValue, Mageflow, MageflowConfig, NonRetryable, Outcome, ReturnValue, TaskFailure
from mageflow.hatchet import HatchetMageflow


class Number(BaseModel):
    n: int = 0


class User(BaseModel):
    user_id: str
    seconds: float = 0.3


class Text(BaseModel):
    text: str = ""


class Received(BaseModel):
    value: Annotated[Any, ReturnValue()] = None


class Failed(Number):
    failure: Annotated[TaskFailure, ErrorValue()]


class Ended(BaseModel):
    outcome: Annotated[Outcome[Any], ReturnValue()]


class Seen:
    """What bodies have noted, in this process."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, Any]] = []

    def note(self, name: str, value: Any) -> None:
        self.notes.append((name, value))

    def of(self, name: str) -> list[Any]:
        return [value for noted, value in self.notes if noted == name]


def shout(message: Number, ctx: Context) -> str:
    return f"{type(message).__name__} {message.n}"


def make(store: Path, *, lease: float = 5.0) -> tuple[HatchetMageflow, Seen]:
    """Give a client with all tasks of the tests."""
    config = MageflowConfig(lease=lease, redeliver_after=20.0)
    hatchet = Mageflow(Hatchet(), store, config=config)
    seen = Seen()
    _plain(hatchet)
    _failing(hatchet, seen)
    _long(hatchet, seen)
    _receiving(hatchet, seen)
    return hatchet, seen


def _plain(hatchet: HatchetMageflow) -> None:
    @hatchet.task
    async def add_one(msg: Received) -> int:
        return int(msg.value or 0) + 1

    @hatchet.task
    def double(msg: Number) -> int:
        return msg.n * 2

    @hatchet.task
    async def nothing() -> None:
        return None

    @hatchet.task
    async def large() -> str:
        return "a" * 20_000_000

    @hatchet.task
    async def with_nul() -> dict[str, str]:
        return {"text": "a\0b"}

    @hatchet.task
    async def depends(msg: Number, ctx: Context, shouted: Annotated[str, Depends(shout)]) -> list[Any]:
        return [shouted, ctx.workflow_run_id, dict(ctx._workflow_input)]

    @hatchet.task(input_validator=Number)
    async def native(msg: Number, ctx: Context) -> dict[str, int]:
        return {"n": msg.n + 1, "retry": ctx.retry_count}

    @hatchet.durable_task
    async def durable(msg: Number, ctx: Any) -> int:
        await ctx.aio_sleep_for(timedelta(seconds=1))
        return msg.n


def _failing(hatchet: HatchetMageflow, seen: Seen) -> None:
    @hatchet.task(retries=2)
    async def fails(msg: Number, ctx: Context) -> None:
        seen.note("fails", (mageflow.current_run().attempt, ctx.retry_count))
        raise ValueError(f"no {msg.n}")

    @hatchet.task(retries=2)
    async def gives_up(msg: Number) -> None:
        raise NonRetryable("never")

    @hatchet.task
    async def leaves(msg: Number) -> None:
        raise SystemExit(3)


def _long(hatchet: HatchetMageflow, seen: Seen) -> None:
    @hatchet.task(execution_timeout=timedelta(seconds=60))
    async def sleeps(msg: Number) -> str:
        seen.note("sleeps", msg.n)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.note("stopped", msg.n)
            raise
        return "slept"

    @hatchet.task
    def sleeps_in_thread(msg: Number) -> str:
        seen.note("sleeps_in_thread", msg.n)
        run = mageflow.current_run()
        for _ in range(300):
            if run.cancelled:
                seen.note("saw", msg.n)
                return "left"
            time.sleep(0.1)
        return "slept"

    @hatchet.task(execution_timeout=timedelta(seconds=2))
    async def takes_four(msg: Number) -> str:
        await asyncio.sleep(4)
        return "done"

    @hatchet.task(concurrency="input.user_id")
    async def one_by_one(msg: User) -> None:
        seen.note("one_by_one", "begin")
        await asyncio.sleep(msg.seconds)
        seen.note("one_by_one", "end")


def _receiving(hatchet: HatchetMageflow, seen: Seen) -> None:
    @hatchet.task
    async def receive(msg: Received) -> None:
        seen.note("receive", msg.value)

    @hatchet.task
    async def on_error(msg: Failed) -> None:
        seen.note("on_error", (msg.n, msg.failure.type, msg.failure.message, msg.failure.attempt))

    @hatchet.task
    async def on_done(msg: Ended) -> None:
        seen.note("on_done", str(msg.outcome.status))


def killed(store: Path, name: str) -> None:
    """Be a worker process that runs one task and is to be killed while it does."""
    hatchet = Mageflow(Hatchet(), store, config=MageflowConfig(lease=3.0, redeliver_after=20.0))
    marks = store.parent / "marks"

    @hatchet.task(execution_timeout=timedelta(seconds=120))
    async def killed_once(msg: Number) -> str:
        with marks.open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
        await asyncio.sleep(60 if name == "first" else 0)
        return name

    hatchet.worker(name, workflows=[killed_once]).start()


if __name__ == "__main__":
    killed(Path(sys.argv[1]), sys.argv[2])
