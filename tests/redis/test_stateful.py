"""Redis is held against the in-memory model: the same random history, and the same answers, records and rows.

`STATEFUL_EXAMPLES=2000` tries that many histories instead of the few of an ordinary run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from mageflow.ports.store import Store
from mageflow.stores.redis import RedisStore
from tests.contracts.test_stateful import SqliteLikeMemory
from tests.redis.servers import Server

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "30"))


class RedisLikeMemory(SqliteLikeMemory):
    """Two handles on one server, and the model."""

    server: Server

    def open_handles(self) -> list[Store]:
        self.server.command("FLUSHALL")
        return [RedisStore(self.server.url, clock=self.clock) for _ in range(2)]

    def remove_store(self) -> None:
        """Leave it: the next history begins with an empty server."""


@pytest.mark.timeout(240 + 4 * EXAMPLES)
def test_redis_like_memory(redis_server: Server) -> None:
    machine = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )

    class Machine(RedisLikeMemory):
        server = redis_server

    run_state_machine_as_test(Machine, settings=machine)
