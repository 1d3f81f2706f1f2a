"""The types of messages: validate what was assembled, and freeze what the task saw."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType
from typing import Any, get_origin, get_type_hints

import msgspec
import typing_extensions
from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from mageflow.core.binding import OPEN, Shape, fill, is_object
from mageflow.errors import InvalidMessageError, ModelShapeError
from mageflow.runtime.dumping import dump_kwargs, dump_message, dump_result, load_result
from mageflow.runtime.marks import alternatives, is_class, type_name, unwrap_annotation
from mageflow.runtime.schema import has_custom_serializer, read_shape

__all__ = [
    "NOTHING",
    "MessageType",
    "dump_kwargs",
    "dump_message",
    "dump_result",
    "is_message_type",
    "load_result",
    "message_type",
]

_encode = msgspec.json.Encoder().encode


class MessageType:
    """What a task's message is validated by: a model, a dataclass, a TypedDict, a dict, a union of these, or nothing.

    Make one with `message_type`, which builds each once.

    Attributes:
        annotation: the type as it was given.
        name: the type's name: what `model_validators` is stored as.
        shape: what the rules of assembling need to know of it.
    """

    __slots__ = ("_adapter", "_checked", "_keys", "_serialize", "_validate", "annotation", "name", "shape")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.name = "nothing" if annotation is None else type_name(unwrap_annotation(annotation))
        self.shape: Shape = OPEN
        self._adapter: TypeAdapter[Any] | None = None
        self._keys: frozenset[str] = frozenset()
        if annotation is None:
            return
        try:
            _complete(annotation)
            self._adapter = adapter = TypeAdapter[Any](_supported(annotation))
            self.shape = read_shape(annotation, adapter.core_schema)
        except (PydanticUserError, NameError, TypeError) as error:
            if isinstance(error, ModelShapeError):
                raise
            raise _unusable(self.name, error) from error
        self._validate = adapter.validator.validate_json
        self._serialize = adapter.serializer.to_python
        self._keys = frozenset(self.shape.names)
        self._checked = has_custom_serializer(adapter.core_schema)

    def __repr__(self) -> str:
        return f"<MessageType {self.name}>"

    @property
    def takes_nothing(self) -> bool:
        """Whether there is no message parameter to validate for."""
        return self._adapter is None

    def validate(self, message: Mapping[str, Any], task_name: str = "") -> Any:
        """Give the value that the body receives, validated in Pydantic's JSON mode; field names count beside aliases.

        Args:
            message: plain JSON values.
            task_name: for the error.

        Raises:
            InvalidMessageError: naming each wrong field, what is wrong with it, and the type of what came.
        """
        if self._adapter is None:
            return None
        try:
            return self._validate(_encode(message), by_name=True)
        except ValidationError as error:
            raise self._invalid(error, task_name) from error
        except Exception as error:  # from a validator of the user's: what it says of this message will not change
            raise InvalidMessageError(
                f"the message of task {task_name!r} could not be validated by {self.name}: a validator raised "
                f"{type(error).__name__}: {error}",
                task_name=task_name,
            ) from error

    def freeze(self, value: Any, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give the message as the task received it: `message`, with the fields that it left to their defaults.

        So a default factory runs once, and retries and error callbacks see what the first attempt saw. What is in the
        message stands. A default whose dump cannot be read back (a `SecretStr`'s, one with a serializer of its own
        that changes its form) is left out and made anew by each attempt.

        Args:
            value: what `validate` gave for this message; not yet changed by the body.
            message: what `validate` was given.
        """
        if self._adapter is None or not self._keys or (not self.shape.nested and self._keys <= message.keys()):
            return message
        dumped = self._dump(value, message)
        filled = fill(message, dumped, self.shape)
        return filled if not self._checked or self._reads(filled) else self._fill_singly(message, dumped)

    def _dump(self, value: Any, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            dumped = self._serialize(value, mode="json", by_alias=True, round_trip=True, warnings=False)
        except Exception:  # noqa: BLE001 - one default that has no JSON form must not cost the others
            single: dict[str, Any] = {}
            for key in self._keys - message.keys():
                single.update(self._dump_field(value, self.shape.names[key]))
            return single
        return dumped if is_object(dumped) else {}

    def _dump_field(self, value: Any, name: str) -> dict[str, Any]:
        try:
            dumped = self._serialize(value, mode="json", by_alias=True, round_trip=True, warnings=False, include={name})
        except Exception:  # noqa: BLE001 - a serializer of the user's may raise anything
            return {}
        return dumped if is_object(dumped) else {}

    def _fill_singly(self, message: Mapping[str, Any], dumped: Mapping[str, Any]) -> Mapping[str, Any]:
        filled = dict(message)
        for key, value in dumped.items():
            candidate = fill(filled, {key: value}, self.shape)
            if self._reads(candidate):
                filled = candidate
        return filled

    def _reads(self, message: Mapping[str, Any]) -> bool:
        try:
            self._validate(_encode(message), by_name=True)
        except Exception:  # noqa: BLE001 - a validator of the user's may raise anything
            return False
        return True

    def _invalid(self, error: ValidationError, task_name: str) -> InvalidMessageError:
        fields: dict[str, str] = {}
        for each in error.errors(include_url=False, include_context=False):
            path, problem = _path(each["loc"]), _problem(each)
            fields[path] = f"{fields[path]}; {problem}" if path in fields else problem
        listed = "; ".join(f"{path or 'the whole message'}: {problem}" for path, problem in fields.items())
        return InvalidMessageError(
            f"the message of task {task_name!r} does not fit {self.name}: {listed}", task_name=task_name, fields=fields
        )


NOTHING = MessageType(None)
"""The type of a task that takes no message."""


def message_type(annotation: Any) -> MessageType:
    """Give the message type of an annotation; None stands for «takes nothing».

    Raises:
        ModelShapeError: if it is no message type, two of its fields have one mark, or a mark is not mageflow's.
    """
    if annotation is None or annotation is NoneType:
        return NOTHING
    try:
        return _cached(annotation)
    except TypeError as error:
        if isinstance(error, ModelShapeError):
            raise
        return _build(annotation)  # metadata that cannot be hashed


def is_message_type(annotation: Any) -> bool:
    """Tell whether a parameter of this type can receive a message."""
    return all(_is_message(each) for each in alternatives(annotation))


def _build(annotation: Any) -> MessageType:
    if not is_message_type(annotation):
        raise ModelShapeError(
            f"{type_name(annotation)} is no type of a message: a message is a Pydantic model, a dataclass, a TypedDict "
            "or a dict",
            model_name=type_name(annotation),
        )
    return MessageType(annotation)


@lru_cache(maxsize=1024)
def _cached(annotation: Any) -> MessageType:
    return _build(annotation)


def _is_message(kind: Any) -> bool:
    if kind is Any or kind is object:
        return True
    origin = get_origin(kind) or kind
    if not is_class(origin):
        return False
    if issubclass(origin, RootModel):
        return is_message_type(origin.model_fields["root"].annotation)
    return (
        issubclass(origin, BaseModel)
        or origin is Mapping
        or issubclass(origin, dict)
        or dataclasses.is_dataclass(origin)
        or typing_extensions.is_typeddict(origin)
    )


def _complete(annotation: Any) -> None:
    """Complete the models that named a class before it was defined.

    Raises:
        NameError: if it is not defined yet.
    """
    for kind in alternatives(annotation):
        if is_class(kind) and issubclass(kind, BaseModel) and not kind.__pydantic_complete__:
            kind.model_rebuild()


def _supported(annotation: Any) -> Any:
    """Give the type that Pydantic takes: before Python 3.12 it refuses `typing.TypedDict`, though not its twin."""
    kind = unwrap_annotation(annotation)
    if sys.version_info >= (3, 12) or not typing.is_typeddict(kind):
        return annotation
    hints = get_type_hints(kind, include_extras=True)
    qualifiers = (typing_extensions.Required, typing_extensions.NotRequired)
    fields = {
        name: hint
        if get_origin(hint) in qualifiers
        else (typing_extensions.Required if name in kind.__required_keys__ else typing_extensions.NotRequired)[hint]
        for name, hint in hints.items()
    }
    make: Any = typing_extensions.TypedDict
    return make(kind.__name__, fields)


def _unusable(name: str, error: Exception) -> ModelShapeError:
    reason = str(error).split("\n", 1)[0]
    hint = "; define every type that it names before the task" if "defined" in reason else ""
    return ModelShapeError(f"{name} cannot be the model of a message: {reason}{hint}", model_name=name)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _problem(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return error["msg"]
    return f"{error['msg']}, got {_json_type(error['input'])}"


def _json_type(value: Any) -> str:
    return "null" if value is None else type(value).__name__
