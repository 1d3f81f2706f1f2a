"""A server for the tests of this folder: each kind that is installed, and the wheel's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from mageflow.stores.redis import RedisStore
from mageflow.testing.clock import ManualClock
from tests.redis.servers import MISSING, Server, missing, programs

PROGRAMS = programs()


@pytest.fixture(scope="session", params=[*PROGRAMS] or ["none"])
def any_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each server that is here, one after another, for the whole run."""
    if not PROGRAMS:
        missing(MISSING)
    server = Server(PROGRAMS[request.param])
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_server(any_server: Server) -> Server:
    """An empty server."""
    any_server.command("FLUSHALL")
    return any_server


@pytest.fixture
async def store(redis_server: Server) -> AsyncIterator[RedisStore]:
    """A store on an empty server, at a time that stands still."""
    store = RedisStore(redis_server.url, clock=ManualClock())
    yield store
    await store.aclose()
