"""What pyright and mypy must accept of signing and starting. It is checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

import mageflow
from mageflow import Mageflow, Outcome, RunHandle, RunOptions, RunStatus, Signature, TaskSignature

mage = Mageflow()


class Order(BaseModel):
    order_id: int


@mage.task(retries=2)
async def process_order(order: Order) -> str:
    return str(order.order_id)


@mage.task
def count() -> int:
    return 1


@mage.task(input_validator=Order)
async def validated(msg: Any) -> list[int]:
    return [1]


async def signing() -> None:
    signature = await mage.sign(process_order, success_callbacks=[count, "by-name"], anything=1)
    assert_type(signature, TaskSignature[Order, str])
    assert_type(await mageflow.sign(process_order), TaskSignature[Order, str])
    assert_type(await mage.sign(count), TaskSignature[None, int])
    assert_type(await mage.sign(validated), TaskSignature[Order, list[int]])
    assert_type(await mage.sign("by-name"), TaskSignature[Any, Any])
    assert_type(await mageflow.asign("by-name"), TaskSignature[Any, Any])
    assert_type(await mage.load_signature(signature.key), Signature[Any, Any] | None)
    await mage.sign(count, error_callbacks=(signature, signature.key), run_options=RunOptions(delay=5))


async def starting(signature: TaskSignature[Order, str]) -> None:
    handle = await signature.start(Order(order_id=1))
    assert_type(handle, RunHandle[str])
    assert_type(await signature.start({"order_id": 1}), RunHandle[str])
    assert_type(await signature.start(), RunHandle[str])
    assert_type(await signature.run(Order(order_id=1), options=RunOptions(retries=1)), str)
    assert_type(await signature.aio_run(Order(order_id=1)), str)
    assert_type(await signature.aio_run_no_wait(), RunHandle[str])
    assert_type(await handle.result(timeout=1), str)
    assert_type(await handle.outcome(), Outcome[str])
    assert_type(await handle.status(), RunStatus)
    await signature.kwargs.aupdate(user_id="1", preferences={"theme": "dark"})
    await signature.success_callbacks.aappend(count)


async def living() -> None:
    async with mage, mage.worker(concurrency=4):
        for run in await mage.find_runs(status=RunStatus.FAILED, limit=5):
            assert_type(run, RunHandle[Any])
