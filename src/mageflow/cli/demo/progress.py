"""A demo as its store has it: whether it was left before its end, how far it is, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mageflow import Progress, RunHandle, RunStatus
from mageflow.cli.demo.program import REPORT, SWARM, Summary
from mageflow.cli.output import CommandError
from mageflow.client import Mageflow

__all__ = ["ended_runs", "follow", "left_before_its_end", "look", "report_to", "summary_of"]

_LOOK_EVERY = 0.1


async def left_before_its_end(mage: Mageflow, folder: Path) -> RunHandle[Any] | None:
    """Give the run of the demo of this store, if that is of the same folder and was left before its report."""
    for run in await mage.find_runs(task_name=SWARM, limit=1):
        lost = run.seen.status in (RunStatus.FAILED, RunStatus.CANCELLED)
        written = any(each.seen.status.is_terminal for each in await mage.find_runs(task_name=REPORT, limit=1))
        bound = await _bound(mage, run)
        if not lost and not written and bound is not None and bound.kwargs.get("folder") == str(folder):
            return run
    return None


async def report_to(mage: Mageflow, first: RunHandle[Any], report: Path) -> None:
    """Have the report written there: what is bound counts until the callback begins."""
    bound = await _bound(mage, first)
    if bound is not None and bound.kwargs.get("report") != str(report):
        await bound.kwargs.aupdate(report=report)


async def _bound(mage: Mageflow, first: RunHandle[Any]) -> Any:
    """Give the signature of the callback that writes the report, to which the folder is bound."""
    callbacks = first.seen.success_callbacks
    return await mage.load_signature(callbacks[0]) if callbacks else None


async def ended_runs(mage: Mageflow) -> int:
    """Count the runs that have ended: of the swarm, the chains, their steps and the callback."""
    return sum(count for status, count in (await mage.overview()).runs.items() if status.is_terminal)


async def look(first: RunHandle[Any]) -> Progress:
    """Give how far it is: a member is a file."""
    return (await first.info()).progress or Progress(total=0)


async def follow(first: RunHandle[Any], tell: Callable[[Progress], None]) -> None:
    """Look until the last file is done, and tell how far it is.

    Raises:
        CommandError: somebody has cancelled it.
    """
    while True:
        tell(await look(first))
        if first.seen.status is RunStatus.CANCELLED:
            raise CommandError(f"the demo was cancelled: mageflow cancel {first.id}; started again, it begins anew")
        if first.seen.status.is_terminal:
            return
        await asyncio.sleep(_LOOK_EVERY)


async def summary_of(mage: Mageflow) -> Summary:
    """Wait for the report; give what it says, in short.

    Raises:
        CommandError: it could not be written, or somebody has cancelled it.
    """
    (report,) = await mage.find_runs(task_name=REPORT, limit=1)  # made in the commit that ended the swarm
    outcome = await report.outcome()
    if outcome.failure is not None:
        raise CommandError(f"the report was not written: {outcome.failure.type}: {outcome.failure.message}")
    if outcome.value is None:
        raise CommandError("somebody has cancelled the report; started again, the demo begins anew")
    return Summary.model_validate(outcome.value)
