"""What pyright and mypy must accept of a client on a Taskiq broker. It is checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from taskiq import InMemoryBroker
from taskiq_redis import RedisStreamBroker

import mageflow
from mageflow import Mageflow, TaskSignature

broker = InMemoryBroker()
mage = Mageflow(broker, "sqlite:///flows.db")
on_redis = Mageflow(RedisStreamBroker("redis://localhost:6379"), "redis://localhost:6379")


@broker.task
async def add(a: int, b: int = 2) -> int:
    return a + b


@mage.task(retries=2)
async def mail(msg: dict[str, Any]) -> str:
    return str(msg)


async def signing() -> None:
    assert_type(await mage.sign(add, a=1, success_callbacks=[mail, add]), TaskSignature[Any, Any])
    assert_type(await mageflow.sign(add), TaskSignature[Any, Any])
    assert_type(await mage.sign(mail), TaskSignature[dict[str, Any], str])
    await add.kiq(1)
