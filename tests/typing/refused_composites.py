"""What pyright and mypy must refuse of chains and swarms: each line that is marked, and no other."""

from __future__ import annotations

from pydantic import BaseModel

import mageflow
from mageflow import Mageflow, SwarmConfig, TaskSignature

mage = Mageflow()


class Page(BaseModel):
    url: str


@mage.task
async def fetch(page: Page) -> int:
    return len(page.url)


async def wrong(signature: TaskSignature[Page, int]) -> None:
    await mage.chain(fetch)  # refused
    await mage.chain([fetch, 3])  # refused
    await mageflow.chain()  # refused
    await mage.swarm([3.5])  # refused
    await mage.swarm([fetch], config={"max_concurrency": 3})  # refused
    SwarmConfig(window=3)  # refused
    await fetch.map([1, 2])  # refused
    swarm = await fetch.map([Page(url="")])
    wrong: list[str] = await swarm.run()  # refused
    await swarm.add_task(3)  # refused
    await swarm.resume(window=3)  # refused
    await signature.pause_task("stop")  # refused
    await mageflow.pause(signature.key, "stop")  # refused
    await signature.aduplicate_many("two")  # refused
