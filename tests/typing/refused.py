"""What both type checkers must refuse: each line that is marked, and no other."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel

from mageflow import ErrorValue, Outcome, ReturnValue, Task, TaskFailure
from mageflow.tasks import TaskDecorator

M = TypeVar("M")
R = TypeVar("R")


class Order(BaseModel):
    order_id: int


class Email(BaseModel):
    receipt: ReturnValue[str]
    count: Annotated[int, ReturnValue()]


class Alert(BaseModel):
    failure: ErrorValue[TaskFailure]


def marks(email: Email, alert: Alert) -> None:
    length: int = email.receipt  # refused
    email.receipt.missing()  # refused
    text: str = email.count  # refused
    email.receipt = 3  # refused
    alert.failure.attempt.missing  # refused


def outcomes(outcome: Outcome[Order]) -> None:
    outcome.value.order_id  # refused
    outcome.status = "succeeded"  # refused


def message_and_result(task: Task[..., M, R, Any]) -> tuple[M, R]:
    raise NotImplementedError


def decorate(mage: TaskDecorator) -> None:
    @mage.task
    def sync(order: Order) -> str:
        return str(order)

    @mage.task
    def nothing() -> int:
        return 1

    sync(3)  # refused
    sync()  # refused
    nothing(Order(order_id=1))  # refused
    number: int = sync(Order(order_id=1))  # refused
    order, result = message_and_result(sync)
    order.missing  # refused
    result.missing  # refused
    sync.missing  # refused
    mage.task(retires=2)  # refused
    mage.task(retries="two")  # refused
    mage.task(rate_limits=[])  # refused
    mage.task(name=3)  # refused
    mage.task(input_validator=Order(order_id=1))  # refused
    mage.task(3)  # refused
