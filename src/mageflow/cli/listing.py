"""`mageflow ls`: the newest runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mageflow import RunStatus
from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened, shown
from mageflow.cli.output import (
    STATUS_STYLES,
    called,
    clock,
    console,
    print_json,
    print_table,
    span,
    summary,
    waits,
)
from mageflow.models.run import RunInfo
from mageflow.wording import plural

__all__ = ["ls"]

_PAGE = 500
_GAP = 2


def ls(
    status: Annotated[
        RunStatus | None, typer.Option("--status", "-s", help="Only runs in this state.", show_default=False)
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="NAME", help="Only runs of this task.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many at most.")] = 20,
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, for programs.")] = False,
) -> None:
    """List runs, newest first. Those of chains and swarms say so before their name.

    \b
    mageflow ls --status failed --task send_email
    mageflow ls --limit 1000 --json | jq -r '.[].id'
    """
    runs, more, idle = asyncio.run(_find(store, status, task, limit))
    if as_json:
        print_json([run.model_dump(mode="json") for run in runs])
        return
    if runs:
        _print(runs)
    else:
        wanted = " like these" if status is not None or task is not None else ""
        console().print(f"No runs{wanted} in {shown(store)}.")
    if more:
        typer.echo(f"There are more: --limit {limit * 10} lists up to {limit * 10} of them.", err=True)
    if idle:
        due = sum(run.status is RunStatus.QUEUED for run in runs)
        typer.echo(
            f"No worker is running on {shown(store)}, and {plural(due, 'run')} of these {_be(due)} due.", err=True
        )


async def _find(store: str, status: RunStatus | None, task: str | None, limit: int) -> tuple[list[RunInfo], bool, bool]:
    """Give the newest runs, whether there are more, and whether one of them is due with no worker to take it."""
    found: list[RunInfo] = []
    async with opened(store) as mage:
        cursor: str | None = None
        while True:
            page = await mage.find_runs(
                status=status, task_name=task, limit=min(_PAGE, limit - len(found)), cursor=cursor
            )
            found.extend(run.seen for run in page)
            cursor = page.cursor
            if cursor is None or len(found) >= limit:
                break
        due = any(run.status is RunStatus.QUEUED for run in found)
        idle = due and all(worker.gone for worker in await mage.find_workers())
        return found, cursor is not None, idle


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _when(run: RunInfo) -> str:
    if run.status is RunStatus.SCHEDULED:
        return f"due {clock(run.due_at)}"
    return clock(None if waits(run) else run.started_at)


def _print(runs: list[RunInfo]) -> None:
    out = console()
    rows = [
        (
            run.id,
            Text(run.status, style=STATUS_STYLES.get(run.status, "")),
            Text(called(run)),
            _when(run),
            span(run.started_at, run.ended_at),
            Text(summary(run)),
        )
        for run in runs
    ]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    left = out.width
    for place, heading in enumerate(("RUN", "STATUS", "TASK", "STARTED", "TOOK")):
        width = max(len(heading), *(len(row[place]) for row in rows))
        left -= width + _GAP
        table.add_column(heading, no_wrap=True, width=width, justify="right" if heading == "TOOK" else "left")
    # Only what it came to is shortened where the terminal is narrow: an id must be whole, to be copied.
    table.add_column("CAME TO", no_wrap=True, overflow="ellipsis", max_width=max(left, len("CAME TO")))
    for row in rows:
        table.add_row(*row)
    print_table(out, table)
