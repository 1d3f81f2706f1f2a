"""A primary that dies under a store, and a sentinel that makes its replica the primary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel

from mageflow.core.records import TaskRecord, replace
from mageflow.errors import StoreUnavailableError
from mageflow.stores.redis import RedisStore
from mageflow.testing.contracts.acting import Actor, put
from tests.redis.conftest import PROGRAMS
from tests.redis.servers import NOTHING, Server

BLOCKING: Any = redis.sentinel.Sentinel
ASYNCIO: Any = redis.asyncio.sentinel.Sentinel


@pytest.fixture(params=PROGRAMS)
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server, Server]]:
    """A primary, its replica, and a sentinel that knows both."""
    program = PROGRAMS[request.param]
    with ExitStack() as stack:

        def start(options: Mapping[str, str] = NOTHING, watches: int | None = None) -> Server:
            server = Server(program, options, watches=watches)
            stack.callback(server.close)
            server.start()
            return server

        primary = start({"repl-diskless-sync-delay": "0"})
        replica = start({"replicaof": f"127.0.0.1 {primary.port}"})
        replica.wait_until(Server.is_in_step)
        sentinel = start(watches=primary.port)
        sentinel.wait_until(lambda server: bool(server.command("SENTINEL", "REPLICAS", "flows")))
        yield primary, replica, sentinel


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [BLOCKING, ASYNCIO], ids=["blocking", "asyncio"])
async def test_a_store_follows_a_failover(servers: tuple[Server, Server, Server], kind: Callable[..., Any]) -> None:
    """A commit is refused or unanswered until there is a primary again; then it goes on there, whole and once."""
    primary, replica, sentinel = servers
    given = kind([("127.0.0.1", sentinel.port)]).master_for("flows", decode_responses=True)
    store = RedisStore(given)
    actor = Actor(store)
    await actor.sign()
    run = await actor.start()
    end_watch = store.watch([run.key], lambda record: None)
    await asyncio.to_thread(replica.wait_until, lambda server: server.has_record(run.key))
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(sentinel.calls_it_down_at_once)
    async with asyncio.timeout(90):
        while True:
            try:
                claimed = (await actor.claim_run(run.key, token="claim")).run
            except StoreUnavailableError:
                continue  # it is not over yet
            else:
                break
    assert claimed is not None
    assert claimed.attempt == 1
    assert (await actor.end(claimed)).accepted
    await put(store, replace(TaskRecord(key="a", created_at=0.0, route="r"), created_at=1.0))
    assert replica.has_record("a")
    end_watch()
    await store.aclose()
