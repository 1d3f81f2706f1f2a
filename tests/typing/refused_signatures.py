"""What pyright and mypy must refuse of signing and starting: each line marked `# refused`, and no other."""

from __future__ import annotations

from pydantic import BaseModel

from mageflow import Mageflow, TaskSignature

mage = Mageflow()


class Order(BaseModel):
    order_id: int


class Other(BaseModel):
    text: str


@mage.task
async def process_order(order: Order) -> str:
    return str(order.order_id)


async def signing() -> None:
    await mage.sign(42)  # refused
    await mage.sign(process_order, success_callbacks=[1, 2])  # refused
    await mage.sign(process_order, run_options={"retries": 3})  # refused
    number: TaskSignature[Order, int] = await mage.sign(process_order)  # refused
    await number.refresh()


async def starting(signature: TaskSignature[Order, str]) -> None:
    await signature.start(Other(text=""))  # refused
    await signature.start(msg=Order(order_id=1))  # refused
    await signature.start(Order(order_id=1), options=3)  # refused
    result: int = await signature.run(Order(order_id=1))  # refused
    print(result + 1)


async def living() -> None:
    mage.worker(concurrency="many")  # refused
    await mage.find_runs(limit="all")  # refused
    await mage.load_run(5)  # refused
