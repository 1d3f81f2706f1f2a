"""The program of the kill test on Hatchet: its tasks, and a worker process that is killed."""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from hatchet_sdk import Hatchet
from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig, current_run
from mageflow.hatchet import HatchetMageflow

CONFIG = MageflowConfig(lease=3.0, redeliver_after=3.0, max_worker_losses=10_000)


class Step(BaseModel):
    n: int = 0


def make(url: str, journal: Path) -> HatchetMageflow:
    """Give the client; the process that starts runs has the same.

    Args:
        url: the store.
        journal: where bodies write what outlives their process.
    """
    hatchet = Mageflow(Hatchet(), url, config=CONFIG)

    def note(what: str) -> None:
        run = current_run()
        entry = {"what": what, "pid": os.getpid(), "run": run.id, "attempt": run.attempt}
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    @hatchet.task
    async def step(msg: Step) -> int:
        note("begin")
        await asyncio.sleep(0.3)  # so that a kill meets some
        note("end")
        return msg.n

    @hatchet.task
    async def after() -> None:
        note("begin")
        note("end")

    return hatchet


def noted(journal: Path, what: str) -> list[dict[str, Any]]:
    """Give what bodies have noted; a line that a kill cut off is none."""
    if not journal.exists():
        return []
    lines = journal.read_text(encoding="utf-8").splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("}")]
    return [each for each in entries if each["what"] == what]


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2])).worker("mageflow-killed", slots=20).start()
