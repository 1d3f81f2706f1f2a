"""What is particular to a Redis stream as a broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from taskiq_redis import RedisStreamBroker

from mageflow import Mageflow, SwarmConfig
from tests.crash.processes import until
from tests.redis.servers import Server

MEMBERS = 300


def acknowledgements(redis: Server) -> int:
    """How many commands have acknowledged messages."""
    stats: dict[str, Any] = redis.command("INFO", "commandstats")
    return int(stats.get("cmdstat_xack", {"calls": 0})["calls"])


async def test_messages_whose_bodies_end_together_are_acknowledged_together(redis: Server) -> None:
    broker = RedisStreamBroker(redis.url, queue_name="together", xread_block=200)
    mage = Mageflow(broker, redis.url)

    @mage.task
    async def work() -> None: ...

    before = acknowledgements(redis)
    async with mage, mage.worker():
        swarm = await mage.swarm([work] * MEMBERS, config=SwarmConfig(max_concurrency=MEMBERS), is_swarm_closed=True)
        assert await swarm.run() == [None] * MEMBERS
    assert 0 < acknowledgements(redis) - before < MEMBERS
    await until(lambda: redis.command("XPENDING", "together", "taskiq")["pending"] == 0, lambda: "not all were")


def test_a_broker_that_acknowledges_in_its_own_way_goes_on_to() -> None:
    class Own(RedisStreamBroker):
        def _ack_generator(self, id: str, queue_name: str) -> Callable[[], Awaitable[None]]:
            return super()._ack_generator(id, queue_name)

    broker = Own("redis://127.0.0.1:1/0")
    Mageflow(broker, "memory://")
    assert "_ack_generator" not in vars(broker)
