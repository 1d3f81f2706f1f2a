"""The demo's program: every Python file of a folder is hashed and parsed, and callbacks record how that went.

Three tasks and a function that starts them. Nothing in it belongs to the command line: it reads like any program that
uses mageflow.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from mageflow import ErrorValue, Mageflow, ReturnValue, RunHandle, TaskFailure

__all__ = ["STORE", "Figures", "Problem", "examine"]

STORE = "mageflow-demo.db"

mage = Mageflow(store=STORE)


# The messages. A task's first parameter says what it takes; a callback's model also says where the result goes.


class SourceFile(BaseModel):
    """What `examine_file` is sent."""

    path: Path


class Figures(BaseModel):
    """What is to be known of a file that parses."""

    path: Path
    sha256: str
    lines: int
    functions: int
    classes: int


class Examined(BaseModel):
    """What the success callback receives: the result, and what was bound to its signature."""

    figures: Annotated[Figures, ReturnValue()]
    folder: Path


class Refused(SourceFile):
    """What the error callback receives: the failed task's own message, what was bound, and why it failed."""

    failure: Annotated[TaskFailure, ErrorValue()]
    folder: Path


class Problem(BaseModel):
    """Why a file does not parse."""

    path: Path
    error: str
    reason: str


_one_at_a_time = threading.Lock()
"""Some releases of CPython 3.11 count the depth of a tree for all threads together, and fail at random; the
interpreter's own lock lets one thread parse at a time anyway (python/cpython#106905)."""

# The tasks. What they return is kept with their run, in the same commit that ends it: nothing is recorded twice, and
# nothing that ended is lost, whenever the process dies.


@mage.task
def examine_file(file: SourceFile) -> Figures:
    """Read, hash and parse a file. It is not async, so it runs in a thread."""
    source = file.path.read_bytes()
    with _one_at_a_time:
        functions, classes = _count(ast.parse(source, file.path.name))
    return Figures(
        path=file.path,
        sha256=hashlib.sha256(source).hexdigest(),
        lines=len(source.splitlines()),
        functions=functions,
        classes=classes,
    )


@mage.task
async def record_figures(msg: Examined) -> Figures:
    """Record a file's figures, under its path in the folder."""
    return msg.figures.model_copy(update={"path": msg.figures.path.relative_to(msg.folder)})


@mage.task
async def record_problem(msg: Refused) -> Problem:
    """Record why a file failed."""
    return Problem(path=msg.path.relative_to(msg.folder), error=msg.failure.type, reason=msg.failure.message)


async def examine(folder: Path, files: Sequence[Path], report: Callable[[Figures | Problem], None]) -> list[str]:
    """Examine files of a folder, and hand to `report` what the callbacks recorded, as they come.

    Returns:
        The ids of the runs that read the files, in the order of `files`.
    """
    _ignore_what_the_parser_warns_of()
    async with mage:
        # One signature is the callback of all files; the folder is bound to it once.
        recorded = await mage.sign(record_figures, folder=folder)
        refused = await mage.sign(record_problem, folder=folder)

        async def start(file: Path) -> RunHandle[Figures]:
            signature = await mage.sign(examine_file, success_callbacks=[recorded], error_callbacks=[refused])
            return await signature.start(SourceFile(path=file))

        async def follow(run: RunHandle[Figures]) -> None:
            await run.outcome()
            for callback in await run.caused():
                report(await callback.result())

        runs = await asyncio.gather(*map(start, files))
        async with mage.worker(concurrency=_THREADS):
            await asyncio.gather(*map(follow, runs))
        return [run.id for run in runs]


_THREADS = (os.cpu_count() or 1) * 4
"""A thread holds the interpreter while it parses, so more of them would not be faster; a few keep it busy."""


def _ignore_what_the_parser_warns_of() -> None:
    """Keep quiet about the style of the files. Set for the process: it could not be set for one thread."""
    for category in (DeprecationWarning, SyntaxWarning):
        warnings.simplefilter("ignore", category)


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
