"""The message a task receives: base, bound values, validation, and what is kept of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mageflow import (
    ContextMessage,
    ErrorValue,
    InvalidMessageError,
    Mageflow,
    ReturnValue,
    RunFailedError,
    TaskFailure,
    UndumpableError,
)
from tests.api.conftest import Sign, work


class Event(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    user_id: int = Field(alias="userId")
    id: UUID = Field(default_factory=uuid4)
    at: datetime = Field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_model_travels_whole_with_its_aliases_and_default_factories(mage: Mageflow, sign: Sign) -> None:
    seen: list[Event] = []

    @mage.task
    async def handle(event: Event) -> None:
        seen.append(event)

    sent = Event(userId=7)
    run = await (await sign(handle)).start(sent)
    await work(mage)
    assert seen == [sent]
    assert (await run.info()).message == {"userId": 7, "id": str(sent.id), "at": "2026-01-01T00:00:00Z"}


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    at: datetime
    day: date
    price: Decimal
    key: UUID
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    raw: bytes


async def test_strict_datetimes_and_discriminators_survive_the_trip(mage: Mageflow, sign: Sign) -> None:
    seen: list[Strict] = []

    @mage.task
    async def handle(msg: Strict) -> None:
        seen.append(msg)

    sent = Strict(
        at=datetime(2026, 5, 4, 3, 2, 1, 99, tzinfo=UTC),
        day=date(2026, 5, 4),
        price=Decimal("0.10"),
        key=UUID(int=3),
        pet=Dog(tricks=["roll"]),
        raw=b"abc",
    )
    await (await sign(handle)).start(sent)
    await work(mage)
    assert seen == [sent]
    assert isinstance(seen[0].pet, Dog)


@dataclass
class Point:
    x: int
    y: int = 5


class Keyed(TypedDict):
    x: int


async def test_messages_may_be_dataclasses_typed_dicts_dicts_or_nothing(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def point(msg: Point) -> int:
        return msg.x + msg.y

    @mage.task
    async def keyed(msg: Keyed) -> int:
        return msg["x"]

    @mage.task
    async def plain(msg: dict[str, Any]) -> int:
        return int(msg["x"])

    @mage.task
    async def unannotated(msg) -> Any:  # type: ignore[no-untyped-def] # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
        assert isinstance(msg, ContextMessage)
        return (msg.context, msg.model_extra)

    @mage.task
    def nothing() -> int:
        return 0

    async with mage.worker():
        assert await (await sign(point)).run(Point(1)) == 6
        assert await (await sign(point)).run({"x": 2}) == 7
        assert await (await sign(keyed)).run({"x": 3}) == 3
        assert await (await sign(plain, x=4)).run() == 4
        assert await (await sign(unannotated)).run({"context": {"a": 1}, "b": 2}) == [{"a": 1}, {"b": 2}]
        assert await (await sign(nothing, ignored=1)).run() == 0
        assert await (await sign(nothing)).run({"ignored": 1}) == 0


async def test_bound_values_stand_over_sent_ones_and_dicts_merge_to_any_depth(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def echo(msg: dict[str, Any]) -> dict[str, Any]:
        return msg

    signature = await sign(echo, deep={"a": {"b": {"bound": 1, "both": "bound"}}}, items=[1], top="bound")
    async with mage.worker():
        result = await signature.run(
            {"deep": {"a": {"b": {"sent": 2, "both": "sent"}, "c": 3}}, "items": [2, 3], "top": "sent", "own": True}
        )
    assert result == {
        "deep": {"a": {"b": {"sent": 2, "both": "bound", "bound": 1}, "c": 3}},
        "items": [1],
        "top": "bound",
        "own": True,
    }


async def test_a_field_bound_by_name_beats_the_one_sent_by_alias(mage: Mageflow, sign: Sign) -> None:
    class Inner(BaseModel):
        full_name: str = Field(alias="fullName")

    class Outer(BaseModel):
        user_id: int = Field(alias="userId")
        inner: Inner

    @mage.task
    async def read(msg: Outer) -> list[Any]:
        return [msg.user_id, msg.inner.full_name]

    async with mage.worker():
        by_name = await sign(read, user_id=1, inner={"full_name": "bound"})
        assert await by_name.run({"userId": 2, "inner": {"fullName": "sent"}}) == [1, "bound"]
        by_alias = await sign(read, userId=3, inner={"fullName": "bound"})
        assert await by_alias.run(Outer(userId=4, inner=Inner(fullName="sent"))) == [3, "bound"]


async def test_an_invalid_message_fails_the_run_once_with_each_field_named(mage: Mageflow, sign: Sign) -> None:
    class Form(BaseModel):
        age: int
        name: str
        tags: list[int]

    alerts: list[dict[str, Any]] = []

    @mage.task(retries=5)
    async def submit(msg: Form) -> None: ...

    class Alert(BaseModel):
        model_config = ConfigDict(extra="allow")
        why: Annotated[TaskFailure, ErrorValue()]

    @mage.task
    async def alert(msg: Alert) -> None:
        alerts.append(msg.model_dump(exclude={"why"}) | {"type": msg.why.type})

    signature = await sign(submit, error_callbacks=[alert])
    handle = await signature.start({"age": "old", "tags": [1, "x"]})
    async with mage.worker():
        with pytest.raises(RunFailedError) as caught:
            await handle.result()
    text = str(caught.value)
    for word in ("submit", "age", "name", "tags[1]"):
        assert word in text
    assert (await handle.info()).attempts == 1
    assert alerts == [{"age": "old", "tags": [1, "x"], "type": InvalidMessageError.__name__}]


async def test_what_a_message_cannot_be_is_refused_at_start(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop(msg: dict[str, Any]) -> None: ...

    signature = await sign(noop)
    with pytest.raises(UndumpableError, match=r"a model, a dataclass, a dict or None, not list"):
        await signature.start([1, 2])
    with pytest.raises(UndumpableError, match=r"message\.conn"):
        await signature.start({"conn": object()})
    assert await mage.find_runs() == []


# Results


class Level(Enum):
    HIGH = "high"


class Receipt(BaseModel):
    order_id: int = Field(alias="orderId")
    at: datetime


@pytest.mark.parametrize(
    ("value", "dumped"),
    [
        (None, None),
        (7, 7),
        ("text \u2603", "text \u2603"),
        ([1, {"a": (2, 3)}], [1, {"a": [2, 3]}]),
        (Receipt(orderId=1, at=datetime(2026, 1, 1, tzinfo=UTC)), {"orderId": 1, "at": "2026-01-01T00:00:00Z"}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Level.HIGH, "high"),
        (b"\x00\xff", base64.urlsafe_b64encode(b"\x00\xff").decode()),
        ({"day": date(2026, 1, 1)}, {"day": "2026-01-01"}),
    ],
)
async def test_a_result_is_dumped_by_pydantic(mage: Mageflow, value: Any, dumped: Any) -> None:
    @mage.task
    async def give() -> Any:
        return value

    @mage.task
    async def take(msg: dict[str, Any]) -> Any:
        return msg["results"]

    handle = await (await mage.sign(give, success_callbacks=[take])).start()
    await work(mage)
    assert (await handle.info()).result == dumped
    (taken,) = await mage.find_runs(task_name="take")
    assert await taken.result() == dumped


async def test_the_caller_gets_the_result_as_the_task_annotates_it(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def buy() -> Receipt:
        return Receipt(orderId=1, at=datetime(2026, 1, 1, tzinfo=UTC))

    async with mage.worker():
        assert await (await sign(buy)).run() == Receipt(orderId=1, at=datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_result_that_cannot_be_dumped_fails_the_run_with_its_type_and_path(mage: Mageflow, sign: Sign) -> None:
    class Connection: ...

    @mage.task(retries=3)
    async def connect() -> Any:
        return {"pool": [1, {"conn": Connection()}]}

    handle = await (await sign(connect)).start()
    await work(mage)
    info = await handle.info()
    assert info.attempts == 1
    assert info.failure is not None
    assert info.failure.type == "UndumpableError"
    assert "Connection" in info.failure.message
    assert "result.pool[1].conn" in info.failure.message


# Where a result goes


class Marked(BaseModel):
    task_result: Annotated[Any, ReturnValue()]
    field_int: int = 0


class MarkedBySubscript(BaseModel):
    task_result: ReturnValue[Any]
    field_int: int = 0


class Aliased(BaseModel):
    task_result: Annotated[Any, ReturnValue()] = Field(alias="taskResult")


class Unmarked(BaseModel):
    results: Any = "nothing"


class OldName(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mageflow_results: Any = "nothing"


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    other: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize(
    ("model", "field", "received"),
    [
        (Marked, "task_result", {"task_result": "done", "field_int": 5}),
        (MarkedBySubscript, "task_result", {"task_result": "done", "field_int": 5}),
        (Aliased, "taskResult", {"task_result": "done"}),
        (Unmarked, "results", {"results": "done"}),
        (OldName, "mageflow_results", {"mageflow_results": "done"}),
        (Closed, None, {"other": 1}),
        (Open, "results", {"results": "done"}),
    ],
)
async def test_a_result_goes_to_the_return_field_of_the_receivers_model(
    mage: Mageflow, model: type[BaseModel], field: str | None, received: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []

    @mage.task
    async def give() -> str:
        return "done"

    @mage.task(input_validator=model)
    async def success_callback(msg: Any) -> None:
        seen.append(msg.model_dump())

    bound: dict[str, Any] = {"field_int": 5} if "field_int" in received else {}
    callback = await mage.sign(success_callback, kwargs=bound)
    assert callback.return_field_name == field
    await (await mage.sign(give, success_callbacks=[callback])).start()
    await work(mage)
    assert seen == [received]


async def test_a_bound_value_stands_over_the_result(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def give() -> dict[str, Any]:
        return {"from": "result", "kept": 1}

    seen: list[Any] = []

    @mage.task
    async def take(msg: Marked) -> None:
        seen.append(msg.task_result)

    await (await sign(give, success_callbacks=[await sign(take, task_result={"from": "bound"})])).start()
    await work(mage)
    assert seen == [{"from": "bound", "kept": 1}]


async def test_the_validator_of_the_callback_chooses_the_field(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def give() -> int:
        return 1

    seen: list[Any] = []

    @mage.task
    async def take(msg: Marked) -> None:
        seen.append(msg)

    callback = await sign(take, model_validators=Unmarked)
    assert callback.return_field_name == "results"
    await (await sign(give, success_callbacks=[callback])).start()
    await work(mage)
    assert seen == [Unmarked(results=1)]


# What retries and error callbacks see


async def test_every_attempt_and_the_error_callback_see_the_same_message(mage: Mageflow, sign: Sign) -> None:
    class Job(BaseModel):
        number: int
        key: UUID = Field(default_factory=uuid4)
        names: list[str] = []

    seen: list[Any] = []

    @mage.task(retries=2)
    async def fail(msg: Job) -> None:
        seen.append(msg.key)
        assert msg.names == []
        msg.names.append("changed by the body")
        raise RuntimeError(f"attempt {len(seen)}")

    class Alert(BaseModel):
        number: int
        key: UUID
        names: list[str]
        extra: str
        failure: Annotated[TaskFailure, ErrorValue()]

    alerts: list[Alert] = []

    @mage.task
    async def alert(msg: Alert) -> None:
        alerts.append(msg)

    callback = await sign(alert, extra="bound")
    handle = await (await sign(fail, error_callbacks=[callback])).start({"number": 1})
    await work(mage)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    (told,) = alerts
    assert (told.number, told.key, told.names, told.extra) == (1, seen[0], [], "bound")
    failure = told.failure
    assert (failure.type, failure.message, failure.attempt) == ("RuntimeError", "attempt 3", 3)
    assert (failure.task_name, failure.run_id) == ("fail", handle.id)
    assert failure.traceback.startswith("Traceback")
    assert "test_messages.py" in failure.traceback
    assert "execute.py" not in failure.traceback


async def test_an_error_callback_without_a_mark_gets_just_the_message_and_its_bound_extras(
    mage: Mageflow, sign: Sign
) -> None:
    seen: list[Any] = []

    @mage.task
    async def fail(msg: dict[str, Any]) -> None:
        raise ValueError("no")

    @mage.task
    async def note(msg: dict[str, Any]) -> None:
        seen.append(msg)

    await (await sign(fail, bound=1, error_callbacks=[await sign(note, extra=2)])).start({"sent": 3})
    await work(mage)
    assert seen == [{"sent": 3, "bound": 1, "extra": 2}]


async def test_a_large_message_and_result_travel(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def double(msg: dict[str, Any]) -> str:
        return str(msg["text"]) * 2

    sizes: list[int] = []

    @mage.task
    async def measure(msg: Unmarked) -> None:
        sizes.append(len(msg.results))

    await (await sign(double, success_callbacks=[measure])).start({"text": "x" * 2_000_000})
    await work(mage)
    assert sizes == [4_000_000]
