"""Find the marks of a message type's fields, and the types inside an annotation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NotRequired,
    Required,
    TypeGuard,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel
from typing_extensions import ReadOnly, is_typeddict

from mageflow.errors import ModelShapeError
from mageflow.models.message import ErrorValue, Outcome, ReturnValue, TaskFailure

__all__ = ["Marks", "alternatives", "class_of", "find_marks", "is_class", "type_name", "unwrap_annotation"]

_FORMER_PACKAGE = "thirdmagic"


class Marks(NamedTuple):
    """The names of the marked fields; None where no field has the mark."""

    return_field: str | None
    error_field: str | None
    takes_outcomes: bool = False
    """Whether the return field is a list of `Outcome`."""
    takes_failures: bool = False
    """Whether the error field is a list, or may be one."""


def class_of(value: Any) -> type[Any]:
    """Give the class of a value of any type."""
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    return kind


def is_class(value: Any) -> TypeGuard[type[Any]]:
    """Tell whether a value is a class."""
    return isinstance(value, type)


def type_name(annotation: Any) -> str:
    """Give the name by which people know a type."""
    return getattr(annotation, "__name__", None) or str(annotation)


def unwrap_annotation(annotation: Any) -> Any:
    """Give the type inside `Annotated`, a type alias, `Optional` and the qualifiers of TypedDict keys."""
    while True:
        origin = get_origin(annotation)
        if hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif origin in (Annotated, Required, NotRequired, ReadOnly):
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            members = [each for each in get_args(annotation) if each is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def alternatives(annotation: Any) -> list[Any]:
    """Give the types that a message type stands for: itself, or the members of a union."""
    annotation = unwrap_annotation(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return [type_ for each in get_args(annotation) if each is not type(None) for type_ in alternatives(each)]
    return [annotation]


def find_marks(annotation: Any) -> Marks:
    """Find the fields of a message type that are marked `ReturnValue` and `ErrorValue`.

    Raises:
        ModelShapeError: if two fields have one mark, or one is marked with a mark that mageflow does not read.
    """
    found: dict[type, dict[str, Any]] = {ReturnValue: {}, ErrorValue: {}}
    for model in alternatives(annotation):
        for name, hint, metadata in _annotations(model):
            for each in (*metadata, *_metadata(hint)):
                kind = each if isinstance(each, type) else type(each)
                _refuse_former(kind, name, model)
                if kind in found:
                    found[kind][name] = hint
    for kind, names in found.items():
        if len(names) > 1:
            raise _two_marks(type_name(annotation), list(names), kind.__name__)
    return Marks(
        next(iter(found[ReturnValue]), None),
        next(iter(found[ErrorValue]), None),
        any(_is_outcome(_item(hint)) for hint in found[ReturnValue].values()),
        any(not _is_failure(hint) for hint in found[ErrorValue].values()),
    )


def _item(annotation: Any) -> Any:
    """Give the type of the items of a list, sequence or tuple; None for anything else."""
    annotation = unwrap_annotation(annotation)
    origin = get_origin(annotation)
    if not isinstance(origin, type) or not issubclass(origin, Sequence):
        return None
    return next(iter(get_args(annotation)), None)


def _is_outcome(annotation: Any) -> bool:
    annotation = unwrap_annotation(annotation)
    return isinstance(annotation, type) and issubclass(annotation, Outcome)


def _is_failure(annotation: Any) -> bool:
    annotation = unwrap_annotation(annotation)
    return isinstance(annotation, type) and issubclass(annotation, TaskFailure)


def _refuse_former(kind: type, field: str, model: Any) -> None:
    if kind.__module__.partition(".")[0] == _FORMER_PACKAGE:
        raise ModelShapeError(
            f"the field {field!r} of {type_name(model)} uses {kind.__name__} of {kind.__module__}, which mageflow does "
            "not read: import it from mageflow.models.message",
            model_name=type_name(model),
            fields=(field,),
        )


def _two_marks(model: str, names: list[str], mark: str) -> ModelShapeError:
    listed = " and ".join(repr(name) for name in names)
    return ModelShapeError(
        f"{model} marks {len(names)} fields with {mark}: {listed}. One value comes, so mark one field",
        model_name=model,
        fields=tuple(names),
    )


def _annotations(model: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    model = get_origin(model) or model
    fields: Any = model.model_fields if _is_model(model) else getattr(model, "__pydantic_fields__", None)
    if fields is not None:
        for name, field in fields.items():
            yield name, field.annotation, field.metadata
    elif dataclasses.is_dataclass(model) or is_typeddict(model):
        for name, annotation in get_type_hints(model, include_extras=True).items():
            yield name, annotation, []


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _metadata(annotation: Any) -> Iterator[Any]:
    """Give the metadata of an annotation, through `Optional`, unions, aliases and qualifiers."""
    origin = get_origin(annotation)
    if hasattr(annotation, "__value__"):
        yield from _metadata(annotation.__value__)
    elif origin is Annotated:
        inner, *metadata = get_args(annotation)
        yield from metadata
        yield from _metadata(inner)
    elif origin in (Union, UnionType, Required, NotRequired, ReadOnly):
        for each in get_args(annotation):
            yield from _metadata(each)
    elif isinstance(annotation, type):
        yield annotation
