"""What users write and both type checkers must accept."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Protocol, TypeVar, assert_type

from pydantic import BaseModel, Field

from mageflow import ContextMessage, ErrorValue, Outcome, ReturnValue, RunStatus, Task, TaskFailure
from mageflow.tasks import TaskDecorator

M_co = TypeVar("M_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


class Order(BaseModel):
    order_id: int


class Email(BaseModel):
    to: str
    receipt: Annotated[str, ReturnValue()]


class Short(BaseModel):
    to: str
    receipt: ReturnValue[str]
    anything: ReturnValue[Any]
    outcomes: ReturnValue[list[Outcome[int]]]
    later: Annotated[int | None, ReturnValue()] = None
    aliased: ReturnValue[int] = Field(alias="theReceipt")


class Alert(Order):
    failure: Annotated[TaskFailure, ErrorValue()]
    again: ErrorValue[TaskFailure]


@dataclass
class Letter:
    to: str
    receipt: ReturnValue[str]


def marks_read_as_what_they_mark(email: Email, short: Short, alert: Alert, letter: Letter) -> None:
    assert_type(email.receipt, str)
    assert_type(short.receipt, str)
    assert_type(short.outcomes, list[Outcome[int]])
    assert_type(short.later, int | None)
    assert_type(alert.failure, TaskFailure)
    assert_type(alert.again, TaskFailure)
    assert_type(letter.receipt, str)
    short.receipt = "another"
    Short(to="ada", receipt="r", anything=1, outcomes=[], theReceipt=1)
    Letter("ada", "r")


def outcomes_know_their_value(outcome: Outcome[Order]) -> None:
    assert_type(outcome.value, Order | None)
    assert_type(outcome.failure, TaskFailure | None)
    assert_type(outcome.status, RunStatus)
    assert_type(outcome.member, str | None)
    assert_type(ContextMessage().context, dict[str, Any])


class Signed(Protocol[M_co, R_co]):
    """What a signature knows of its task's types."""


def signed(task: Task[..., M_co, R_co, Any]) -> Signed[M_co, R_co]:
    raise NotImplementedError


def decorate(mage: TaskDecorator) -> None:
    @mage.task
    async def bare(order: Order) -> str:
        return str(order.order_id)

    @mage.task
    async def nothing() -> int:
        return 1

    @mage.task
    def sync(order: Order, loud: bool = False) -> str:
        return str(order)

    @mage.task
    def sync_nothing() -> None: ...

    @mage.task()
    async def called(msg: Letter) -> None: ...

    @mage.task("by-position")
    async def by_position(msg: Mapping[str, Any]) -> None: ...

    @mage.task(name="by-name", retries=2, backoff_factor=2.0, execution_timeout=timedelta(minutes=1), priority=3)
    def by_name(msg: Order) -> float:
        return 1.0

    @mage.task("validated", input_validator=Order, schedule_timeout=5)
    async def validated(msg: Any) -> str:
        return str(msg)

    @mage.task(input_validator=Order)
    def validated_sync(msg: Any, ctx: Any) -> str:
        return str(msg)

    assert_type(signed(bare), Signed[Order, str])
    assert_type(signed(nothing), Signed[None, int])
    assert_type(signed(sync), Signed[Order, str])
    assert_type(signed(sync_nothing), Signed[None, None])
    assert_type(signed(called), Signed[Letter, None])
    assert_type(signed(by_position), Signed[Mapping[str, Any], None])
    assert_type(signed(by_name), Signed[Order, float])
    assert_type(signed(validated), Signed[Order, str])
    assert_type(signed(validated_sync), Signed[Order, str])
    assert_type(bare.name, str)
    assert_type(nothing.fn, Callable[[], Coroutine[Any, Any, int]])
    anything: Sequence[Task[..., Any, Any, Any]] = [bare, nothing, sync, validated]
    assert len(anything) == 4
    assert_type(sync(Order(order_id=1), loud=True), str)
    assert_type(sync_nothing(), None)
    assert_type(validated_sync(Order(order_id=1), ctx=None), str)


async def call(mage: TaskDecorator) -> None:
    async def plain(order: Order) -> str:
        return str(order)

    task = mage.task(plain)
    assert_type(await task(Order(order_id=1)), str)
    other = mage.task(name="other", input_validator=Order)(plain)
    assert_type(await other(order=Order(order_id=1)), str)
