"""Two services that share a Hatchet server and a store, and have different tasks; a worker process of either."""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from hatchet_sdk import Hatchet
from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig, ReturnValue
from mageflow.hatchet import HatchetMageflow

CONFIG = MageflowConfig(lease=5.0, redeliver_after=20.0)
SERVICES = ("shop", "billing")


class Order(BaseModel):
    n: int


class Charge(BaseModel):
    user_id: str
    order: Annotated[int | None, ReturnValue()] = None
    n: int = 0


def make(url: str, service: str, journal: Path) -> HatchetMageflow:
    """Give the client of one service, with the tasks that only it has."""
    mage = Mageflow(Hatchet(), url, config=CONFIG)

    def note(what: str, **facts: Any) -> None:
        entry = {"what": what, "service": service, "pid": os.getpid(), **facts}
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    if service == "shop":

        @mage.task
        async def order(msg: Order) -> int:
            note("order", n=msg.n)
            return 100 + msg.n

    else:

        @mage.task(concurrency="input.user_id")
        async def charge(msg: Charge) -> str:
            note("begin", user=msg.user_id)
            await asyncio.sleep(0.2)  # so that two of one user would be seen
            note("end", user=msg.user_id)
            return f"{msg.user_id} {msg.order if msg.order is not None else msg.n}"

    return mage


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], Path(sys.argv[3])).worker(f"mageflow-{sys.argv[2]}", slots=20).start()
