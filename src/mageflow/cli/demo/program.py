"""The demo's program: every Python file of a folder is read, hashed and parsed, and a report is written of all.

A swarm of chains: one chain of three steps for each file, so many at once as the window has room for, and one callback
when the last of them has ended. Nothing in it belongs to the command line: it reads like any program that uses
mageflow, and is run like one, by worker processes: `mageflow worker mageflow.cli.demo.program:mage`. On Taskiq and on
Hatchet it is the same program, run by their workers.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import json
import logging
import platform
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from mageflow import Mageflow, MageflowConfig, Outcome, ReturnValue, RunHandle, SwarmConfig, TTLConfig
from mageflow.cli.demo.engine import KEPT, REDELIVER_AFTER, STORE, engine

__all__ = ["REPORT", "SWARM", "Figures", "Problem", "Summary", "begin", "mage"]

# None and a file: the embedded engine. A Taskiq broker or a Hatchet client, and Redis: that is all that changes.
mage: Mageflow = Mageflow(
    engine,
    STORE,
    config=MageflowConfig(
        ttl=TTLConfig(active_ttl=KEPT, ttl_when_sign_done=KEPT),
        redeliver_after=REDELIVER_AFTER,
    ),
)

# What fails stands in the report; a line of the log for each file would say it twice.
for log in ("mageflow.runs", "taskiq.receiver", "hatchet"):
    logging.getLogger(log).setLevel(logging.CRITICAL)
# The files' style is not what this is about. Set for the process: it could not be set for one thread.
for category in (DeprecationWarning, SyntaxWarning):
    warnings.simplefilter("ignore", category)
# Syntax trees are objects by the million and free of cycles. The collector would walk them all the same, again and
# again: a quarter of the time.
gc.set_threshold(50_000, 20, 20)


# The messages. A task's first parameter says what it takes; a field marked as the return value gets the result of the
# step before, or of what the callback belongs to.


class SourceFile(BaseModel):
    """What each chain begins with."""

    path: Path


class Read(SourceFile):
    """What is known of a file that was read. What goes from step to step is kept: the figures, not the source."""

    lines: int


class Hashed(Read):
    """What is known of a file that was hashed."""

    sha256: str


class Figures(Hashed):
    """What is to be known of a file that parses."""

    functions: int
    classes: int


class ToHash(BaseModel):
    """What the second step receives."""

    file: Annotated[Read, ReturnValue()]


class ToParse(BaseModel):
    """What the third step receives."""

    file: Annotated[Hashed, ReturnValue()]


class Examined(BaseModel):
    """What the callback receives: how each chain ended, in the order of the files, and what was bound to it."""

    outcomes: Annotated[list[Outcome[Figures]], ReturnValue()]
    folder: Path
    report: Path


class Problem(BaseModel):
    """Why a file does not parse."""

    path: Path
    error: str
    reason: str
    run: str


class Summary(BaseModel):
    """What the report says, in short."""

    parsed: int
    failed: int
    largest: list[Figures]
    problems: list[Problem]
    """The first of those that failed."""


_one_at_a_time = threading.Lock()
"""Some releases of CPython 3.11 count the depth of a tree for all threads together, and fail at random; the
interpreter's own lock lets one thread parse at a time anyway (python/cpython#106905)."""
_TRIES = 5
"""Nor is it up to us alone: whoever writes a traceback in another thread parses its lines."""

# The tasks. What they return is kept with their run, in the same commit that ends it and makes the next one due:
# nothing is done twice, and nothing that ended is lost, whenever a process dies. The steps are not async: they run in
# threads.


@mage.task
def read_file(file: SourceFile) -> Read:
    """Read a file."""
    return Read(path=file.path, lines=len(file.path.read_bytes().splitlines()))


@mage.task
def hash_file(msg: ToHash) -> Hashed:
    """Hash a file."""
    digest = hashlib.sha256(msg.file.path.read_bytes()).hexdigest()
    return Hashed(**dict(msg.file), sha256=digest)


@mage.task
def parse_file(msg: ToParse) -> Figures:
    """Parse a file."""
    with _one_at_a_time:
        functions, classes = _count(_parsed(msg.file.path))
    return Figures(**dict(msg.file), functions=functions, classes=classes)


def _parsed(path: Path) -> ast.Module:
    for _ in range(_TRIES):
        with contextlib.suppress(SystemError):
            return ast.parse(path.read_bytes(), path.name)
    return ast.parse(path.read_bytes(), path.name)


_LARGEST = 10
_PROBLEMS = 20


@mage.task
async def write_report(msg: Examined) -> Summary:
    """Write what was found in each file, and why it was not, where a chain failed."""
    found = [(outcome.value, outcome.run_id) for outcome in msg.outcomes if outcome.value is not None]
    problems = [await _problem(outcome) for outcome in msg.outcomes if outcome.value is None]
    entries: list[Figures | Problem] = [*problems, *(figures for figures, _ in found)]
    for entry in entries:
        entry.path = entry.path.relative_to(msg.folder)
    found.sort(key=lambda each: each[0].path)
    problems.sort(key=lambda each: each.path)
    content = {
        "folder": str(msg.folder),
        "python": platform.python_version(),
        "files": len(msg.outcomes),
        "parsed": len(found),
        "failed": len(problems),
        "figures": [figures.model_dump(mode="json") | {"run": run} for figures, run in found],
        "failures": [problem.model_dump(mode="json") for problem in problems],
    }
    msg.report.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    largest = sorted((figures for figures, _ in found), key=lambda each: (-each.lines, each.path))
    return Summary(parsed=len(found), failed=len(problems), largest=largest[:_LARGEST], problems=problems[:_PROBLEMS])


async def _problem(outcome: Outcome[Figures]) -> Problem:
    """Say why a chain has no figures; its run knows of which file it is."""
    run = await mage.load_run(outcome.run_id)
    path = Path(run.seen.message["path"]) if run is not None else Path()
    failure = outcome.failure
    if failure is None:
        return Problem(path=path, error=outcome.status, reason="somebody cancelled it", run=outcome.run_id)
    return Problem(path=path, error=failure.type, reason=failure.message, run=outcome.run_id)


SWARM = "examine_folder"
REPORT = "write_report"
_WINDOW = 32
"""How many files are under way at once, at most."""


async def begin(folder: Path, files: Sequence[Path], report: Path) -> RunHandle[list[Any]]:
    """Start it all: what a crash leaves of it goes on wherever a worker runs."""
    chain = await mage.chain([read_file, hash_file, parse_file], "examine_file")
    swarm = await mage.swarm(
        task=chain,
        inputs=[SourceFile(path=file) for file in files],
        task_name=SWARM,
        success_callbacks=[await mage.sign(write_report, folder=folder, report=report)],
        config=SwarmConfig(max_concurrency=_WINDOW),
    )
    return await swarm.start()


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def _count(module: ast.Module) -> tuple[int, int]:
    """Count the functions and the classes: both are statements, so the expressions, most of a tree, need no look."""
    functions = classes = 0
    left: list[ast.AST] = [module]
    while left:
        node = left.pop()
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
        for block in _BLOCKS:
            left.extend(getattr(node, block, ()))
    return functions, classes
