"""What pyright and mypy must accept of chains, swarms and `map`. It is checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

import mageflow
from mageflow import (
    ChainTaskSignature,
    Mageflow,
    MemberInfo,
    Progress,
    ReturnValue,
    RunHandle,
    RunOptions,
    Signature,
    SwarmConfig,
    SwarmTaskSignature,
    TaskSignature,
)

mage = Mageflow()


class Page(BaseModel):
    url: str


class Sizes(BaseModel):
    sizes: ReturnValue[list[int]]


@mage.task
async def fetch(page: Page) -> int:
    return len(page.url)


@mage.task
def total(msg: Sizes) -> int:
    return sum(msg.sizes)


@mage.task
async def tick() -> float:
    return 1.0


async def chains(step: TaskSignature[Page, int]) -> None:
    chain = await mage.chain(
        [step, step.key, total, "by-name"], "sizes", step, total, done_callbacks=[tick], colour="red"
    )
    assert_type(chain, ChainTaskSignature[Any, Any])
    assert_type(await mageflow.chain((fetch, fetch), name="two", error=chain), ChainTaskSignature[Any, Any])
    assert_type(await mageflow.achain([chain, await mage.swarm([chain])]), ChainTaskSignature[Any, Any])
    assert_type(chain.tasks, list[str])
    assert_type(await chain.start({"url": ""}), RunHandle[Any])
    assert_type(await chain.aduplicate(), ChainTaskSignature[Any, Any])


async def swarms() -> None:
    config = SwarmConfig(max_concurrency=5, stop_after_n_failures=2, max_task_allowed=9, auto_close=True)
    swarm = await mage.swarm([fetch, "by-name"], "pages", config=config, is_swarm_closed=True, colour="red")
    assert_type(swarm, SwarmTaskSignature[Any, Any])
    assert_type(await mageflow.aswarm(task_name="empty"), SwarmTaskSignature[Any, Any])
    assert_type(await swarm.run(), list[Any])
    assert_type(await swarm.aio_run_in_swarm(fetch, Page(url="")), RunHandle[list[Any]])
    assert_type(await swarm.aio_run_in_swarm([fetch, "by-name"], {"url": ""}), RunHandle[list[Any]])
    assert_type(await swarm.aio_run_tasks_in_swarm([fetch], [Page(url="")]), RunHandle[list[Any]])
    await swarm.add_task(fetch, close_on_max_task=False)
    await swarm.add_tasks([fetch, swarm])
    await swarm.close_swarm()
    assert_type(await swarm.is_swarm_done(), bool)
    assert_type(swarm.tasks, list[str])
    assert_type(swarm.config, SwarmConfig)
    assert_type(await swarm.progress(), Progress)
    async for member in swarm.members():
        assert_type(member, MemberInfo)
    await swarm.resume(max_concurrency=3)


async def bulk() -> None:
    swarm = await mage.swarm(task=fetch, inputs=[Page(url=""), Page(url="a")])
    assert_type(swarm, SwarmTaskSignature[Page, int])
    assert_type(await swarm.run(), list[int])
    assert_type(await swarm.start(), RunHandle[list[int]])
    assert_type(await mageflow.swarm(task=fetch, inputs=(Page(url=url) for url in "ab")), SwarmTaskSignature[Page, int])
    assert_type(await mage.swarm(task="by-name", inputs=[{"url": ""}]), SwarmTaskSignature[Any, Any])
    mapped = await fetch.map([Page(url="")], "pages", success_callbacks=[total], config=SwarmConfig())
    assert_type(mapped, SwarmTaskSignature[Any, int])
    assert_type(await mapped.run(), list[int])
    assert_type(await mapped.aduplicate_many(2), list[SwarmTaskSignature[Any, int]])
    assert_type(await (await tick.map([None, None])).run(), list[float])


async def other_spellings(signature: TaskSignature[Page, int]) -> None:
    assert_type(await signature.aio_run(Page(url=""), wait_for_result=False), RunHandle[int])
    assert_type(await signature.aio_run(Page(url=""), RunOptions(), priority=3), int)
    assert_type(await signature.aio_run_no_wait(options=RunOptions()), RunHandle[int])
    assert_type(await signature.acall(1, set_return_field=True, anything="else"), RunHandle[int])
    assert_type(await signature.aduplicate(), TaskSignature[Page, int])
    assert_type(await mageflow.load_signature(signature.key), Signature[Any, Any] | None)
    await signature.pause_task("interrupt")
    await mageflow.pause(signature.key, pause_type="suspend")
    await mage.pause(signature.key)
    await mage.resume(signature.key)
    assert_type(await mageflow.remove(signature.key), bool)
