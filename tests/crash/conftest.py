"""Processes that end with their test, and never let a user hear of SQLite's locks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mageflow import Mageflow
from tests.crash.processes import Workers
from tests.crash.program import register

if os.name != "posix":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    workers.end()
    said = workers.said()
    assert "database is locked" not in said, said
    assert "Traceback" not in said, said


@pytest.fixture
async def mage(workers: Workers) -> AsyncIterator[Mageflow]:
    """The client of the process that starts runs and watches."""
    async with register(Mageflow(store=workers.store)) as mage:
        yield mage
