"""Real models: their shapes, validation as from JSON, freezing, dumping."""

from __future__ import annotations

import sqlite3
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NotRequired, Optional, TypeVar, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from mageflow.core.binding import Result, Sent, assemble
from mageflow.errors import InvalidMessageError, ModelShapeError, UndumpableError
from mageflow.models.message import ContextMessage, ErrorValue, Outcome, ReturnValue, TaskFailure
from mageflow.runtime.shapes import (
    NOTHING,
    dump_kwargs,
    dump_message,
    dump_result,
    load_result,
    message_type,
)

T = TypeVar("T")


class Item(BaseModel):
    sku: str = Field(validation_alias="s", serialization_alias="stock_keeping_unit")
    count: int = 1


def item(sku: str, count: int = 1) -> Item:
    return Item.model_validate({"s": sku, "count": count})


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(default=9, alias="livesLeft")


class Dog(BaseModel):
    kind: Literal["dog"]


class Order(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    order_id: int
    at: datetime
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    items: list[Item] = []
    first: Item | None = None
    by_place: dict[str, Item] = {}
    id: UUID = Field(default_factory=uuid4, alias="_id")
    parts: list[Order] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return len(self.items)


SMALL = {"order_id": 1, "at": "2026-01-02T03:04:05Z", "pet": {"kind": "dog"}}


def trip(model: type[BaseModel], message: Any, bound: Mapping[str, Any] | None = None) -> Any:
    """Send a message to a task of `model` and give what the body receives."""
    kind = message_type(model)
    return kind.validate(assemble(Sent(dump_message(message)), [dump_kwargs(bound or {})], kind.shape))


# The way of a message


def test_a_full_model_survives_the_way() -> None:
    sent = Order(
        order_id=1,
        at=datetime(2026, 1, 2, tzinfo=UTC),
        pet=Cat(kind="cat", livesLeft=3),
        items=[item("a", 2)],
        first=item("b"),
        by_place={"left": item("c")},
        parts=[Order(order_id=2, at=datetime(2026, 1, 1, tzinfo=UTC), pet=Dog(kind="dog"))],
    )
    assert trip(Order, sent) == sent


def test_a_strict_datetime_is_read_from_its_json_text() -> None:
    assert message_type(Order).validate(SMALL).at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_field_names_count_beside_aliases_at_every_depth() -> None:
    received = trip(
        Order,
        {**SMALL, "id": str(UUID(int=1)), "items": [{"sku": "a"}], "pet": {"kind": "cat", "lives": 2}},
        {"first": {"stock_keeping_unit": "f"}},
    )
    assert received.id == UUID(int=1)
    assert received.items == [item("a")]
    assert received.pet == Cat(kind="cat", livesLeft=2)
    assert received.first == item("f")


def test_bound_values_are_merged_into_a_nested_model_under_any_spelling() -> None:
    received = trip(Order, {**SMALL, "first": {"s": "sent", "count": 5}}, {"first": {"sku": "bound"}})
    assert received.first == item("bound", 5)


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    user_name: str
    zip_code: str = Field(default="", validation_alias=AliasChoices("zip", AliasPath("address", "zip")))


def test_alias_generators_and_choices_are_known() -> None:
    shape = message_type(Camel).shape
    assert shape.keys["user_name"] == shape.keys["userName"] == "userName"
    assert shape.keys["zip_code"] == "zip"
    assert trip(Camel, {"user_name": "ada", "address": {"zip": "1"}}).zip_code == "1"
    assert trip(Camel, Camel.model_validate({"userName": "ada", "zip": "1"})).zip_code == "1"


class AliasSwap(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


def test_a_word_that_is_one_fields_alias_and_anothers_name_means_the_alias() -> None:
    sent = AliasSwap(b=1, a=2)
    assert trip(AliasSwap, sent) == sent


class OnlyPath(BaseModel):
    zip_code: str = Field(validation_alias=AliasPath("address", "zip"))


def test_a_field_that_only_a_path_reaches_can_be_bound_by_its_name() -> None:
    assert trip(OnlyPath, OnlyPath.model_validate({"address": {"zip": "1"}})).zip_code == "1"


class WithJson(BaseModel):
    payload: Json[list[int]]


def test_a_field_of_json_text_survives_the_way() -> None:
    sent = WithJson(payload="[1]")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert trip(WithJson, sent).payload == [1]


@dataclass
class Letter:
    to: str
    receipt: Annotated[str, ReturnValue()] | None = None
    copies: list[Item] = field(default_factory=list[Item])


class Note(TypedDict):
    text: str
    receipt: NotRequired[Annotated[Any, ReturnValue()]]


class OldNote(typing.TypedDict, total=False):
    text: typing.Required[str]
    receipt: Annotated[Any, ReturnValue()]


class Page(BaseModel, Generic[T]):
    rows: list[T]
    receipt: Annotated[T | None, ReturnValue()] = None


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        (Letter, {"to": "ada", "receipt": "r"}, Letter("ada", "r")),
        (Note, {"text": "x"}, {"text": "x"}),
        (OldNote, {"text": "x", "receipt": 1}, {"text": "x", "receipt": 1}),
        (Page[int], {"rows": ["1"]}, Page[int](rows=[1])),
        (dict, {"a": [1]}, {"a": [1]}),
        (dict[str, int], {"a": "1"}, {"a": 1}),
        (Any, {"a": 1}, {"a": 1}),
        (Order | None, SMALL | {"_id": str(UUID(int=2))}, None),
        (Cat | Dog, {"kind": "dog"}, Dog(kind="dog")),
        (RootModel[dict[str, int]], {"a": 1}, RootModel[dict[str, int]]({"a": 1})),
    ],
)
def test_every_type_of_message_validates(kind: Any, message: dict[str, Any], expected: Any) -> None:
    value = message_type(kind).validate(message)
    assert value == (expected if expected is not None else Order.model_validate_json(msgspec.json.encode(message)))


def test_a_body_that_takes_nothing_accepts_any_message() -> None:
    assert message_type(None) is NOTHING
    assert NOTHING.validate({"a": 1}) is None
    assert NOTHING.freeze(None, {"a": 1}) == {"a": 1}


def test_a_type_is_built_once() -> None:
    assert message_type(Order) is message_type(Order)


class Early(BaseModel):
    part: Late


class Late(BaseModel):
    x: int = 1


def test_a_model_may_name_a_class_that_was_defined_after_it() -> None:
    assert message_type(Early).validate({"part": {}}).part == Late()


# Marks


class Child(Page[int]): ...


class Older(BaseModel):
    receipt: Optional[ReturnValue[str]]  # noqa: UP045 - the spelling is what is tested


class Alert(Order):
    failure: Annotated[TaskFailure, ErrorValue()]


class Results(BaseModel):
    results: int


class OldResults(BaseModel):
    model_config = ConfigDict(extra="forbid")
    mageflow_results: int = Field(alias="mageflowResults")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = 1


class Aliased(BaseModel):
    receipt: ReturnValue[int] = Field(alias="theReceipt")


@pytest.mark.parametrize(
    ("kind", "return_field", "error_field"),
    [
        (Letter, "receipt", None),
        (Note, "receipt", None),
        (OldNote, "receipt", None),
        (Page[int], "receipt", None),
        (Child, "receipt", None),
        (Older, "receipt", None),
        (Alert, None, "failure"),
        (Aliased, "theReceipt", None),
        (Results, "results", None),
        (OldResults, "mageflowResults", None),
        (Closed, None, None),
        (Item, "results", None),
        (ContextMessage, "results", None),
        (dict, "results", None),
        (Letter | None, "receipt", None),
    ],
)
def test_marks_are_found_wherever_they_stand(kind: Any, return_field: str | None, error_field: str | None) -> None:
    shape = message_type(kind).shape
    assert (shape.return_key, shape.error_key) == (return_field, error_field)


def test_a_model_local_to_a_function_keeps_its_marks() -> None:
    class Local(BaseModel):
        inner: Item
        receipt: Annotated[Item, ReturnValue()] | None

    kind = message_type(Local)
    received = kind.validate(assemble(Result({"stock_keeping_unit": "x"}), [{"inner": {"sku": "y"}}], kind.shape))
    assert received.receipt == item("x")


class Unfinished(BaseModel):
    part: NotYet  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]


class TwoReturns(BaseModel):
    a: ReturnValue[int]
    b: Annotated[int, ReturnValue()] | None


class TwoErrors(TypedDict):
    a: ErrorValue[Any]
    b: ErrorValue[Any]


foreign = type("ReturnValue", (), {"__module__": "thirdmagic.message"})


class Former(BaseModel):
    a: Annotated[int, foreign()]


class FormerInside(BaseModel):
    a: Annotated[int, foreign] | None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TwoReturns, ["TwoReturns", "'a' and 'b'", "ReturnValue", "one field"]),
        (TwoErrors, ["TwoErrors", "'a' and 'b'", "ErrorValue"]),
        (Former, ["'a' of Former", "thirdmagic.message", "import it from mageflow.models.message"]),
        (FormerInside, ["FormerInside", "mageflow.models.message"]),
        (Unfinished, ["Unfinished", "NotYet", "define"]),
        (int, ["int is no type of a message", "model", "dict"]),
        (list[Order], ["list", "no type of a message"]),
        (RootModel[list[int]], ["RootModel", "no type of a message"]),
        (Order | int, ["no type of a message"]),
    ],
)
def test_a_model_that_cannot_be_one_is_refused(kind: Any, words: list[str]) -> None:
    with pytest.raises(ModelShapeError) as caught:
        message_type(kind)
    for word in words:
        assert word in str(caught.value)


# Invalid messages


def test_each_wrong_field_is_named_with_its_problem_and_the_type_that_came() -> None:
    message = {"at": 3, "pet": {"kind": "fish"}, "items": [{"s": "a"}, {"s": 4}], "surplus": None}
    with pytest.raises(InvalidMessageError) as caught:
        message_type(Order).validate(message, "pack")
    error = caught.value
    assert error.task_name == "pack"
    assert set(error.fields) == {"order_id", "at", "pet", "items[1].s", "surplus"}
    for words in ("'pack'", "Order", "order_id: Field required", "at: Input should be a valid datetime", "got int"):
        assert words in str(error)
    assert error.fields["surplus"].endswith("got null")


class Angry(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        raise KeyError(value)


def test_a_validator_that_breaks_makes_the_message_invalid() -> None:
    with pytest.raises(InvalidMessageError, match=r"'t'.*Angry.*KeyError"):
        message_type(Angry).validate({"a": 1}, "t")


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
