"""A program for two processes on one file, in which each body waits until both of them run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from mageflow import Mageflow, current_run

mage = Mageflow()
FOLDER = Path(os.environ.get("JOINING_FOLDER", "."))


@mage.task
async def meet(msg: dict[str, Any]) -> int:
    """End at the moment at which the other one does."""
    (FOLDER / f"{current_run().id}.here").write_text(str(os.getpid()), encoding="utf-8")
    while len(list(FOLDER.glob("*.here"))) < 2:  # noqa: ASYNC110 - nothing tells of files
        await asyncio.sleep(0.001)
    return int(msg["n"])


@mage.task
async def joined(msg: dict[str, Any]) -> None:
    (FOLDER / f"{current_run().id}.joined").write_text(repr(msg["results"]), encoding="utf-8")
