"""What a text quotes of a message: a failure's own words are needed to find out what is wrong, what was sent is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

__all__ = ["without_quotes"]

_LEFT_OUT = "…"
_SHORTEST = 4
"""Characters; shorter values, as «no» or 1, stand in any sentence by chance and tell nothing."""


def without_quotes(text: str, message: Raw | None) -> str:
    """Leave out of `text` the values of a message that stand in it as a whole, as they are or as `repr` has them.

    What was made of a value otherwise (a part of it, another spelling) is not found.
    """
    if message is None:
        return text
    found = {said for value in _values(msgspec.json.decode(message)) for said in _said(value) if said in text}
    for said in sorted(found, key=len, reverse=True):  # the longest first: it may hold a shorter one
        text = _leave_out(text, said)
    return text


def _values(value: Any) -> Iterator[str]:
    """Give what can be recognised of a JSON value. The names of fields are the code's own, and stay."""
    if isinstance(value, Mapping):
        for each in value.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _values(each)
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _values(each)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) >= _SHORTEST:
        yield str(value)


def _said(value: str) -> tuple[str, str]:
    return value, repr(value)[1:-1]


def _leave_out(text: str, said: str) -> str:
    """Replace `said` where it is no part of a longer word."""
    parts = text.split(said)
    kept = parts[0]
    for part in parts[1:]:
        before, after = kept[-1:], part[:1]
        inside = (_is_word(before) and _is_word(said[0])) or (_is_word(after) and _is_word(said[-1]))
        kept += (said if inside else _LEFT_OUT) + part
    return kept


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"
