"""To plain JSON and back: results, messages and bound values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import msgspec
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json

from mageflow.core.binding import Shape, is_object, normalise_value
from mageflow.errors import UndumpableError
from mageflow.runtime.marks import class_of
from mageflow.runtime.schema import has_json_field, read_value_shape

__all__ = ["dump_kwargs", "dump_message", "dump_result", "load_result"]

_decode = msgspec.json.decode
_DEEPEST = 50
"""How deep the search for the culprit goes; the message names the place where it stops."""


def dump_result(value: Any) -> bytes:
    """Give what a task returned as JSON, as Pydantic dumps it.

    Models are dumped by alias and by their own configuration. Elsewhere bytes are base64 (URL-safe) and NaN and the
    infinities are the strings "NaN", "Infinity" and "-Infinity", which a float field reads back.

    Raises:
        UndumpableError: with the path to the value that has no JSON form, such as `result.items[3].conn`.
    """
    return _dump(value, "result")


def dump_message(value: Any, *, only_set: bool = False) -> dict[str, Any] | None:
    """Give what a caller sent as plain JSON: a model's full dump by alias, a dataclass, a dict, or None for nothing.

    Args:
        value: what was sent.
        only_set: of a model give only the fields that were set.

    Raises:
        UndumpableError: if part of it has no JSON form, is a secret (its dump is asterisks), or it is no message at
            all, such as a list.
    """
    if value is None:
        return None
    traits = _traits(value)
    for name in traits.secrets:
        _refuse_secret(value, name)
    dumped = _decode(_dump(value, "message", round_trip=traits.has_json))
    if only_set and isinstance(value, BaseModel):
        set_fields = value.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
        dumped = _only(dumped, set_fields)
    if is_object(dumped):
        return dumped
    raise UndumpableError(
        f"a message is a model, a dataclass, a dict or None, not {_type_name(value)}: give the data as "
        "a field of one of these",
        path="message",
        type_name=_type_name(value),
    )


def _only(dumped: Any, wanted: Any) -> Any:
    """Give those entries of a dump that another dump has too, in dicts to any depth."""
    if not is_object(dumped) or not is_object(wanted):
        return dumped
    return {key: _only(value, wanted[key]) for key, value in dumped.items() if key in wanted}


def dump_kwargs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values that are to be bound to a signature as plain JSON, each as a result is dumped.

    Raises:
        UndumpableError: with the path to the value that has no JSON form, such as `kwargs.items[3].conn`.
    """
    dumped: dict[str, Any] = _decode(_dump(dict(values), "kwargs"))
    return dumped


def load_result(data: bytes, annotation: Any) -> Any:
    """Read a dumped result as `annotation` has it; what does not fit is given as plain JSON.

    Args:
        data: what `dump_result` gave.
        annotation: the task's return annotation, or anything that is no type where it has none.
    """
    if annotation is Any or annotation is None:
        return _decode(data)
    try:
        adapter, shape = _result_type(annotation)
    except TypeError:  # an annotation that cannot be hashed, or has no schema
        return _decode(data)
    try:
        return adapter.validate_json(data, by_name=True)
    except ValidationError:
        plain = _decode(data)
    if shape is None:
        return plain
    try:
        return adapter.validate_json(msgspec.json.encode(normalise_value(plain, shape)), by_name=True)
    except ValidationError:
        return plain


@lru_cache(maxsize=512)
def _result_type(annotation: Any) -> tuple[TypeAdapter[Any], Shape | None]:
    try:
        adapter = TypeAdapter[Any](annotation)
        return adapter, read_value_shape(adapter.core_schema)
    except (PydanticUserError, NameError) as error:
        raise TypeError from error


class _Traits(NamedTuple):
    """What matters for the dump of a model's instances."""

    has_json: bool = False
    secrets: tuple[str, ...] = ()


_PLAIN = _Traits()
_known: WeakKeyDictionary[type, _Traits] = WeakKeyDictionary()


def _traits(value: Any) -> _Traits:
    if not isinstance(value, BaseModel):
        return _PLAIN
    kind = type(value)
    traits = _known.get(kind)
    if traits is None:
        schema = kind.__pydantic_core_schema__
        shape = read_value_shape(schema)
        secrets = tuple(shape.names[key] for key in shape.withheld) if shape is not None else ()
        traits = _known[kind] = _Traits(has_json_field(schema), secrets)
    return traits


def _refuse_secret(message: BaseModel, name: str) -> None:
    value = getattr(message, name, None)
    if name in message.model_fields_set and value is not None:
        path = f"message.{name}"
        raise UndumpableError(
            f"{path} cannot be dumped: {_type_name(value)} hides its value, so the task would receive asterisks: send "
            "the name of the secret and read it in the task, or send a dict if the store may hold it",
            path=path,
            type_name=_type_name(value),
        )


def _dump(value: Any, root: str, *, round_trip: bool = False) -> bytes:
    try:
        data = to_json(value, bytes_mode="base64", inf_nan_mode="strings", round_trip=round_trip)
    except Exception as error:  # a serializer of the user's may raise anything
        raise _undumpable(value, root, error) from error
    if b"NaN" not in data and b"Infinity" not in data:
        return data
    try:  # a model configured with `ser_json_inf_nan="constants"` writes what is no JSON
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        raise _undumpable(value, root, error) from error
    return data


def _undumpable(value: Any, root: str, error: Exception) -> UndumpableError:
    path, culprit = _locate(value, root)
    name = _type_name(culprit)
    return UndumpableError(
        f"{path} cannot be dumped: {name} {_problem(culprit, error)}",
        path=path,
        type_name=name,
    )


def _problem(culprit: Any, error: Exception) -> str:
    text = str(error)
    if isinstance(culprit, bytes | bytearray) or "utf-8 sequence" in text:
        return (
            "holds bytes that are no UTF-8 text, which its model dumps as text: set "
            'model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64") on the model'
        )
    if "Circular reference" in text:
        return "refers to itself or is nested too deeply: JSON has neither references nor endless depth"
    if isinstance(error, msgspec.DecodeError):
        return 'is configured with ser_json_inf_nan="constants", which is no JSON: set it to "strings"'
    if "Unable to serialize unknown type" in text:
        return "has no JSON form: give its data instead, or a model that knows how to dump it"
    return f"has no JSON form ({text})"


def _locate(value: Any, path: str) -> tuple[str, Any]:
    """Find the innermost part of a value that cannot be dumped, and the path to it."""
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        seen.add(id(value))
        for step, part, dumps in _parts(value):
            if id(part) in seen or not dumps:
                path, value = path + step, part
                break
        else:
            return path, value
        if id(value) in seen:
            return path, value
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any, bool]]:
    """Give each part of a value with the step that leads to it and whether it can be dumped."""
    if isinstance(value, BaseModel):
        named = {**{name: getattr(value, name, None) for name in type(value).model_fields}, **(value.model_extra or {})}
        for name, part in named.items():
            yield f".{name}", part, _dumps_field(value, name)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            part = getattr(value, field.name, None)
            yield f".{field.name}", part, _dumps(part)
    elif _is_mapping(value):
        for key, part in value.items():
            yield f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]", part, _dumps(part)
    elif _is_collection(value):
        for index, part in enumerate(value):
            yield f"[{index}]", part, _dumps(part)


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_collection(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, list | tuple | set | frozenset)


def _dumps(value: Any) -> bool:
    try:
        to_json(value, bytes_mode="base64", inf_nan_mode="strings")
    except Exception:  # noqa: BLE001 - a serializer of the user's may raise anything
        return False
    return True


def _dumps_field(model: BaseModel, name: str) -> bool:
    try:  # by the model: a value may dump by itself and not by the model's configuration
        model.__pydantic_serializer__.to_json(model, include={name}, warnings=False)
    except Exception:  # noqa: BLE001 - a serializer of the user's may raise anything
        return False
    return True


def _type_name(value: Any) -> str:
    kind = class_of(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
