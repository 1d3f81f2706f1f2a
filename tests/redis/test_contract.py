"""The Redis store keeps the contract: with one handle on its server, and with two."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mageflow.ports.store import Store
from mageflow.stores.redis import RedisStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts import StoreContract
from tests.redis.servers import Server


class TestRedisStore(StoreContract):
    @pytest.fixture
    async def store(self, clock: ManualClock, redis_server: Server) -> AsyncIterator[Store]:
        store = RedisStore(redis_server.url, clock=clock)
        yield store
        await store.aclose()


class TestTwoHandlesOnOneServer(TestRedisStore):
    @pytest.fixture
    async def other(self, store: Store, clock: ManualClock, redis_server: Server) -> AsyncIterator[Store]:
        other = RedisStore(redis_server.url, clock=clock)
        yield other
        await other.aclose()
