"""How the message of a run comes about: a base, with the bound values merged in.

Values are plain JSON: dict, list, str, int, float, bool, None. Nothing given is changed; a result may share nested
values with what it was made from, so treat both as read-only.

A field has several spellings: its name, its alias, each validation alias, its serialization alias. A `Shape` maps all
of them to one, the canonical key, which is what validation reads and what is kept. Within one dict the later spelling
of a field stands, as for any key that is set twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeGuard

from msgspec import Struct

__all__ = [
    "OPEN",
    "Base",
    "Ended",
    "Failed",
    "Result",
    "Sent",
    "Shape",
    "assemble",
    "base_for_error",
    "base_for_result",
    "fill",
    "fills_on_error",
    "fills_on_success",
    "is_array",
    "is_object",
    "normalise",
    "normalise_value",
    "rebind",
    "return_key",
    "unfilled",
]

RESULT_FIELDS = ("results", "mageflow_results")
"""Where a result goes in a model that marks no field: the first of them that it has, else, if it may, the first."""


class Shape(Struct, frozen=True, kw_only=True, eq=False):
    """What the rules of a message need to know of the model that receives it.

    It is also the shape of a value inside a message: then `items` or `values` may describe a list's or a dict's
    elements. Shapes of models that contain themselves are cyclic.
    """

    keys: Mapping[str, str] = {}
    """Every accepted spelling of a field, and its canonical key."""
    names: Mapping[str, str] = {}
    """The canonical key of each field, and the field's name in the model: what people are told."""
    required: Collection[str] = ()
    """The canonical keys of the fields without a default."""
    nested: Mapping[str, Shape] = {}
    """The shapes of fields, by canonical key; a field without one has only values that need no rule."""
    items: Shape | None = None
    values: Shape | None = None
    return_key: str | None = None
    """Where a result goes; None: nowhere."""
    error_key: str | None = None
    """Where a failure goes; None: nowhere."""
    takes_outcomes: bool = False
    """Whether the return field is a list of `Outcome`: a swarm then gives every member's, not the results alone."""
    takes_failures: bool = False
    """Whether the error field is a list: a swarm then gives every failure, else its own."""
    forbids_extra: bool = False
    computed: Collection[str] = ()
    """Keys that the model's own full dump has beside its fields, and that it would refuse or take for extras."""
    withheld: Collection[str] = ()
    """The canonical keys of fields whose dump hides their value, such as a `SecretStr`'s."""
    open: bool = False
    """Any key is accepted and kept."""


OPEN = Shape(open=True, return_key=RESULT_FIELDS[0])
"""The shape of a message that may be any dict."""


class Sent(Struct, frozen=True, tag="sent"):
    """What a caller sent: a message, or nothing."""

    value: Mapping[str, Any] | None = None


class Result(Struct, frozen=True, tag="result"):
    """The result of the run that is answered, for the return field."""

    value: Any


class Failed(Struct, frozen=True, tag="failed"):
    """The message of a failed run as its task received it, and its failure for the field that asks for it."""

    message: Mapping[str, Any]
    failure: Any


class Ended(Struct, frozen=True, tag="ended"):
    """The outcome of the run that is answered, for the return field."""

    outcome: Any


Base = Sent | Result | Failed | Ended
"""What a message begins with, before the bound values."""


def assemble(base: Base, layers: Iterable[Mapping[str, Any]], shape: Shape) -> dict[str, Any]:
    """Give the message that a receiver of `shape` gets: the base, with the bound values merged in, layer by layer.

    Where both set a key the later value stands, and dicts are merged to any depth: API.md A, «the message a task
    receives», rules 1 and 2; API.md B, «binding, later wins».
    """
    begun: Mapping[str, Any]
    match base:
        case Sent(value):
            begun = value or {}
        case Result(value):
            begun = base_for_result(value, shape)
        case Failed(message, failure):
            begun = base_for_error(message, failure, shape)
        case Ended(outcome):
            begun = base_for_result(outcome, shape)
    merged = normalise(begun, shape)
    for layer in layers:
        merged = _merge(merged, normalise(layer, shape))
    return merged


def base_for_result(result: Any, shape: Shape) -> dict[str, Any]:
    """Give `{return field: result}`, or nothing for a receiver that has no place for it."""
    return {} if shape.return_key is None else {shape.return_key: result}


def base_for_error(message: Mapping[str, Any], failure: Any, shape: Shape) -> dict[str, Any]:
    """Give the failed run's message, with the failure in the receiver's error field if it marks one."""
    begun = normalise(message, shape)
    if shape.error_key is not None:
        begun[shape.error_key] = failure  # also where the failed task was an error callback of the same model
    return begun


def rebind(bound: Mapping[str, Any], changes: Mapping[str, Any], shape: Shape | None = None) -> dict[str, Any]:
    """Give the bound values after `changes`, which replace per key, whichever spelling a field was bound by.

    Without a shape (the task is not known here) spellings cannot be told; a changed key then moves to the end, where
    `normalise` lets it stand.
    """
    keys: Mapping[str, str] = shape.keys if shape is not None else {}
    changed = {keys.get(key, key) for key in changes}
    kept = {key: value for key, value in bound.items() if keys.get(key, key) not in changed}
    return {**kept, **changes}


def normalise(message: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Give `message` with every field under its canonical key, at every depth that `shape` describes.

    Computed fields of a model that refuses or keeps extras are left out: its own dump has them, and cannot set them.
    """
    keys, nested, values, computed = shape.keys, shape.nested, shape.values, shape.computed
    normal: dict[str, Any] = {}
    for key, value in message.items():
        if key in computed:
            continue
        canonical = keys.get(key, key)
        inner = nested.get(canonical, values)
        normal[canonical] = value if inner is None else normalise_value(value, inner)
    return normal


def fill(message: Mapping[str, Any], dumped: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Give `message` with the fields it leaves out taken from `dumped`, the dump of the value it was validated to.

    What is in the message stands. Only fields are taken (a dump may have computed ones); dicts and lists of equal
    length are filled as deep as `shape` describes them.
    """
    filled = dict(message)
    for key, value in normalise(dumped, shape).items():
        if key not in filled:
            if key in shape.names and key not in shape.withheld:
                filled[key] = value
            continue
        inner = shape.nested.get(key, shape.values)
        if inner is not None:
            filled[key] = _fill_value(filled[key], value, inner)
    return filled


def return_key(keys: Mapping[str, str], marked: str | None, *, forbids_extra: bool) -> str | None:
    """Choose the return field of a model, as a canonical key, or None where a result has no place.

    The marked field; else the field `results`, or `mageflow_results`; else `results` as an extra, unless the model
    forbids extras.
    """
    if marked is not None:
        return marked
    for name in RESULT_FIELDS:
        if name in keys:
            return keys[name]
    return None if forbids_extra else RESULT_FIELDS[0]


def fills_on_success(shape: Shape) -> frozenset[str]:
    """Give the canonical keys that the result, or the outcome, of another run fills in a callback of `shape`."""
    return frozenset() if shape.return_key is None else frozenset({shape.return_key})


def fills_on_error(shape: Shape, sender: Shape | None, sender_bound: Iterable[str] = ()) -> frozenset[str] | None:
    """Give the canonical keys that the message of a failed run fills in an error callback of `shape`.

    Args:
        shape: the callback's.
        sender: the failed task's; None where it is not known here.
        sender_bound: the keys bound to the failed task's signature.

    Returns:
        The keys, or None where any key may come: the sender is not known, or keeps whatever it is sent.
    """
    if sender is None or sender.open:
        return None
    carried = {*sender.names, *sender_bound, *fills_on_success(sender)}
    keys = {shape.keys.get(key, key) for key in carried}
    if shape.error_key is not None:
        keys.add(shape.error_key)
    return frozenset(keys)


def unfilled(shape: Shape, bound: Iterable[str], filled_by: Collection[str] | None) -> list[str]:
    """Give the names of the required fields that neither the bound keys nor `filled_by` fill.

    Args:
        shape: the receiver's.
        bound: the keys bound to its signature, in any spelling.
        filled_by: the canonical keys that its base fills; None where any may come.
    """
    if filled_by is None:
        return []
    filled = {shape.keys.get(key, key) for key in bound} | set(filled_by)
    return [shape.names.get(key, key) for key in shape.required if key not in filled]


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Tell whether a JSON value is an array."""
    return isinstance(value, list)


def _merge(base: dict[str, Any], bound: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in bound.items():
        present = base.get(key)
        base[key] = _merge(dict(present), value) if is_object(present) and is_object(value) else value
    return base


def normalise_value(value: Any, shape: Shape) -> Any:
    """Give a value of any kind with the fields inside it under their canonical keys."""
    if is_object(value):
        return normalise(value, shape)
    if is_array(value) and shape.items is not None:
        return [normalise_value(item, shape.items) for item in value]
    return value


def _fill_value(value: Any, dumped: Any, shape: Shape) -> Any:
    if is_object(value) and is_object(dumped):
        return fill(value, dumped, shape)
    if is_array(value) and is_array(dumped) and shape.items is not None and len(value) == len(dumped):
        inner = shape.items
        return [_fill_value(item, other, inner) for item, other in zip(value, dumped, strict=True)]
    return value
