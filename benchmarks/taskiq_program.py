"""What `taskiq worker benchmarks.taskiq_program:broker` runs for `benchmarks.taskiq`: the same bodies, as runs."""

from __future__ import annotations

from typing import Any

from benchmarks.taskiq_plain import URL, broker_of, count
from mageflow import Mageflow

broker = broker_of("bench-runs")
mage = Mageflow(broker, URL)


@mage.task
async def ours(msg: dict[str, Any]) -> None:
    count(msg["what"], msg["of"])
