"""A demo as its store has it: whether it was left before its end, how far it is, and what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mageflow import RunHandle, RunStatus
from mageflow.cli.demo.program import Figures, Problem
from mageflow.cli.output import CommandError
from mageflow.client import Mageflow

T = TypeVar("T", Figures, Problem)

__all__ = ["Progress", "Recorded", "finish", "follow", "left_before_its_end", "look", "recorded"]

_LOOK_EVERY = 0.1
_QUIET_LOOKS = 20
"""Looks without a live run after which nothing more is waited for, where somebody has cancelled runs."""
_PAGE = 500
_FIRST = "examine_folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many runs there are. A file is a run that reads it and one that records it."""

    ended: int = 0
    failed: int = 0
    live: int = 0

    @property
    def files(self) -> int:
        """How many files are done."""
        return self.ended // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the callbacks recorded, and the runs that had read the files, by path."""

    figures: list[Figures]
    problems: list[Problem]
    run_ids: dict[Path, str]


async def left_before_its_end(mage: Mageflow, folder: Path) -> RunHandle[Any] | None:
    """Give the run that began the demo of this store, if that is of the same folder and was left before its end."""
    for run in await mage.find_runs(task_name=_FIRST, limit=1):
        lost = run.seen.status in (RunStatus.FAILED, RunStatus.CANCELLED)
        same = run.seen.message == {"folder": str(folder)}
        if same and not lost and await mage.load_signature(run.seen.signature) is not None:
            return run
    return None


async def finish(first: RunHandle[Any], mage: Mageflow) -> None:
    """Note that the demo is over and told: it is begun no more, so its signature goes."""
    await mage.remove(first.seen.signature)


async def look(mage: Mageflow) -> Progress:
    """Give how far it is."""
    runs = (await mage.overview()).runs
    ended = sum(count for status, count in runs.items() if status.is_terminal)
    return Progress(ended=ended, failed=runs[RunStatus.FAILED], live=sum(runs.values()) - ended)


async def follow(mage: Mageflow, first: RunHandle[int], tell: Callable[[Progress], None]) -> Progress:
    """Look until all has ended, and tell how far it is.

    Raises:
        CommandError: the files could not be listed.
    """
    quiet = 0
    while True:
        begun = await first.info()
        if begun.status is RunStatus.FAILED and begun.failure is not None:
            raise CommandError(f"the demo failed: {begun.failure.type}: {begun.failure.message}")
        progress = await look(mage)
        tell(progress)
        quiet = 0 if progress.live else quiet + 1
        # Counts by status are not of one moment, so that none is live proves nothing. What has ended stays so.
        all_ended = begun.status is RunStatus.SUCCEEDED and progress.ended >= 1 + 2 * begun.result
        if all_ended or quiet >= _QUIET_LOOKS:
            return progress
        await asyncio.sleep(_LOOK_EVERY)


async def recorded(mage: Mageflow) -> Recorded:
    """Collect what the callbacks recorded."""
    figures: list[Figures] = []
    problems: list[Problem] = []
    run_ids: dict[Path, str] = {}
    for entry, cause in await _results(mage, "record_figures", Figures):
        figures.append(entry)
        run_ids[entry.path] = cause
    for problem, cause in await _results(mage, "record_problem", Problem):
        problems.append(problem)
        run_ids[problem.path] = cause
    figures.sort(key=lambda each: each.path)
    problems.sort(key=lambda each: each.path)
    return Recorded(figures=figures, problems=problems, run_ids=run_ids)


async def _results(mage: Mageflow, task: str, model: type[T]) -> list[tuple[T, str]]:
    found: list[tuple[T, str]] = []
    cursor: str | None = None
    while True:
        page = await mage.find_runs(status=RunStatus.SUCCEEDED, task_name=task, limit=_PAGE, cursor=cursor)
        found.extend((model.model_validate(run.seen.result), run.seen.cause or run.id) for run in page)
        cursor = page.cursor
        if cursor is None:
            return found
