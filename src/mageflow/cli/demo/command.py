"""`mageflow demo`: its arguments, its progress bar, and what it says at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shlex
import sysconfig
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mageflow.cli.demo.report import Report, print_report, write_report
from mageflow.cli.output import CommandError, clean, console, invocation

if TYPE_CHECKING:
    from mageflow.cli.demo.program import Figures, Problem

__all__ = ["demo"]

_LEFT_OUT = {"__pycache__", "dist-packages", "node_modules", "site-packages"}


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
) -> None:
    """Read, hash and parse every .py file of a folder: a run each, and a callback that records how it went.

    Its runs are kept in mageflow-demo.db in the current folder, where ls and show find them; each demo begins that
    file anew. Hidden folders and site-packages are left out.

    \b
    mageflow demo
    mageflow demo ~/code/my-project --report /tmp/report.json
    """
    where = (folder or Path(sysconfig.get_path("stdlib"))).resolve()
    files, unreadable = _python_files(where)
    if not files:
        raise CommandError(f"no .py file is in {where}; name a folder that has some: mageflow demo FOLDER")
    if not report.resolve().parent.is_dir():
        raise CommandError(f"the folder of --report {report} does not exist; make it, or give another path")
    out = console()
    out.print(f"Reading {len(files):,} Python files of {clean(str(where))}", soft_wrap=True)
    found = _examine(where, files, out)
    write_report(found, report)
    print_report(found, out)
    if unreadable:
        out.print(f"Left out, because their names are not UTF-8: {unreadable}")
    _say_what_is_where(found, report, out)


def _examine(folder: Path, files: list[Path], out: Console) -> Report:
    # Imported here because it makes a client, which ls and show must not need.
    from mageflow.cli.demo.program import STORE, Problem, examine  # noqa: PLC0415

    _begin_anew(Path(STORE))
    # Syntax trees are objects by the million and free of cycles. The collector would walk them all the same, again and
    # again: a quarter of the time.
    gc.set_threshold(50_000, 20, 20)
    logging.getLogger("mageflow.runs").setLevel(logging.CRITICAL)  # what fails is listed at the end
    figures: list[Figures] = []
    problems: list[Problem] = []
    with _progress(len(files), out) as advance:

        def note(entry: Figures | Problem) -> None:
            if isinstance(entry, Problem):
                problems.append(entry)
            else:
                figures.append(entry)
            advance(len(problems))

        begun = perf_counter()
        run_ids = asyncio.run(examine(folder, files, note))
        seconds = perf_counter() - begun
    ids = {file.relative_to(folder): run_id for file, run_id in zip(files, run_ids, strict=True)}
    return Report(
        folder=folder,
        figures=sorted(figures, key=lambda entry: entry.path),
        problems=sorted(problems, key=lambda entry: entry.path),
        runs=len(run_ids) + len(figures) + len(problems),
        seconds=seconds,
        run_ids=ids,
        store=STORE,
    )


def _python_files(folder: Path) -> tuple[list[Path], int]:
    """Give the .py files below a folder in a fixed order, and how many have names that JSON cannot hold."""
    files: list[Path] = []
    unreadable = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.endswith(".py") or not path.is_file():
                continue
            try:
                str(path).encode()
            except UnicodeEncodeError:
                unreadable += 1
            else:
                files.append(path)
    return files, unreadable


def _begin_anew(store: Path) -> None:
    """Remove the store of the demo before: what an interrupted one left would run now, and count as ours."""
    try:
        for ending in ("", "-wal", "-shm"):
            Path(f"{store}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"the store of an earlier demo, {store}, cannot be removed: {error.strerror}") from error


@contextmanager
def _progress(total: int, out: Console) -> Generator[Callable[[int], None], None, None]:
    """Show a bar on a terminal, and nothing elsewhere; gives what is called for each file that is done."""
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total, failed=0)

        def advance(failed: int) -> None:
            bar.update(task, advance=1, failed=failed)

        yield advance


def _say_what_is_where(found: Report, report: Path, out: Console) -> None:
    took = f"{found.seconds:.1f} s" if found.seconds >= 1 else f"{found.seconds:.2f} s"
    command = f"{invocation()} show {found.example} --store {shlex.quote(found.store)}"
    out.print()
    out.print(
        f"{found.files:,} files, {len(found.figures):,} parsed, {len(found.problems):,} failed. "
        f"{found.runs:,} runs in {took}: {found.rate:,.0f} runs/s."
    )
    out.print(f"All figures are in {clean(str(report))}, the runs in {found.store}. One of them:", soft_wrap=True)
    out.print()
    out.print(f"    {command}", soft_wrap=True)
