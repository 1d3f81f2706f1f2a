"""Two services on one server and one route, of which only one can submit the runs of a task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mageflow import Mageflow, SwarmConfig
from mageflow.runtime import leaving
from tests.redis.servers import Server
from tests.runtime.test_relay import WithMessages, until_has


@pytest.fixture
def shop() -> WithMessages:
    return WithMessages()


@pytest.fixture
def billing() -> WithMessages:
    return WithMessages()


def declare(mage: Mageflow) -> None:
    @mage.task
    async def charge(msg: dict[str, Any]) -> None: ...


async def test_what_a_service_puts_for_another_comes_there(
    redis_server: Server, shop: WithMessages, billing: WithMessages
) -> None:
    """A commit gives the rows that it puts to its own process; this one is not to be given them again and again."""
    async with Mageflow(shop, redis_server.url) as one, Mageflow(billing, redis_server.url) as other:
        declare(other)
        async with one.worker(drain=False), other.worker(drain=False):
            for n in range(5):
                signature = await one.sign("charge", user="ada")  # by the process whose relay cannot submit it
                await until_has(billing, (await signature.start({"n": n})).id)
            inputs: list[dict[str, Any]] = [{"n": n} for n in range(50)]
            swarm = await one.swarm(task="charge", inputs=inputs, config=SwarmConfig(max_concurrency=50))
            await swarm.start()
            async with asyncio.timeout(20):
                while len(billing.told) < 55:  # noqa: ASYNC110 - what the relay does is not announced
                    await asyncio.sleep(0.01)
    assert not shop.told


async def test_what_waits_for_a_service_that_is_away_is_not_put_back_all_the_time(
    redis_server: Server, shop: WithMessages, billing: WithMessages, monkeypatch: pytest.MonkeyPatch
) -> None:
    back: list[str] = []
    leave = leaving.Leaving.leave

    def noted(self: leaving.Leaving, runs: list[str]) -> None:
        back.extend(runs)
        leave(self, runs)

    monkeypatch.setattr(leaving.Leaving, "leave", noted)
    monkeypatch.setattr(leaving, "_FIRST_PAUSE", 3600)
    monkeypatch.setattr(leaving, "_THEIR_TURN", 0.0)
    async with Mageflow(shop, redis_server.url) as one, Mageflow(billing, redis_server.url) as other:
        declare(other)
        async with other.worker(drain=False):
            pass  # it makes its task known, and goes

        @one.task
        async def order() -> None: ...

        async with one.worker(drain=False):
            charged = (await (await one.sign("charge")).start({})).id
            async with asyncio.timeout(20):
                while len(back) < 2:  # noqa: ASYNC110 - what the relay does is not announced
                    await asyncio.sleep(0.01)
            for _ in range(10):
                await until_has(shop, (await (await one.sign(order)).start()).id)
            assert back == [charged, charged], "once it came back it is kept for a while"
