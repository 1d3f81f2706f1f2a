"""Read a model's Pydantic schema into the `Shape` that the message rules work on.

Aliases, required fields, nested models and computed fields are read from the core schema, where Pydantic has already
resolved aliases, generators, inheritance and postponed annotations alike for models, dataclasses and TypedDicts
(https://docs.pydantic.dev/latest/api/pydantic_core_schema/). Marks are not in it: see `marks`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from mageflow.core.binding import Shape, is_array, is_object, return_key
from mageflow.runtime.marks import find_marks

__all__ = ["has_custom_serializer", "has_json_field", "read_shape", "read_value_shape"]

Schema = Mapping[str, Any]

_WRAPPERS = {
    "default": "schema",
    "nullable": "schema",
    "function-before": "schema",
    "function-after": "schema",
    "function-wrap": "schema",
    "definitions": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "lax_schema",
}


def read_shape(annotation: Any, schema: Schema) -> Shape:
    """Give the shape of a message type.

    Args:
        annotation: the type, or a union of message types.
        schema: its core schema.

    Raises:
        ModelShapeError: as `find_marks` does.
    """
    reader = _Reader()
    shape = reader.value(schema)
    reader.prune()
    marks = find_marks(annotation)
    if shape is None:
        return Shape(open=True, return_key=return_key({}, None, forbids_extra=False))
    by_name = {name: key for key, name in shape.names.items()}
    marked = by_name.get(marks.return_field or "")
    return _with(
        shape,
        return_key=return_key(shape.keys, marked, forbids_extra=shape.forbids_extra),
        error_key=by_name.get(marks.error_field or ""),
        takes_outcomes=marks.takes_outcomes,
        takes_failures=marks.takes_failures,
    )


def read_value_shape(schema: Schema) -> Shape | None:
    """Give the shape of a value that is no message, such as a result; None where no rule applies inside it."""
    reader = _Reader()
    shape = reader.value(schema)
    reader.prune()
    return shape


def _with(shape: Shape, **changes: Any) -> Shape:
    return Shape(**{name: changes.get(name, getattr(shape, name)) for name in Shape.__struct_fields__})


class _Reader:
    """One walk over one core schema; models that contain themselves give cyclic shapes."""

    def __init__(self) -> None:
        self._definitions: dict[str, Schema] = {}
        self._objects: dict[int, Shape] = {}
        self._all: list[tuple[Shape, dict[str, Shape]]] = []

    def value(self, schema: Schema) -> Shape | None:
        """Give the shape of a value, or None where no rule applies inside it."""
        schema = self._unwrap(schema)
        match schema["type"]:
            case "model" | "dataclass" | "typed-dict":
                return self._object(schema)
            case "list" | "tuple" | "generator":
                return self._list(schema)
            case "dict":
                inner = self.value(schema["values_schema"]) if "values_schema" in schema else None
                return None if inner is None else self._made(Shape(values=inner, open=True), {})
            case "union" | "tagged-union":
                return self._union(schema)
            case _:
                return None

    def prune(self) -> None:
        """Forget the shapes inside which no rule can apply, so that messages are not walked for nothing."""
        matters = {id(shape) for shape, _ in self._all if _matters(shape)}
        grew = True
        while grew:
            grew = False
            for shape, nested in self._all:
                inner = [*nested.values(), *(part for part in (shape.items, shape.values) if part is not None)]
                if id(shape) not in matters and any(id(part) in matters for part in inner):
                    matters.add(id(shape))
                    grew = True
        for _, nested in self._all:
            for key in [key for key, inner in nested.items() if id(inner) not in matters]:
                del nested[key]

    def _unwrap(self, schema: Schema) -> Schema:
        while True:
            kind = schema["type"]
            if kind == "definitions":
                self._definitions.update({each["ref"]: each for each in schema["definitions"]})
            if kind == "definition-ref":
                schema = self._definitions[schema["schema_ref"]]
            elif kind in _WRAPPERS:
                schema = schema[_WRAPPERS[kind]]
            elif kind == "chain":
                schema = schema["steps"][0]
            elif kind == "model" and schema.get("root_model"):
                schema = schema["schema"]
            else:
                return schema

    def _made(self, shape: Shape, nested: dict[str, Shape]) -> Shape:
        self._all.append((shape, nested))
        return shape

    def _object(self, schema: Schema) -> Shape:
        known = self._objects.get(id(schema))
        if known is not None:
            return known
        inner = schema if schema["type"] == "typed-dict" else self._unwrap(schema["schema"])
        config: Mapping[str, Any] = schema.get("config") or {}
        extra = inner.get("extra_behavior") or config.get("extra_fields_behavior") or "ignore"
        fields = list(_fields(inner, by_alias=config.get("validate_by_alias", True)))
        nested: dict[str, Shape] = {}
        shape = Shape(
            keys=_spellings(fields),
            names={field.key: field.name for field in fields},
            required=tuple(field.key for field in fields if field.required),
            nested=nested,
            forbids_extra=extra == "forbid",
            computed=_computed(inner) if extra != "ignore" else (),
            withheld=tuple(field.key for field in fields if _is_secret(field.schema)),
            open=extra == "allow",
        )
        self._objects[id(schema)] = self._made(shape, nested)
        for field in fields:
            value = self.value(field.schema)
            if value is not None:
                nested[field.key] = value
        return shape

    def _list(self, schema: Schema) -> Shape | None:
        items: Any = schema.get("items_schema")
        if is_array(items):  # a tuple: its elements share one shape only where it has one kind of element
            if len(items) != 1:
                return None
            items = items[0]
        inner = self.value(items) if items is not None else None
        return None if inner is None else self._made(Shape(items=inner), {})

    def _union(self, schema: Schema) -> Shape | None:
        choices: Any = schema["choices"]
        members: list[Any] = list(choices.values()) if is_object(choices) else choices
        # A choice is a schema, a pair of a schema and its label, or, in a tagged union, another tag.
        schemas: list[Any] = [each[0] if isinstance(each, tuple) else each for each in members]
        shapes = [self.value(each) for each in schemas if is_object(each)]
        known = [shape for shape in shapes if shape is not None]
        if len(known) <= 1:
            return known[0] if known else None
        nested = _agreed([shape.nested for shape in known])
        return self._made(_joined(known, nested), nested)


def _matters(shape: Shape) -> bool:
    return (
        len(shape.required) < len(shape.names)
        or shape.forbids_extra
        or bool(shape.computed)
        or any(spelling != key for spelling, key in shape.keys.items() if spelling not in shape.names)
    )


def _joined(shapes: list[Shape], nested: dict[str, Shape]) -> Shape:
    """Give one shape for the members of a union: a spelling on which they disagree is left as it is."""
    names = {key: name for shape in shapes for key, name in shape.names.items()}
    keys = _agreed([shape.keys for shape in shapes])
    required = set(shapes[0].required).intersection(*(shape.required for shape in shapes[1:]))
    return Shape(
        keys={spelling: spelling if spelling in names else key for spelling, key in keys.items()},
        names=names,
        required=tuple(key for key in shapes[0].required if key in required),
        nested=nested,
        items=next((shape.items for shape in shapes if shape.items is not None), None),
        values=next((shape.values for shape in shapes if shape.values is not None), None),
        forbids_extra=all(shape.forbids_extra for shape in shapes),
        withheld=tuple({key for shape in shapes for key in shape.withheld}),
        open=any(shape.open for shape in shapes),
    )


def _agreed(mappings: list[Mapping[str, Any]]) -> dict[str, Any]:
    agreed: dict[str, Any] = {}
    refused: set[str] = set()
    for mapping in mappings:
        for key, value in mapping.items():
            if agreed.setdefault(key, value) != value:
                refused.add(key)
    return {key: value for key, value in agreed.items() if key not in refused}


@dataclasses.dataclass(frozen=True)
class _Field:
    name: str
    key: str
    spellings: tuple[str, ...]
    dumped_as: str | None
    required: bool
    schema: Schema


def _fields(schema: Schema, *, by_alias: bool) -> Iterator[_Field]:
    declared: Any = schema.get("fields", {})
    pairs = declared.items() if is_object(declared) else [(each["name"], each) for each in declared]
    for name, each in pairs:
        if each.get("init") is False:  # a dataclass's field that no message can set
            continue
        spellings = _plain_aliases(each.get("validation_alias"))
        required = not _has_default(each["schema"])
        if each["type"] == "typed-dict-field":
            required = each.get("required", schema.get("total", True))
        yield _Field(
            name=name,
            key=spellings[0] if spellings and by_alias else name,
            spellings=spellings,
            dumped_as=each.get("serialization_alias"),
            required=required,
            schema=each["schema"],
        )


def _plain_aliases(alias: Any) -> tuple[str, ...]:
    """Give the aliases that are a key of the message; a path into nested values is none."""
    if alias is None:
        return ()
    if isinstance(alias, str):
        return (alias,)
    paths = alias if isinstance(alias[0], list) else [alias]
    return tuple(path[0] for path in paths if len(path) == 1 and isinstance(path[0], str))


def _spellings(fields: list[_Field]) -> dict[str, str]:
    # Messages are dumped by alias, so a word that is one field's alias and another's name means the first.
    keys = {spelling: field.key for field in reversed(fields) for spelling in field.spellings}
    for field in fields:
        keys[field.key] = field.key
    for field in fields:
        if field.dumped_as is not None:
            keys.setdefault(field.dumped_as, field.key)
    for field in fields:
        keys.setdefault(field.name, field.key)
    return keys


def _computed(schema: Schema) -> tuple[str, ...]:
    return tuple(each.get("alias") or each["property_name"] for each in schema.get("computed_fields", ()))


def _has_default(schema: Schema) -> bool:
    while schema["type"].startswith("function-") and "schema" in schema:
        schema = schema["schema"]
    kind: str = schema["type"]
    return kind == "default"


def _is_secret(schema: Schema) -> bool:
    """Tell whether a field is a SecretStr, SecretBytes or Secret: their dump is a row of asterisks."""
    serialization: Mapping[str, Any] = schema.get("serialization") or {}
    function: Any = serialization.get("function")
    name = getattr(function, "__name__", "")
    if getattr(function, "__module__", "") == "pydantic.types" and "secret" in name:
        return True
    inner = next((schema[key] for key in ("schema", "json_schema", "lax_schema") if key in schema), None)
    return is_object(inner) and _is_secret(inner)


def has_json_field(schema: Any) -> bool:
    """Tell whether a core schema has a `Json[...]` in it, whose value validates only from its JSON text."""
    return any(part.get("type") == "json" for part in _schemas(schema))


def has_custom_serializer(schema: Any) -> bool:
    """Tell whether a core schema has a serializer of the user's, whose output may not be valid input."""
    return any(_is_custom(part.get("serialization")) for part in _schemas(schema))


def _is_custom(serialization: Any) -> bool:
    function: Any = serialization.get("function") if is_object(serialization) else None
    return function is not None and not getattr(function, "__module__", "").startswith("pydantic")


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Give every dict in a core schema, which may be cyclic."""
    seen: set[int] = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if is_object(part):
            yield part
            waiting.extend(part.values())
        elif _is_sequence(part):
            waiting.extend(part)


def _is_sequence(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, list | tuple)
