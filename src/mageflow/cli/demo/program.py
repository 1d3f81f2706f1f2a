"""The demo's program: every Python file of a folder is hashed and parsed, and callbacks record how that went.

Four tasks, and a function that starts the first of them. Nothing in it belongs to the command line: it reads like any
program that uses mageflow, and is run like one, by worker processes: `mageflow worker mageflow.cli.demo.program:mage`.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import hashlib
import logging
import threading
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from mageflow import (
    ErrorValue,
    Mageflow,
    MageflowConfig,
    ReturnValue,
    RunHandle,
    RunOptions,
    TaskFailure,
    TTLConfig,
)
from mageflow.cli.demo.files import python_files

__all__ = ["STORE", "Figures", "Problem", "begin", "mage"]

STORE = "mageflow-demo.db"

# A demo that was interrupted can be taken up again for as long as its runs are kept.
_KEPT = timedelta(days=30)

mage = Mageflow(store=STORE, config=MageflowConfig(ttl=TTLConfig(active_ttl=_KEPT, ttl_when_sign_done=_KEPT)))

# What fails is recorded by a callback; a line of the log for each file would say it twice.
logging.getLogger("mageflow.runs").setLevel(logging.CRITICAL)
# The files' style is not what this is about. Set for the process: it could not be set for one thread.
for category in (DeprecationWarning, SyntaxWarning):
    warnings.simplefilter("ignore", category)
# Syntax trees are objects by the million and free of cycles. The collector would walk them all the same, again and
# again: a quarter of the time.
gc.set_threshold(50_000, 20, 20)


# The messages. A task's first parameter says what it takes; a callback's model also says where the result goes.


class Folder(BaseModel):
    """What `examine_folder` is sent."""

    folder: Path


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
async def examine_folder(job: Folder) -> int:
    """Start a run for each file, with a callback for its success and one for its failure; give how many files.

    If its worker dies in the middle it begins again elsewhere, and still starts each file once: the path is the key.
    """
    files, _ = await asyncio.to_thread(python_files, job.folder)
    # One signature serves all files, and so do its callbacks; the folder is bound to those once.
    recorded = await mage.sign(record_figures, folder=job.folder)
    refused = await mage.sign(record_problem, folder=job.folder)
    examined = await mage.sign(examine_file, success_callbacks=[recorded], error_callbacks=[refused])
    for first in range(0, len(files), _AT_ONCE):
        await asyncio.gather(
            *(
                examined.start(SourceFile(path=file), options=RunOptions(idempotency_key=str(file)))
                for file in files[first : first + _AT_ONCE]
            )
        )
    return len(files)


_AT_ONCE = 500


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


# Their priority lets callbacks begin before the next file is read: what was read is recorded at once.


@mage.task(priority=2)
async def record_figures(msg: Examined) -> Figures:
    """Record a file's figures, under its path in the folder."""
    return msg.figures.model_copy(update={"path": msg.figures.path.relative_to(msg.folder)})


@mage.task(priority=2)
async def record_problem(msg: Refused) -> Problem:
    """Record why a file failed."""
    return Problem(path=msg.path.relative_to(msg.folder), error=msg.failure.type, reason=msg.failure.message)


async def begin(folder: Path) -> RunHandle[int]:
    """Start it all."""
    signature = await mage.sign(examine_folder)
    return await signature.start(Folder(folder=folder))


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
