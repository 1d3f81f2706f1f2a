"""Real models: their shapes, and validation as from JSON."""

from __future__ import annotations

import typing
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, NotRequired, Optional, TypeVar
from uuid import UUID

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
    field_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from mageflow.core.binding import Result, assemble
from mageflow.errors import InvalidMessageError, ModelShapeError
from mageflow.models.message import ContextMessage, ErrorValue, ReturnValue, TaskFailure
from mageflow.runtime.shapes import (
    NOTHING,
    message_type,
)
from tests.runtime.orders import SMALL, Cat, Dog, Item, Letter, Order, item, trip

T = TypeVar("T")


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
