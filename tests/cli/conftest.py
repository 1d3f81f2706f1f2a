"""A store with runs of each kind, for the commands to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel

from mageflow import ErrorValue, Mageflow, ReturnValue, TaskFailure


class Order(BaseModel):
    order_id: int


class Email(BaseModel):
    to: str
    receipt: Annotated[str, ReturnValue()]


class Alert(Order):
    failure: Annotated[TaskFailure, ErrorValue()]


@dataclass(frozen=True)
class Kept:
    """The file, and the ids of the runs in it."""

    path: Path
    good: str
    bad: str
    email: str
    alert: str

    @property
    def store(self) -> str:
        return str(self.path)


@pytest.fixture
async def kept(tmp_path: Path) -> Kept:
    path = tmp_path / "orders.db"
    async with Mageflow(store=path) as mage:

        @mage.task(retries=1)
        async def process_order(order: Order) -> str:
            return f"receipt {100 // order.order_id}"

        @mage.task
        async def send_email(msg: Email) -> None:
            return

        @mage.task
        async def alert(msg: Alert) -> str:
            return f"told \x1b[31m{msg.failure.type}"

        email = await mage.sign(send_email, to="ada@example.com")
        flow = await mage.sign(process_order, success_callbacks=[email], error_callbacks=[alert])
        async with mage.worker():
            good = await flow.start(Order(order_id=7))
            await good.settled(timeout=20)
            bad = await flow.start(Order(order_id=0))
            await bad.settled(timeout=20)
        [emailed], [alerted] = await good.caused(), await bad.caused()
        return Kept(path=path, good=good.id, bad=bad.id, email=emailed.id, alert=alerted.id)
