"""What is kept of a message and of a result: freezing, dumping, reading back."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    model_validator,
)

from mageflow.errors import UndumpableError
from mageflow.models.message import Outcome
from mageflow.runtime.shapes import (
    dump_kwargs,
    dump_message,
    dump_result,
    load_result,
    message_type,
)
from tests.runtime.orders import SMALL, Item, Letter, Order, item

# Freezing


def test_default_factories_run_once() -> None:
    kind = message_type(Order)
    first = kind.validate(SMALL)
    frozen = kind.freeze(first, SMALL)
    assert kind.validate(frozen) == first
    assert SMALL.items() <= dict(frozen).items()
    assert "total" not in frozen


def test_defaults_inside_nested_models_and_lists_are_filled() -> None:
    kind = message_type(Order)
    message = {**SMALL, "items": [{"s": "a"}], "by_place": {"x": {"s": "b"}}, "parts": [SMALL]}
    frozen = kind.freeze(kind.validate(message), message)
    assert frozen["items"] == [{"s": "a", "count": 1}]
    assert frozen["by_place"] == {"x": {"s": "b", "count": 1}}
    assert frozen["parts"][0]["_id"] == str(kind.validate(frozen).parts[0].id)


def test_what_was_sent_stands_as_it_was_sent() -> None:
    message = {"order_id": "7", "surplus": 1}

    class Lax(BaseModel):
        order_id: int
        note: str = "n"

    kind = message_type(Lax)
    assert kind.freeze(kind.validate(message), message) == {"order_id": "7", "surplus": 1, "note": "n"}


def test_a_complete_message_is_frozen_as_it_is() -> None:
    class Flat(BaseModel):
        a: int = 1

    message = {"a": 2}
    assert message_type(Flat).freeze(Flat(a=2), message) is message


class Hidden(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    token: SecretStr = SecretStr("real")
    lock: Any = Field(default_factory=object)
    id: UUID = Field(default_factory=uuid4)


def test_a_default_that_cannot_be_read_back_is_made_anew() -> None:
    kind = message_type(Hidden)
    value = kind.validate({})
    frozen = kind.freeze(value, {})
    assert frozen == {"id": str(value.id)}
    assert kind.validate(frozen).token.get_secret_value() == "real"


class Formatted(BaseModel):
    day: date = Field(default_factory=lambda: date(2026, 1, 2))
    id: UUID = Field(default_factory=uuid4)

    @field_serializer("day")
    def show(self, day: date) -> str:
        return f"{day:%d.%m.%Y}"


def test_a_default_whose_serializer_changes_its_form_is_made_anew() -> None:
    kind = message_type(Formatted)
    value = kind.validate({})
    assert kind.freeze(value, {}) == {"id": str(value.id)}


class Prepared(BaseModel):
    id: UUID

    @model_validator(mode="before")
    @classmethod
    def prepare(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"id": str(uuid4()), **data}


def test_what_a_validator_added_is_kept() -> None:
    kind = message_type(Prepared)
    value = kind.validate({})
    assert kind.validate(kind.freeze(value, {})) == value


# Dumping


class Colour(Enum):
    RED = "red"


def test_results_are_dumped_as_plain_json() -> None:
    value = {
        "model": item("a"),
        "dataclass": Letter("ada"),
        "datetime": datetime(2026, 1, 2, tzinfo=UTC),
        "uuid": UUID(int=1),
        "decimal": Decimal("1.10"),
        "enum": Colour.RED,
        "set": {1},
        "tuple": (1, 2),
        "bytes": b"\xff\xfe",
        "nan": float("nan"),
        "infinity": -float("inf"),
        "big": 2**80,
        "nul": "\0",
        3: None,
    }
    assert msgspec.json.decode(dump_result(value)) == {
        "model": {"stock_keeping_unit": "a", "count": 1},
        "dataclass": {"to": "ada", "receipt": None, "copies": []},
        "datetime": "2026-01-02T00:00:00Z",
        "uuid": str(UUID(int=1)),
        "decimal": "1.10",
        "enum": "red",
        "set": [1],
        "tuple": [1, 2],
        "bytes": "__4=",
        "nan": "NaN",
        "infinity": "-Infinity",
        "big": 2**80,
        "nul": "\0",
        "3": None,
    }


class Holder(BaseModel):
    conn: Any = None
    raw: bytes = b""


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    f: float


def looped() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "path", "type_name", "words"),
    [
        (object(), "result", "object", ["has no JSON form"]),
        ({"items": [1, 2, 3, Holder(conn=object())]}, "result.items[3].conn", "object", ["has no JSON form"]),
        ({"a b": [object]}, "result['a b'][0]", "type", ["has no JSON form"]),
        (Letter("x", copies=cast("list[Item]", [print])), "result.copies[0]", "builtin_function_or_method", []),
        (Holder(raw=b"\xff"), "result.raw", "bytes", ["UTF-8", "ser_json_bytes", "base64"]),
        ([looped()], "result[0][0]", "list", ["refers to itself"]),
        ("\ud800", "result", "str", ["surrogates"]),
        (Constants(f=float("nan")), "result", "Constants", ["ser_json_inf_nan"]),
    ],
)
def test_what_has_no_json_form_is_told_with_its_type_and_path(
    value: Any, path: str, type_name: str, words: list[str]
) -> None:
    with pytest.raises(UndumpableError) as caught:
        dump_result(value)
    assert caught.value.path == path
    assert caught.value.type_name.rpartition(".")[2] == type_name
    for word in (path, type_name, *words):
        assert word in str(caught.value)


def test_a_connection_is_named_by_its_module() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        with pytest.raises(UndumpableError, match=r"kwargs\.db.*sqlite3\.Connection"):
            dump_kwargs({"db": connection})
    finally:
        connection.close()


@pytest.mark.parametrize("message", [[1], "text", 3, RootModel[list[int]]([1])])
def test_what_is_no_message_is_refused(message: Any) -> None:
    with pytest.raises(UndumpableError, match="a message is a model, a dataclass, a dict or None"):
        dump_message(message)


def test_nothing_sent_is_no_message() -> None:
    assert dump_message(None) is None


def test_a_secret_is_refused_rather_than_sent_as_asterisks() -> None:
    assert dump_message(Hidden.model_construct(lock=None)) is not None
    with pytest.raises(UndumpableError, match=r"message\.token.*SecretStr.*asterisks"):
        dump_message(Hidden(token=SecretStr("x")))


# Reading results


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str = Field(validation_alias="s", serialization_alias="stock")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shout(self) -> str:
        return self.sku.upper()


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, int),
        ([item("a")], list[Item]),
        (Forbidding.model_validate({"s": "a"}), Forbidding),
        ([Forbidding.model_validate({"s": "a"})], list[Forbidding]),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime),
        (Letter("ada"), Letter),
        (None, None),
        (float("inf"), float),
        ({"a": 1}, Any),
    ],
)
def test_a_result_is_read_as_the_annotation_has_it(value: Any, annotation: Any) -> None:
    assert load_result(dump_result(value), annotation) == value


@pytest.mark.parametrize("annotation", [int, "Nowhere", Annotated[int, []], object()])
def test_a_result_that_does_not_fit_is_given_as_plain_json(annotation: Any) -> None:
    assert load_result(b'["a"]', annotation) == ["a"]


def test_an_outcome_reads_its_value() -> None:
    outcome = Outcome[Item].model_validate_json(
        dump_result({"status": "succeeded", "value": {"s": "a"}, "attempts": 1, "task_name": "t", "run_id": "r"})
    )
    assert outcome.value == item("a")
