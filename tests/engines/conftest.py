"""Servers for the engines: one Redis, and one NATS, for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.engines.servers import MISSING_NATS, NatsServer, nats_program
from tests.redis.servers import MISSING, Server, programs


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def one_redis() -> Iterator[Server]:
    found = programs()
    if not found:
        _missing(MISSING)
    server = Server(next(iter(found.values())))
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis(one_redis: Server) -> Server:
    """An empty Redis server."""
    one_redis.command("FLUSHALL")
    return one_redis


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    program = nats_program()
    if program is None:
        _missing(MISSING_NATS)
    assert program is not None
    server = NatsServer(program)
    yield server
    server.close()
