"""What travels in place of a message: the run's id, and the validator that tells it from a message of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import msgspec
from pydantic import SerializationInfo, TypeAdapter, ValidationInfo
from pydantic_core import core_schema

__all__ = ["Envelope", "Preview", "as_input", "as_output", "is_envelope", "resolving", "without_nul"]

Mode = Literal["json", "python"]

_KEY = "mageflow"
_NUL = "\x00"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The input of a Hatchet run that executes one of ours."""

    run: str
    message: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What expressions of the task read as `input.…`; the body's message is in the store."""

    def to_json(self) -> str:
        """Give it as Hatchet's input. A message cannot hide the id, and has no NUL, which Hatchet refuses."""
        return msgspec.json.encode({**without_nul(self.message), _KEY: {"run": self.run}}).decode()


def without_nul(value: Any) -> Any:
    """Give plain JSON without the NUL characters that Hatchet's database cannot keep."""
    if isinstance(value, str):
        return value.replace(_NUL, "")
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {name.replace(_NUL, ""): without_nul(each) for name, each in items}
    if isinstance(value, list | tuple):
        return [without_nul(each) for each in cast("Sequence[Any]", value)]
    return value


resolving: ContextVar[tuple[Any] | None] = ContextVar("mageflow_hatchet_message", default=None)
"""The message of one of our runs, while its dependencies are resolved: Hatchet reads the input again for them."""


class Preview(dict[str, Any]):
    """What Hatchet is shown of an outcome, whatever type the task's own result has."""


def is_envelope(given: Any) -> bool:
    """Tell whether the input of a Hatchet run is an envelope."""
    if not isinstance(given, Mapping):
        return False
    marker: Any = cast("Mapping[str, Any]", given).get(_KEY)
    return isinstance(marker, Mapping) and "run" in marker


def as_input(model: Any) -> type[Any]:
    """Give the type to register as a task's input validator: it reads an envelope, or else `model`.

    Hatchet shows the JSON schema of an input only where the core schema has a `cls`, as those of models do; with it,
    the user's own schema is shown.
    """
    inner = TypeAdapter[Any](model)

    def validate(given: Any, info: ValidationInfo) -> Any:
        if is_envelope(given):
            assembled = resolving.get()
            if assembled is not None:
                return assembled[0]
            rest = {name: value for name, value in given.items() if name != _KEY}
            return Envelope(str(given[_KEY]["run"]), rest)
        return inner.validate_python(given, context=info.context)

    def serialize(value: Any, _: Any, info: SerializationInfo) -> Any:
        if isinstance(value, Envelope):
            return {**value.message, _KEY: {"run": value.run}}
        return inner.dump_python(value, mode=cast("Mode", info.mode), context=info.context)

    return _carrier(inner, validate, serialize, model)


def as_output(kind: Any) -> type[Any]:
    """Give the type to dump a task's outcome by: a preview as it is, anything else as `kind`."""
    inner = TypeAdapter[Any](kind)

    def validate(given: Any, info: ValidationInfo) -> Any:
        return inner.validate_python(given, context=info.context)

    def serialize(value: Any, _: Any, info: SerializationInfo) -> Any:
        if isinstance(value, Preview):
            return dict(value)
        return inner.dump_python(value, mode=cast("Mode", info.mode), context=info.context)

    return _carrier(inner, validate, serialize, kind)


def _carrier(inner: TypeAdapter[Any], validate: Any, serialize: Any, kind: Any) -> type[Any]:
    class Carrier:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
            schema: Any = core_schema.with_info_plain_validator_function(
                validate,
                serialization=core_schema.wrap_serializer_function_ser_schema(
                    serialize, info_arg=True, schema=core_schema.any_schema()
                ),
            )
            # Hatchet shows a schema only where there is a class, and none for its EmptyModel, which it tells by it.
            schema["cls"] = inner.core_schema.get("cls") or cls
            return cast("core_schema.CoreSchema", schema)

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
            return inner.json_schema()

    Carrier.__name__ = Carrier.__qualname__ = getattr(kind, "__name__", "Carrier")
    return Carrier
