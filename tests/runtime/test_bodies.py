"""What a body may take, and what is refused at decoration."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from mageflow.errors import ModelShapeError, TaskShapeError
from mageflow.models.message import ContextMessage, ReturnValue
from mageflow.runtime.bodies import inspect_body, name_of
from mageflow.runtime.shapes import NOTHING

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


class Order(BaseModel):
    order_id: int


@dataclass
class Letter:
    to: str


class Note(TypedDict):
    text: str


class TwoMarks(BaseModel):
    a: Annotated[int, ReturnValue()]
    b: ReturnValue[int]


async def takes_nothing() -> None: ...
async def takes_model(msg: Order) -> str: ...  # type: ignore[empty-body]
def takes_dataclass(msg: Letter) -> None: ...
def takes_typed_dict(msg: Note) -> None: ...
def takes_dict(msg: dict[str, Any]) -> None: ...
def takes_anything(msg: Any) -> None: ...
def takes_optional(msg: Order | None) -> None: ...
def takes_default(msg: Order = Order(order_id=1)) -> None: ...  # noqa: B008 - what people write
def has_defaults(msg: Order, times: int = 3, *, loud: bool = False) -> None: ...
def only_defaults(days: int = 7) -> None: ...
def by_keyword(*, msg: Order) -> None: ...
def context_first(ctx: Any, msg: Order) -> None: ...
def variadic(*args: Any, **kwargs: Any) -> None: ...
def unannotated(msg): ...  # type: ignore[no-untyped-def] # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]


@pytest.mark.parametrize(
    ("fn", "parameter", "model"),
    [
        (takes_nothing, None, None),
        (takes_model, "msg", Order),
        (takes_dataclass, "msg", Letter),
        (takes_typed_dict, "msg", Note),
        (takes_dict, "msg", dict[str, Any]),
        (takes_anything, "msg", Any),
        (takes_optional, "msg", Order | None),
        (takes_default, "msg", Order),
        (has_defaults, "msg", Order),
        (only_defaults, None, None),
        (by_keyword, "msg", Order),
        (context_first, "msg", Order),
        (variadic, None, None),
        (unannotated, "msg", ContextMessage),  # pyright: ignore[reportUnknownArgumentType]
    ],
)
def test_a_body_takes_nothing_or_one_message(fn: Callable[..., Any], parameter: str | None, model: Any) -> None:
    body = inspect_body(fn)
    assert body.parameter == parameter
    assert body.message.annotation == model
    assert (body.message is NOTHING) == (parameter is None)


def too_many(msg: Order, count: int) -> None: ...
def no_message(count: int) -> None: ...
def not_defined(msg: Missing) -> None: ...  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]
def checkers_only(msg: OnlyForCheckers) -> None: ...
def two_marks(msg: TwoMarks) -> None: ...


def generates(msg: Order) -> Iterator[int]:
    yield 1


async def generates_async(msg: Order) -> AsyncIterator[int]:
    yield 1


class Shop:
    def pack(self, msg: Order) -> None: ...

    async def ship(self, msg: Order) -> str: ...  # type: ignore[empty-body]

    async def __call__(self, msg: Order, ctx: Any) -> str: ...  # type: ignore[empty-body]

    @staticmethod
    def close(msg: Order) -> None: ...


REFUSED: list[tuple[Any, type[Exception], list[str]]] = [
    (too_many, TaskShapeError, ["'too_many'", "count: int", "beside its message `msg`", "field", "default"]),
    (no_message, TaskShapeError, ["'no_message'", "count: int", "is no message", "model with a field 'count'"]),
    (not_defined, TaskShapeError, ["'not_defined'", "'msg'", "'Missing'", "not defined", "input_validator="]),
    (checkers_only, TaskShapeError, ["'OnlyForCheckers'", "TYPE_CHECKING"]),
    (generates, TaskShapeError, ["'generates'", "generator", "return a list"]),
    (generates_async, TaskShapeError, ["'generates_async'", "generator"]),
    (Shop.pack, TaskShapeError, ["'pack'", "'self'", "bound"]),
    (Shop, TaskShapeError, ["'Shop'", "no function"]),
    (lambda: None, TaskShapeError, ["no name", "name="]),
    (functools.partial(takes_model), TaskShapeError, ["no name", "name="]),
    (two_marks, ModelShapeError, ["TwoMarks", "'a' and 'b'", "ReturnValue"]),
]


@pytest.mark.parametrize(("fn", "error", "words"), REFUSED)
def test_what_cannot_be_served_is_refused(fn: Callable[..., Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        inspect_body(fn)
    for word in words:
        assert word in str(caught.value)


def test_a_refusal_names_task_and_parameter() -> None:
    with pytest.raises(TaskShapeError) as caught:
        inspect_body(too_many, "count-things")
    assert (caught.value.task_name, caught.value.parameter) == ("count-things", "count")


def test_an_input_validator_beats_the_annotation() -> None:
    assert inspect_body(no_message, input_validator=Order).message.annotation is Order
    assert inspect_body(not_defined, input_validator=Order).message.annotation is Order  # pyright: ignore[reportUnknownArgumentType]


def test_a_validator_of_a_body_that_takes_nothing_still_validates() -> None:
    body = inspect_body(takes_nothing, input_validator=Order)
    assert body.message.annotation is Order
    assert body.arguments(Order(order_id=1)) == ([], {})


class TestArguments:
    def test_the_message_goes_by_position(self) -> None:
        assert inspect_body(has_defaults).arguments("M") == (["M"], {})

    def test_a_keyword_only_message_goes_by_name(self) -> None:
        assert inspect_body(by_keyword).arguments("M") == ([], {"msg": "M"})

    def test_context_and_signature_are_injected(self) -> None:
        def body(msg: Order, ctx: Any, signature: Any) -> None: ...

        found = inspect_body(body)
        assert (found.wants_ctx, found.wants_signature) == (True, True)
        args, named = found.arguments("M", ctx="C", signature="S")
        assert (args, named) == (["M"], {"ctx": "C", "signature": "S"})

    def test_a_context_before_the_message_can_be_called(self) -> None:
        def body(ctx: Any, msg: Order) -> tuple[Any, Any]:
            return ctx, msg

        args, named = inspect_body(body).arguments("M", ctx="C")
        assert body(*args, **named) == ("C", "M")

    def test_positional_only_parameters_keep_their_order(self) -> None:
        def body(ctx: Any, msg: Order, /) -> tuple[Any, Any]:
            return ctx, msg

        args, named = inspect_body(body).arguments("M", ctx="C")
        assert body(*args, **named) == ("C", "M")

    def test_a_message_called_ctx_is_a_message_if_its_type_says_so(self) -> None:
        def body(ctx: Order) -> None: ...

        found = inspect_body(body)
        assert (found.parameter, found.wants_ctx) == ("ctx", False)

    def test_a_function_on_a_taskiq_broker_keeps_its_parameters(self) -> None:
        def add(a: int, b: int = 2) -> int:
            return a + b

        body = inspect_body(add, several=True)
        args, named = body.arguments(body.message.validate({"a": "3"}))
        assert add(*args, **named) == 5
        assert body.message.shape.required == ("a",)

    def test_its_parameters_may_have_any_name(self) -> None:
        def copy(schema: str, _hidden: int, json: str = "j") -> str:
            return f"{schema}{_hidden}{json}"

        body = inspect_body(copy, several=True)
        args, named = body.arguments(body.message.validate({"schema": "s", "_hidden": 1}))
        assert copy(*args, **named) == "s1j"

    def test_a_function_on_a_taskiq_broker_that_takes_one_message_is_served_as_any(self) -> None:
        assert inspect_body(takes_model, several=True).parameter == "msg"


def marker_of(module: str) -> Any:
    return type("Depends", (), {"__module__": module})()


@pytest.mark.parametrize(
    ("module", "engine"),
    [("hatchet_sdk.runnables.depends", "hatchet"), ("taskiq_dependencies.dependency", "taskiq")],
)
def test_engine_dependencies_are_told_by_default_and_by_metadata(module: str, engine: str) -> None:
    marker = marker_of(module)

    def by_default(msg: Order, session: Any = marker) -> None: ...
    def by_metadata(msg: Order, session: Annotated[Any, marker]) -> None: ...

    for fn in (by_default, by_metadata):
        body = inspect_body(fn)
        assert [(each.name, each.engine) for each in body.dependencies] == [("session", engine)]
        assert body.arguments("M", injected={"session": "S"}) == (["M"], {"session": "S"})


class TestCallables:
    def test_a_bound_method(self) -> None:
        body = inspect_body(Shop().ship)
        assert (body.parameter, body.is_async, body.returns) == ("msg", True, str)

    def test_a_static_method(self) -> None:
        assert inspect_body(Shop.close).parameter == "msg"

    def test_a_callable_object(self) -> None:
        body = inspect_body(Shop(), "shop")
        assert (body.parameter, body.wants_ctx, body.is_async) == ("msg", True, True)

    def test_a_partial_has_the_parameters_that_are_left(self) -> None:
        body = inspect_body(functools.partial(too_many, count=3), "counted")
        assert (body.parameter, body.message.annotation) == ("msg", Order)

    def test_a_partial_of_an_async_function_is_async(self) -> None:
        assert inspect_body(functools.partial(takes_model), "p").is_async

    def test_a_wrapper_is_served_as_what_it_wraps(self) -> None:
        @functools.wraps(takes_model)
        def wrapper(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, str]:
            return takes_model(*args, **kwargs)

        body = inspect_body(wrapper)
        assert (name_of(wrapper), body.parameter, body.returns) == ("takes_model", "msg", str)


class TestPostponedAnnotations:
    def test_a_model_that_is_local_to_the_defining_function_is_found(self) -> None:
        class Local(BaseModel):
            x: int

        def body(msg: Local) -> Local: ...  # type: ignore[empty-body]

        found = inspect_body(body)
        assert found.message.annotation is Local
        assert found.returns is Local

    def test_a_method_of_a_local_class_finds_it_too(self) -> None:
        class Local(BaseModel):
            x: int

        class Here:
            def body(self, msg: Local) -> None: ...

        assert inspect_body(Here().body).message.annotation is Local

    def test_an_unreadable_return_annotation_is_no_reason_to_refuse(self) -> None:
        def body(msg: Order) -> OnlyForCheckers: ...  # type: ignore[empty-body]

        assert inspect_body(body).returns is Any
