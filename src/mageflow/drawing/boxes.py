"""What a picture is made of, before anybody says how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from pydantic import BaseModel

from mageflow.wording import printable

__all__ = ["Arrow", "Box", "BoxKind", "Picture", "headline", "shortened"]

_TITLE = 60


class BoxKind(StrEnum):
    """What a box stands for."""

    TASK = "task"
    CHAIN = "chain"
    SWARM = "swarm"
    REMOVED = "removed"
    """A signature that is gone."""
    AGAIN = "again"
    """A box that is drawn elsewhere, around the one from which an arrow leads here."""
    MORE = "more"
    """What was left out."""


class Box(BaseModel):
    """A signature or a run; or several alike; or a word about those that are not drawn."""

    id: str
    """By which arrows name it, within one picture."""
    kind: BoxKind
    title: str
    times: int = 1
    """How many members of a swarm it stands for."""
    key: str | None = None
    """The id of the run, or the key of the signature."""
    status: str | None = None
    """A run's status, `not begun` or `not called`; a signature's where it is held; else None."""
    notes: list[str] = []
    """What else is to be said, a line each."""
    inside: list[Box] = []
    """Its members: a chain's in their order, a swarm's by their kinds."""

    def walk(self) -> Iterator[Box]:
        """Give it and all that is inside."""
        yield self
        for box in self.inside:
            yield from box.walk()


class Arrow(BaseModel):
    """What one calls when it ends so."""

    source: str
    target: str
    on: list[str]
    """`success`, `error` and `done`; empty: what a word about left out callbacks hangs on."""

    @property
    def label(self) -> str:
        """The words on it."""
        return ", ".join(self.on)


class Picture(BaseModel):
    """Boxes beside each other, some with boxes inside, and arrows between any of them."""

    boxes: list[Box] = []
    """The first is what was drawn, the others are what it calls, the nearest first."""
    arrows: list[Arrow] = []

    def all_boxes(self) -> Iterator[Box]:
        """Give every box, those inside others too."""
        for box in self.boxes:
            yield from box.walk()


def headline(box: Box) -> str:
    """Give the first line of a box: its name, what it is, and how many it stands for."""
    kind = f"{box.kind.value} " if box.kind in (BoxKind.CHAIN, BoxKind.SWARM) and box.title != box.kind else ""
    times = f" × {box.times:,}" if box.times > 1 else ""
    return f"{kind}{shortened([box.title], _TITLE)}{times}"


def shortened(words: Iterable[str], most: int) -> str:
    """Give words in one line of at most so many characters, none of which can move a cursor."""
    line = printable(" ".join(words))
    return line if len(line) <= most else line[: most - 1] + "…"
