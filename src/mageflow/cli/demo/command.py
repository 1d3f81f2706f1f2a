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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import mageflow
from mageflow import RunHandle
from mageflow.cli.demo.files import python_files
from mageflow.cli.demo.report import Report, print_report, write_report
from mageflow.cli.output import CommandError, clean, console, invocation, note
from mageflow.client import Mageflow
from mageflow.errors import StoreError
from mageflow.project import App
from mageflow.serving import Logs, worker_processes

if TYPE_CHECKING:
    from mageflow.cli.demo import progress

__all__ = ["demo"]

# From where mageflow itself is imported: nothing in the user's folder can be taken for a module of the program's.
_APP = App("mageflow.cli.demo.program:mage", Path(mageflow.__file__).resolve().parents[1])
_BODIES = 4
"""At once in each process. A thread holds the interpreter while it parses; a few keep it busy."""
_GRACE = 2.0
_LEAVE_WITHIN = 2 * _GRACE
_LOOK_EVERY = 0.05


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
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, even where a demo of the folder was interrupted.")
    ] = False,
) -> None:
    """Read, hash and parse every .py file of a folder: a run each, and a callback that records how it went.

    Worker processes do it. Its runs are kept in mageflow-demo.db in the current folder, where ls and show find them.
    Interrupt it, or kill it: the same command goes on from there, and reads nothing again that was read. A demo that
    has ended, or of another folder, is begun anew. Hidden folders and site-packages are left out.

    \b
    mageflow demo
    mageflow demo ~/code/my-project --report /tmp/report.json --processes 2
    """
    where = (folder or Path(sysconfig.get_path("stdlib"))).resolve()
    files, unreadable = python_files(where)
    if not files:
        raise CommandError(f"no .py file is in {where}; name a folder that has some: mageflow demo FOLDER")
    if not report.resolve().parent.is_dir():
        raise CommandError(f"the folder of --report {report} does not exist; make it, or give another path")
    out = console()
    out.print(f"Reading {len(files):,} Python files of {clean(str(where))}", soft_wrap=True)
    if unreadable:
        out.print(f"Left out, because their names are not UTF-8: {unreadable}")
    asyncio.run(_Demo(where, len(files), report, out).run(processes or min(4, os.cpu_count() or 1), fresh=fresh))


class _Demo:
    """One demo, from where its store has it to its report."""

    def __init__(self, folder: Path, files: int, report: Path, out: Console) -> None:
        # Imported here because it makes a client, which ls and show must not need.
        from mageflow.cli.demo import program, progress  # noqa: PLC0415

        self._folder = folder
        self._files = files
        self._report = report
        self._out = out
        self._program = program
        self._progress = progress
        self._store = Path(program.STORE)
        self._was_there = self._store.exists()
        self._seen = progress.Progress()

    async def run(self, processes: int, *, fresh: bool) -> None:
        """Begin it, or go on with it; have it done; tell what came of it."""
        begun = perf_counter()
        left = await self._left(fresh=fresh) if self._was_there else None
        mage = self._program.mage
        async with mage:
            before = await self._progress.look(mage)
            first = await mage.load_run(left) if left is not None else None
            if first is None:
                first = await self._program.begin(self._folder)
            else:
                self._out.print(f"Going on where it was left: {before.files:,} of them are done")
            try:
                await self._have_it_done(mage, first, processes)
            except asyncio.CancelledError:
                self._seen = await self._progress.look(mage)  # what ran has ended since
                note(f"{self._seen.files:,} of {self._files:,} files are done; the same command goes on from there")
                raise
            recorded = await self._progress.recorded(mage)
            found = Report(
                folder=self._folder,
                figures=recorded.figures,
                problems=recorded.problems,
                runs=self._seen.ended,
                runs_before=before.ended,
                seconds=perf_counter() - begun,
                run_ids=recorded.run_ids,
                store=self._program.STORE,
            )
            write_report(found, self._report)
            await self._progress.finish(first, mage)
        print_report(found, self._out)
        _say_what_is_where(found, self._report, self._out)

    async def _have_it_done(self, mage: Mageflow, first: RunHandle[Any], processes: int) -> None:
        with _bar(self._files, self._out) as show:

            def tell(seen: progress.Progress) -> None:
                self._seen = seen
                show(seen.files, seen.failed)

            async with worker_processes(
                _APP, processes=processes, concurrency=_BODIES, name="demo", grace=_GRACE, logs=Logs.PROBLEMS
            ):
                await self._progress.follow(mage, first, tell)

    async def _left(self, *, fresh: bool) -> str | None:
        """Give the id of the run that began the demo which is to go on; else make room for a new one."""
        try:
            async with Mageflow(store=self._store) as mage:
                left = await self._progress.left_before_its_end(mage, self._folder)
                if left is not None and not fresh:
                    return left.id
                await _wait_for_workers(mage)
        except StoreError as error:
            if not fresh:
                raise CommandError(f"{error}. To begin a new one: --fresh") from error
        _remove(self._store)
        return None


async def _wait_for_workers(mage: Mageflow) -> None:
    """Wait for the workers of a demo that was killed: nobody may have the store when it is removed.

    Raises:
        CommandError: they stay.
    """
    begun = perf_counter()
    while here := [worker for worker in await mage.find_workers() if not worker.gone]:
        if perf_counter() - begun > _LEAVE_WITHIN:
            raise CommandError(
                f"process {here[0].pid} works on {mage.store.location}: another demo is running in this folder. Wait "
                "for its end, interrupt it, or start this one in another folder"
            )
        await asyncio.sleep(_LOOK_EVERY)


def _remove(store: Path) -> None:
    try:
        for ending in ("", "-wal", "-shm"):
            Path(f"{store}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"the store of an earlier demo, {store}, cannot be removed: {error.strerror}") from error


@contextmanager
def _bar(total: int, out: Console) -> Generator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and nothing elsewhere; gives what is told how many files are done and have failed."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total, failed=0)

        def show(done: int, failed: int) -> None:
            bar.update(task, completed=min(done, total), failed=failed)

        yield show


def _say_what_is_where(found: Report, report: Path, out: Console) -> None:
    took = f"{found.seconds:.1f} s" if found.seconds >= 1 else f"{found.seconds:.2f} s"
    before = f", {found.runs_before:,} of them before; the others" if found.runs_before else ""
    out.print()
    out.print(
        f"{found.files:,} files, {len(found.figures):,} parsed, {len(found.problems):,} failed. "
        f"{found.runs:,} runs{before} in {took}: {found.rate:,.0f} runs/s."
    )
    example = "" if found.example is None else " One of them:"
    out.print(f"All figures are in {clean(str(report))}, the runs in {found.store}.{example}", soft_wrap=True)
    if found.example is None:  # somebody has cancelled all of them
        return
    out.print()
    out.print(f"    {invocation()} show {found.example} --store {shlex.quote(found.store)}", soft_wrap=True)
