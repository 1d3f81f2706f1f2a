"""`mageflow demo`: its arguments, its progress bar, and what it says at the end."""

from __future__ import annotations

import asyncio
import os
import shlex
import sysconfig
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import progress as bars
from rich.console import Console

from mageflow import Progress, RunHandle
from mageflow.cli.demo.files import python_files
from mageflow.cli.demo.places import Engine, Place, ServerPlace, place_for
from mageflow.cli.demo.report import print_summary
from mageflow.cli.output import CommandError, clean, console, invocation, note
from mageflow.client import Mageflow
from mageflow.errors import StoreError

if TYPE_CHECKING:
    from mageflow.cli.demo.program import Summary

__all__ = ["demo"]

_LOOK_EVERY = 0.05

EngineOption = Annotated[Engine, typer.Option("--engine", help="What carries the runs to the worker processes.")]
RedisOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="The Redis of --engine taskiq and hatchet: redis://host/0.", show_default=False
    ),
]


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Whose Python files to read; the standard library of this Python if left away.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path, typer.Option("--report", metavar="PATH", dir_okay=False, help="Where to write what was found.")
    ] = Path("report.json"),
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            "-p",
            min=1,
            metavar="N",
            help="How many worker processes; one for each processor, up to 4, if left away.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = Engine.EMBEDDED,
    store: RedisOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, even where a demo of the folder was interrupted.")
    ] = False,
) -> None:
    """Read, hash and parse every .py file of a folder: a swarm of chains, and a callback that writes the report.

    Worker processes do it. Its runs are kept in mageflow-demo.db in the current folder, where ls and show find them.
    Interrupt it, or kill it: the same command goes on from there, and reads nothing again that was read. A demo that
    has ended, or of another folder, is begun anew. Hidden folders and site-packages are left out.

    The same on servers that you have: with --engine taskiq the worker processes are those of `taskiq worker`, on a
    stream of the Redis that --store names; with --engine hatchet those of the Hatchet that HATCHET_CLIENT_TOKEN is for.
    Runs are then kept on that Redis, in a namespace of the demo's own, for a day.

    \b
    mageflow demo
    mageflow demo ~/code/my-project --report /tmp/report.json --processes 2
    mageflow demo --engine taskiq --store redis://localhost:6379/0
    """
    where = (folder or Path(sysconfig.get_path("stdlib"))).resolve()
    files, unreadable = python_files(where)
    if not files:
        raise CommandError(f"no .py file is in {where}; name a folder that has some: mageflow demo FOLDER")
    if not report.resolve().parent.is_dir():
        raise CommandError(f"the folder of --report {report} does not exist; make it, or give another path")
    place = place_for(engine, store)
    out = console()
    out.print(f"Reading {len(files):,} Python files of {clean(str(where))}", soft_wrap=True)
    if unreadable:
        out.print(f"Left out, because their names are not UTF-8: {unreadable}")
    asyncio.run(_Demo(place, where, files, report, out).run(processes or min(4, os.cpu_count() or 1), fresh=fresh))


class _Demo:
    """One demo, from where its store has it to its report."""

    def __init__(self, place: Place, folder: Path, files: list[Path], report: Path, out: Console) -> None:
        # Imported here because it makes a client, which ls and show must not need.
        from mageflow.cli.demo import program, progress  # noqa: PLC0415

        self._place = place
        self._folder = folder
        self._files = files
        self._report = report
        self._out = out
        self._program = program
        self._progress = progress
        self._was_there = place.exists()

    async def run(self, processes: int, *, fresh: bool) -> None:
        """Begin it, or go on with it; have it done; tell what came of it."""
        begun = perf_counter()
        left = await self._left(fresh=fresh) if self._was_there else None
        mage = self._program.mage
        async with mage:
            before = await self._progress.ended_runs(mage)
            first = await mage.load_run(left) if left is not None else None
            if first is None:
                first = await self._program.begin(self._folder, self._files, self._report.resolve())
            else:
                await self._progress.report_to(mage, first, self._report.resolve())
                done = (await self._progress.look(first)).ended
                self._out.print(f"Going on where it was left: {done:,} of them are done")
            found: Summary | None = None
            try:
                async with self._place.workers(processes):
                    found = await self._have_it_done(mage, first)
                    seconds = perf_counter() - begun
                    # Before the workers have ended: those of a server take some seconds for it.
                    print_summary(found, self._out)
                    self._say_what_it_took(found, await self._progress.ended_runs(mage), before, seconds)
                    self._say_what_is_where(found, first.id)
            except asyncio.CancelledError:
                if found is None:
                    done = (await self._progress.look(first)).ended  # what ran has ended since
                    note(f"{done:,} of {len(self._files):,} files are done; the same command goes on from there")
                raise

    async def _have_it_done(self, mage: Mageflow, first: RunHandle[Any]) -> Summary:
        with _bar(self._out) as show:
            await self._progress.follow(first, show)
        return await self._progress.summary_of(mage)

    def _say_what_it_took(self, found: Summary, runs: int, before: int, seconds: float) -> None:
        took = f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
        earlier = f", {before:,} of them before; the others" if before else ""
        self._out.print()
        self._out.print(
            f"{found.parsed + found.failed:,} files, {found.parsed:,} parsed, {found.failed:,} failed. "
            f"{runs:,} runs{earlier} in {took}: {(runs - before) / seconds:,.0f} runs/s."
        )

    def _say_what_is_where(self, found: Summary, swarm: str) -> None:
        store = self._place.shown
        said = f"All figures are in {clean(str(self._report))}, the runs in {store}."
        commands = [("graph", swarm)]
        if found.problems:
            said += " To look further, at the whole and at a file that failed:"
            commands += [("explain", found.problems[0].run), ("show", found.problems[0].run)]
        else:
            said += " To look further:"
            commands += [("explain", swarm), ("show", swarm)]
        self._out.print(said, soft_wrap=True)
        self._out.print()
        for command, run in commands:
            self._out.print(f"    {invocation()} {command} {run} --store {shlex.quote(store)}", soft_wrap=True)

    async def _left(self, *, fresh: bool) -> str | None:
        """Give the id of the run that began the demo which is to go on; else make room for a new one."""
        try:
            async with Mageflow.looking_at(self._place.store) as mage:
                left = await self._progress.left_before_its_end(mage, self._folder)
                if left is not None and not fresh:
                    return left.id
                await _wait_for_workers(mage, self._place)
        except StoreError as error:
            if isinstance(self._place, ServerPlace):
                raise
            if not fresh:
                raise CommandError(f"{error}. To begin a new one: --fresh") from error
        await self._place.remove()
        return None


async def _wait_for_workers(mage: Mageflow, place: Place) -> None:
    """Wait for the workers of a demo that was killed: nobody may have the store when it is removed.

    Raises:
        CommandError: they stay.
    """
    begun = perf_counter()
    while here := [worker for worker in await mage.find_workers() if not worker.gone]:
        if perf_counter() - begun > place.leave_within:
            raise CommandError(f"process {here[0].pid} works on {place.shown}: {place.another()}")
        await asyncio.sleep(_LOOK_EVERY)


@contextmanager
def _bar(out: Console) -> Generator[Callable[[Progress], None]]:
    """Show a bar on a terminal, and nothing elsewhere; gives what is told how many files are done and have failed."""
    columns = (
        bars.SpinnerColumn(),
        bars.BarColumn(bar_width=40),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[failed]} failed"),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None, failed=0)

        def show(seen: Progress) -> None:
            bar.update(task, total=seen.total, completed=seen.ended, failed=seen.failed)

        yield show
