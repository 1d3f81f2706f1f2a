"""What one process knows by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from mageflow.core.options import Options
from mageflow.errors import DuplicateTaskError, ModelNotFoundError, ModelShapeError, UnknownTaskError
from mageflow.models.message import ContextMessage
from mageflow.runtime.bodies import inspect_body
from mageflow.runtime.registry import RegisteredTask, TaskRegistry


class Order(BaseModel):
    order_id: int


def task(fn: Callable[..., Any], name: str, options: Options = Options()) -> RegisteredTask:  # noqa: B008 - frozen
    return RegisteredTask(name=name, fn=fn, body=inspect_body(fn, name), options=options)


def define(source: str, *, file: str, line: int = 1) -> Callable[..., Any]:
    namespace: dict[str, Any] = {"__name__": "shop"}
    exec(compile("\n" * (line - 1) + source, file, "exec"), namespace)
    fn: Callable[..., Any] = namespace["pack"]
    return fn


def pack(order: Order) -> None: ...


def ship(order: Order) -> None: ...


def test_a_registered_task_is_found_by_name_and_by_function() -> None:
    registry = TaskRegistry()
    registry.register(task(pack, "pack", Options(retries=2)))
    assert registry.get("pack").fn is pack
    assert registry.find("ship") is None
    found = registry.find_function(pack)
    assert found is not None
    assert found.name == "pack"
    assert registry.find_function(ship) is None
    assert registry.names() == ("pack",)
    assert registry.defaults() == {"pack": Options(retries=2)}


def test_a_name_that_is_nearly_right_is_told() -> None:
    registry = TaskRegistry()
    registry.register(task(pack, "pack-order"))
    with pytest.raises(UnknownTaskError, match=r"'pack_order'.*did you mean 'pack-order'") as caught:
        registry.get("pack_order")
    assert caught.value.task_name == "pack_order"


def test_two_functions_with_one_name_are_refused_with_both_places() -> None:
    registry = TaskRegistry()
    registry.register(task(pack, "same"))
    with pytest.raises(DuplicateTaskError) as caught:
        registry.register(task(ship, "same"))
    for words in ("'same'", "pack", "ship", "test_registry.py:", "name="):
        assert words in str(caught.value)
    assert registry.get("same").fn is pack


BODY = "def pack(msg): ..."


@pytest.mark.parametrize(
    ("file", "line"), [("shop.py", 3), ("<ipython-input-2>", 9)], ids=["a reloaded module", "a notebook's cell"]
)
def test_the_same_function_defined_again_replaces_the_first(file: str, line: int) -> None:
    registry = TaskRegistry()
    registry.register(task(define(BODY, file="shop.py", line=3), "pack"))
    again = define(BODY, file=file, line=line)
    registry.register(task(again, "pack"))
    assert registry.get("pack").fn is again
    assert registry.names() == ("pack",)


def test_another_function_of_the_same_name_in_one_file_is_refused() -> None:
    registry = TaskRegistry()
    registry.register(task(define(BODY, file="shop.py", line=3), "pack"))
    with pytest.raises(DuplicateTaskError, match=r"shop.py:3.*shop.py:40"):
        registry.register(task(define(BODY, file="shop.py", line=40), "pack"))


def test_the_models_of_tasks_and_context_message_are_known_by_name() -> None:
    registry = TaskRegistry()
    registry.register(task(pack, "pack"))
    assert registry.model("Order").annotation is Order
    assert registry.model("ContextMessage").annotation is ContextMessage


def test_a_registered_model_is_known_by_name() -> None:
    class Special(BaseModel): ...

    registry = TaskRegistry()
    assert registry.register_model(Special) == "Special"
    assert registry.model("Special").annotation is Special


def test_an_unknown_model_is_told_with_near_names_and_the_way_to_register_it() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'ContexMessage'.*'ContextMessage'.*register_model") as caught:
        TaskRegistry().model("ContexMessage")
    assert caught.value.model_name == "ContexMessage"


def test_two_models_of_one_name_cannot_be_named() -> None:
    registry = TaskRegistry()
    registry.register_model(type("Message", (BaseModel,), {"__module__": "shop"}))
    registry.register_model(type("Message", (BaseModel,), {"__module__": "mail"}))
    with pytest.raises(ModelNotFoundError, match=r"mail\.Message and shop\.Message"):
        registry.model("Message")


def test_what_is_no_message_is_no_model() -> None:
    with pytest.raises(ModelShapeError, match="int is no type of a message"):
        TaskRegistry().register_model(int)
