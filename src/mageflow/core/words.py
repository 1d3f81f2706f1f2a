"""Fixed vocabularies, whose members are looked up in sets and tables at every step of a run."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Word"]


class Word(StrEnum):
    """A member of a fixed vocabulary: a string that equals and hashes like its value.

    `Enum` hashes the name, by a method in Python; a member equals its value, so it should hash like it too.
    """

    __hash__ = str.__hash__
