"""A store with runs of each kind, for the commands to look at."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel

from mageflow import ErrorValue, Mageflow, MageflowConfig, ReturnValue, RunOptions, TaskFailure, TTLConfig
from tests.cli.processes import environment


class Order(BaseModel):
    order_id: int


class Email(BaseModel):
    to: str
    receipt: Annotated[str, ReturnValue()]


class Alert(Order):
    failure: Annotated[TaskFailure, ErrorValue()]


@dataclass(frozen=True)
class Kept:
    """The file, and the ids of the runs in it."""

    path: Path
    good: str
    bad: str
    email: str
    alert: str

    @property
    def store(self) -> str:
        return str(self.path)


@pytest.fixture
async def kept(tmp_path: Path) -> Kept:
    path = tmp_path / "orders.db"
    async with Mageflow(store=path) as mage:

        @mage.task(retries=1)
        async def process_order(order: Order) -> str:
            return f"receipt {100 // order.order_id}"

        @mage.task
        async def send_email(msg: Email) -> None:
            return

        @mage.task
        async def alert(msg: Alert) -> str:
            return f"told \x1b[31m{msg.failure.type}"

        email = await mage.sign(send_email, to="ada@example.com")
        flow = await mage.sign(process_order, success_callbacks=[email], error_callbacks=[alert])
        async with mage.worker():
            good = await flow.start(Order(order_id=7))
            await good.settled(timeout=20)
            bad = await flow.start(Order(order_id=0))
            await bad.settled(timeout=20)
        [emailed], [alerted] = await good.caused(), await bad.caused()
        return Kept(path=path, good=good.id, bad=bad.id, email=emailed.id, alert=alerted.id)


@dataclass(frozen=True)
class Stock:
    """A file with runs that wait for all kinds of things, each under its name, for the tests of one module."""

    path: Path
    keys: dict[str, str]

    @property
    def store(self) -> str:
        return str(self.path)

    def __getitem__(self, name: str) -> str:
        return self.keys[name]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    path = tmp_path_factory.mktemp("stock") / "stock.db"
    return Stock(path=path, keys=asyncio.run(_fill(path)))


async def _fill(path: Path) -> dict[str, str]:
    keys: dict[str, str] = {}
    async with Mageflow(store=path, config=MageflowConfig(ttl=TTLConfig(ttl_when_sign_done=timedelta(days=1)))) as mage:

        @mage.task
        async def echo(msg: dict[str, object]) -> dict[str, object]:
            return msg

        @mage.task(retries=1)
        async def fail() -> None:
            raise ValueError("no \x1b[31mluck")

        @mage.task(retries=5, backoff_factor=3600)
        async def fail_slowly() -> None:
            raise ValueError("not yet")

        signature, held = await mage.sign(echo), await mage.sign(echo)
        keys["signature"], keys["held signature"] = signature.key, held.key
        failing = await mage.sign(fail)
        async with mage.worker():
            for name in ("failed", "failed 2"):
                run = await failing.start()
                await run.settled(timeout=20)
                keys[name] = run.id
            keys["pausing"] = (await (await mage.sign(fail_slowly)).start()).id
            done = await signature.start({"x": 1})
            await done.settled(timeout=20)
            keys["succeeded"] = done.id
        await held.suspend()
        keys["held by signature"] = (await held.start()).id
        keys["delayed"] = (await signature.start(options=RunOptions(delay=7200))).id
        for name in ("queued", "to cancel", "to suspend", "to interrupt", "to resume"):
            waits = await signature.start()
            keys[name] = waits.id
            if name == "to resume":
                await waits.suspend()
    return keys


class Work:
    """A worker in a process of its own, with a store that it serves."""

    def __init__(self, store: Path, process: subprocess.Popen[str]) -> None:
        self.path = store
        self.process = process

    @property
    def store(self) -> str:
        return str(self.path)


_WORKER = """
import asyncio, sys
from mageflow import Mageflow, current_run

mage = Mageflow(store=sys.argv[1])

@mage.task
async def double(msg: dict[str, int]) -> dict[str, int]:
    return {"doubled": msg["x"] * 2}

@mage.task
async def fail(msg: dict[str, int]) -> None:
    raise ValueError("the body said no")

@mage.task
async def sleep(msg: dict[str, int]) -> None:
    await asyncio.sleep(600)

async def main() -> None:
    async with mage.worker("press", drain=False, grace=0.1):
        print("serving", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    folder = tmp_path_factory.mktemp("served")
    store, program = folder / "served.db", folder / "program.py"
    program.write_text(_WORKER, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(program), str(store)], stdout=subprocess.PIPE, encoding="utf-8", env=environment()
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        yield Work(store, process)
    finally:
        process.kill()
        process.communicate()
