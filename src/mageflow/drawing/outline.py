"""A picture as an indented list, for terminals and pipes."""

from __future__ import annotations

from collections.abc import Iterator

from mageflow.drawing.boxes import Box, BoxKind, Picture, headline

__all__ = ["Piece", "outline"]

Piece = tuple[str, str]
"""Some text, and how a terminal shows it, in rich's words; an empty style is none."""

_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "suspended": "magenta",
    "interrupted": "magenta",
    "unroutable": "bold yellow",
    "not begun": "dim",
    "not called": "dim",
}


def outline(picture: Picture) -> list[list[Piece]]:
    """Give the lines of the list. What several call is written where it comes first, and named elsewhere."""
    return list(_Outline(picture).lines())


class _Outline:
    def __init__(self, picture: Picture) -> None:
        self._first = picture.boxes[0] if picture.boxes else None
        self._boxes = {box.id: box for box in picture.all_boxes()}
        self._calls: dict[str, list[tuple[str, Box]]] = {}
        for arrow in picture.arrows:
            self._calls.setdefault(arrow.source, []).append((arrow.label, self._boxes[arrow.target]))
        self._told: set[str] = set()

    def lines(self) -> Iterator[list[Piece]]:
        if self._first is not None:
            yield from self._box(self._first, "", [], [])

    def _box(self, box: Box, said: str, margin: list[Piece], below: list[Piece]) -> Iterator[list[Piece]]:
        """Give a box and what hangs on it: `margin` begins its own line, `below` all that follow."""
        before: list[Piece] = [*margin, *([(said, "dim")] if said else [])]
        if box.id in self._told:
            yield [*before, (headline(box), "bold"), ("  (see above)", "dim")]
            return
        self._told.add(box.id)
        style = "dim" if box.kind is BoxKind.MORE else "bold"
        status: list[Piece] = [("  ", ""), (box.status, _STYLES.get(box.status, ""))] if box.status else []
        again: list[Piece] = [("  (see above)", "dim")] if box.kind is BoxKind.AGAIN else []
        key: list[Piece] = [("  " + box.key, "dim")] if box.key else []
        yield [*before, (headline(box), style), *status, *again, *key]
        numbered = box.kind is BoxKind.CHAIN
        hanging = [
            *((f"{place}. " if numbered else "", inner) for place, inner in enumerate(box.inside, start=1)),
            *((f"on {on}: " if on else "", target) for on, target in self._calls.get(box.id, [])),
        ]
        for note in box.notes:
            yield [*below, ("│  " if hanging else "   ", "dim"), (note, "dim")]
        for place, (words, each) in enumerate(hanging):
            last = place == len(hanging) - 1
            first = "" if each.kind is BoxKind.MORE else words
            yield from self._box(
                each, first, [*below, ("└─ " if last else "├─ ", "dim")], [*below, ("   " if last else "│  ", "dim")]
            )
