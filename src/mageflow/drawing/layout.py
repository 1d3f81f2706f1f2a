"""Where the boxes of a picture stand, and which way its arrows go.

Boxes stand in columns: what calls is left of what it calls, at the shortest distance from the first. Members stand
below each other inside their chain or swarm, so that from each of them the way to the right is free. An arrow leads
from one column into the next through the gap between them; one that leads back goes below all boxes. Libraries that
lay out graphs know no boxes inside boxes, or need a program or a browser beside Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap
from unicodedata import east_asian_width

from mageflow.drawing.boxes import Arrow, Box, BoxKind, Picture, headline

__all__ = ["LINE", "Layout", "Placed", "Route", "lay_out"]

LINE = 17.0
"""From one line of text to the next."""
_CHARACTER = 7.3
"""The width of one, in the font that is asked for."""
_PAD = 10.0
_MARGIN = 20.0
_AROUND = 16.0
"""Between the edge of a chain or swarm and its members."""
_STEP = 26.0
_BETWEEN = 12.0
_APART = 26.0
_PORT = 18.0
"""Between two arrows that leave one box: each has its word above it."""
_CURVE = 70.0
_LANE = 9.0
_WRAP = 46


@dataclass(slots=True)
class Placed:
    """A box with its place."""

    box: Box
    lines: list[str]
    status: int | None
    """Which of the lines says its status."""
    ports: int
    """How many arrows leave it."""
    head: float
    """The height of what is above its members."""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    inside: list[Placed] = field(default_factory=list["Placed"])

    def walk(self) -> Iterator[Placed]:
        """Give it and all that is inside, from the outside in."""
        yield self
        for each in self.inside:
            yield from each.walk()


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an arrow."""

    arrow: Arrow
    path: str
    """In SVG's words."""
    x: float
    y: float
    """Where its word begins."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture with all places."""

    tops: list[Placed]
    routes: list[Route]
    width: float
    height: float


def lay_out(picture: Picture) -> Layout:
    """Place all boxes and arrows."""
    return _Layout(picture).done()


def _width(text: str) -> float:
    return _CHARACTER * sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


class _Layout:
    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._leaving: dict[str, list[Arrow]] = {}
        for arrow in picture.arrows:
            self._leaving.setdefault(arrow.source, []).append(arrow)
        self._tops = [self._measured(box) for box in picture.boxes]
        self._placed = {each.box.id: each for top in self._tops for each in top.walk()}
        self._top_of = {each.box.id: top.box.id for top in self._tops for each in top.walk()}
        self._column_of = self._columns()
        self._back = [each for each in picture.arrows if self._leads_back(each)]
        self._right: dict[int, float] = {}
        self._left: dict[int, float] = {}

    def done(self) -> Layout:
        width, bottom = self._place()
        routes = [self._route(arrow, bottom) for arrow in self._picture.arrows]
        below = _LANE * (len(self._back) + 1) if self._back else 0.0
        return Layout(self._tops, routes, width, bottom + below + _MARGIN)

    def _measured(self, box: Box) -> Placed:
        texts = [headline(box), *([box.status] if box.status else []), *box.notes]
        wrapped = [wrap(text, _WRAP) or [""] for text in texts]
        lines = [line for each in wrapped for line in each]
        ports = len(self._leaving.get(box.id, ()))
        head = max(LINE * len(lines) + _PAD, _PORT * ports + _PAD)
        placed = Placed(box, lines, len(wrapped[0]) if box.status else None, ports, head)
        placed.width = max(80.0, *(_width(line) + 2 * _PAD for line in lines))
        placed.height = head
        if box.inside:
            placed.inside = [self._measured(inner) for inner in box.inside]
            gap = self._gap(box)
            placed.width = max(placed.width, *(inner.width + 2 * _AROUND for inner in placed.inside))
            placed.height += sum(inner.height + gap for inner in placed.inside) - gap + _AROUND
        return placed

    @staticmethod
    def _gap(box: Box) -> float:
        return _STEP if box.kind is BoxKind.CHAIN else _BETWEEN

    def _columns(self) -> dict[str, int]:
        """Give the column of each outermost box: how many arrows lead to it from the first, at least."""
        columns: dict[str, int] = {}
        reached = [top.box.id for top in self._tops[:1]]
        column = 0
        while reached:
            columns.update(dict.fromkeys(reached, column))
            column += 1
            follow = (arrow.target for arrow in self._picture.arrows if self._top_of[arrow.source] in reached)
            reached = [key for key in dict.fromkeys(map(self._top_of.__getitem__, follow)) if key not in columns]
        return {top.box.id: columns.get(top.box.id, column) for top in self._tops}

    def _column(self, box: str) -> int:
        return self._column_of[self._top_of[box]]

    def _leads_back(self, arrow: Arrow) -> bool:
        return arrow.source != arrow.target and self._column(arrow.target) <= self._column(arrow.source)

    def _place(self) -> tuple[float, float]:
        """Place the columns, and give the width of all and where the lowest box ends."""
        x, bottom = _MARGIN + _LANE * (len(self._back) + 1), 0.0
        for column in sorted(set(self._column_of.values())):
            tops = [top for top in self._tops if self._column_of[top.box.id] == column]
            y = _MARGIN
            for top in tops:
                self._put(top, x, y)
                y += top.height + _APART
            bottom = max(bottom, y - _APART)
            self._left[column] = x
            self._right[column] = x + max(top.width for top in tops)
            leaving = [arrow for arrow in self._picture.arrows if self._column(arrow.source) == column]
            x = self._right[column]
            if leaving:
                x = self._lane(column, len(self._back)) + _CURVE
        return x + _MARGIN, bottom

    def _put(self, placed: Placed, x: float, y: float) -> None:
        placed.x, placed.y = x, y
        y += placed.head
        for inner in placed.inside:
            inner.width = placed.width - 2 * _AROUND  # members are of one width: it is easier on the eye
            self._put(inner, x + _AROUND, y)
            y += inner.height + self._gap(placed.box)

    def _words_end(self, column: int) -> float:
        """Where the words on the arrows that leave a column end."""
        labels = [arrow.label for arrow in self._picture.arrows if self._column(arrow.source) == column]
        return self._right[column] + max(map(_width, labels), default=0.0) + 14.0

    def _lane(self, column: int, lane: int) -> float:
        return self._words_end(column) + _LANE * lane

    def _route(self, arrow: Arrow, bottom: float) -> Route:
        source, target = self._placed[arrow.source], self._placed[arrow.target]
        leaving = self._leaving[arrow.source]
        place = next(index for index, each in enumerate(leaving) if each is arrow)
        y = source.y + source.head * (place + 1) / (source.ports + 1)
        entry = target.y + target.head / 2
        begin, words = source.x + source.width, self._words_end(self._column(arrow.source))
        if source is target:
            path = f"M{begin:.1f} {y:.1f} h16 V{source.y - 9:.1f} H{begin - 20:.1f} V{source.y - 1:.1f}"
        elif arrow in self._back:
            lane = self._back.index(arrow) + 1
            right = self._lane(self._column(arrow.source), lane)
            if self._column(arrow.target) == self._column(arrow.source):
                entry, edge = target.y + target.head - 5.0, target.x + target.width + 1
                return self._to(arrow, f"M{begin:.1f} {y:.1f} H{right:.1f} V{entry:.1f} H{edge:.1f}", y)
            left = self._left[self._column(arrow.target)] - 8.0 - _LANE * lane
            low = bottom + _LANE * lane
            path = f"M{begin:.1f} {y:.1f} H{right:.1f} V{low:.1f} H{left:.1f} V{entry:.1f} H{target.x - 1:.1f}"
        else:
            bend = (target.x - words) / 2
            path = (
                f"M{begin:.1f} {y:.1f} H{words:.1f} C{words + bend:.1f} {y:.1f} "
                f"{target.x - bend:.1f} {entry:.1f} {target.x - 1:.1f} {entry:.1f}"
            )
        return self._to(arrow, path, y)

    def _to(self, arrow: Arrow, path: str, y: float) -> Route:
        return Route(arrow, path, self._right[self._column(arrow.source)] + 6.0, y - 4.0)
