"""What the engines run on, for the whole run: a NATS server, and `taskiq worker` processes beside the Redis server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mageflow import Mageflow
from tests.engines.processes import TaskiqWorkers
from tests.engines.servers import MISSING_NATS, NatsServer, nats_program
from tests.redis.servers import Server, missing


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    program = nats_program()
    if program is None:
        missing(MISSING_NATS)
    assert program is not None
    server = NatsServer(program)
    yield server
    server.close()


@pytest.fixture
def workers(tmp_path: Path, redis: Server) -> Iterator[TaskiqWorkers]:
    workers = TaskiqWorkers(tmp_path, redis.url)
    yield workers
    workers.end()


@pytest.fixture
async def program(workers: TaskiqWorkers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The program, as the process that starts runs has it."""
    for name, value in workers.environment.items():
        if name.startswith("ENGINE_"):
            monkeypatch.setenv(name, value)
    sys.modules.pop("tests.engines.program", None)
    module: Any = importlib.import_module("tests.engines.program")
    yield module
    await module.mage.aclose()


@pytest.fixture
def mage(program: Any) -> Mageflow:
    client: Mageflow = program.mage
    return client
