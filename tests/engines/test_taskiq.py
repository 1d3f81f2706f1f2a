"""The Taskiq engine does what every engine must do, on each kind of broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from taskiq import AsyncBroker, InMemoryBroker
from taskiq_nats import NatsBroker, PullBasedJetStreamBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from mageflow.testing.contracts.engines import EngineContract
from tests.engines.servers import NatsServer
from tests.redis.servers import Server


class TestInMemory(EngineContract):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[InMemoryBroker]:
        broker = InMemoryBroker()
        yield broker
        await broker.shutdown()


class _OnRedis(EngineContract):
    @pytest.fixture
    def store(self, redis: Server) -> str:
        return redis.url


class TestRedisStream(_OnRedis):
    @pytest.fixture
    def engine(self, redis: Server) -> AsyncBroker:
        return RedisStreamBroker(redis.url, xread_block=200)


class TestRedisList(_OnRedis):
    @pytest.fixture
    def engine(self, redis: Server) -> AsyncBroker:
        return ListQueueBroker(redis.url)


class TestNats(_OnRedis):
    @pytest.fixture
    def engine(self, nats: NatsServer, request: pytest.FixtureRequest) -> AsyncBroker:
        return NatsBroker([nats.url], subject=_subject(request), queue="workers")


class TestJetStream(_OnRedis):
    @pytest.fixture
    def engine(self, nats: NatsServer, request: pytest.FixtureRequest) -> AsyncBroker:
        name = _subject(request)
        return PullBasedJetStreamBroker([nats.url], subject=name, stream_name=name, durable=name)


def _subject(request: pytest.FixtureRequest) -> str:
    """A subject of its own for each test: nothing of the one before is delivered to it."""
    return "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
