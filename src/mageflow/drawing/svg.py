"""A picture as an SVG document: text and shapes, with nothing to load from elsewhere and no script."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape

from mageflow.drawing.boxes import BoxKind, Picture
from mageflow.drawing.layout import LINE, Placed, Route, lay_out

__all__ = ["svg"]

_FILL, _STROKE, _TEXT = "#ffffff", "#57606a", "#24292f"
_COLOURS = {
    "succeeded": ("#e3f5e6", "#1a7f37"),
    "failed": ("#ffe3e0", "#c62828"),
    "cancelled": ("#fff3d6", "#9a6700"),
    "running": ("#dff1ff", "#0969da"),
    "suspended": ("#f3e6fb", "#8250df"),
    "interrupted": ("#f3e6fb", "#8250df"),
    "unroutable": ("#fff3d6", "#9a6700"),
    "scheduled": ("#f6f8fa", _STROKE),
    "queued": ("#f6f8fa", _STROKE),
}
_FAINT = "#8c959f"
_ARROWS = {"success": "#1a7f37", "error": "#c62828", "done": _STROKE}


def svg(picture: Picture) -> str:
    """Give the document."""
    layout = lay_out(picture)
    width, height = round(layout.width), round(layout.height)
    title = picture.boxes[0].title if picture.boxes else "nothing"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="12">',
        f"<title>{_escaped(title)}</title>",
        *_heads(),
        f'<rect width="{width}" height="{height}" fill="{_FILL}"/>',
        *(line for top in layout.tops for placed in top.walk() for line in _box(placed)),
        *(line for route in layout.routes for line in _arrow(route)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _heads() -> Iterator[str]:
    yield "<defs>"
    for colour in dict.fromkeys((*_ARROWS.values(), _FAINT)):
        yield (
            f'<marker id="head-{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 Z" fill="{colour}"/></marker>'
        )
    yield "</defs>"


def _box(placed: Placed) -> Iterator[str]:
    box = placed.box
    faint = box.kind in (BoxKind.MORE, BoxKind.REMOVED, BoxKind.AGAIN) or box.status in ("not begun", "not called")
    fill, stroke = _COLOURS.get(box.status or "", (_FILL, _FAINT if faint else _STROKE))
    dashed = ' stroke-dasharray="4 3"' if faint else ""
    round_ = 14 if box.kind is BoxKind.AGAIN else 5
    yield "<g>"
    if box.key is not None:
        yield f"<title>{_escaped(box.key)}</title>"
    if box.times > 1:  # a sheet behind it: it stands for several
        yield _rect(placed, 4.0, fill, stroke, dashed, round_)
    yield _rect(placed, 0.0, fill, stroke, dashed, round_)
    for place, line in enumerate(placed.lines):
        weight = ' font-weight="bold"' if place in (0, placed.status) else ""
        colour = _STROKE if faint and place else stroke if place == placed.status else _TEXT
        x, y = placed.x + 10, placed.y + LINE * (place + 1)
        yield f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight} xml:space="preserve">{_escaped(line)}</text>'
    yield "</g>"
    if box.kind is BoxKind.CHAIN:
        for before, after in pairwise(placed.inside):
            x = before.x + before.width / 2
            yield (
                f'<path d="M{x:.1f} {before.y + before.height:.1f} V{after.y - 1:.1f}" fill="none" '
                f'stroke="{_STROKE}" marker-end="url(#head-{_STROKE[1:]})"/>'
            )


def _rect(placed: Placed, shift: float, fill: str, stroke: str, dashed: str, round_: int) -> str:
    return (
        f'<rect x="{placed.x + shift:.1f}" y="{placed.y + shift:.1f}" width="{placed.width:.1f}" '
        f'height="{placed.height:.1f}" rx="{round_}" fill="{fill}" stroke="{stroke}"{dashed}/>'
    )


def _arrow(route: Route) -> Iterator[str]:
    arrow = route.arrow
    colour = _ARROWS[arrow.on[0]] if arrow.on else _FAINT
    dashed = "" if arrow.on else ' stroke-dasharray="4 3"'
    yield (
        f'<path d="{route.path}" fill="none" stroke="{colour}" stroke-linejoin="round"{dashed} '
        f'marker-end="url(#head-{colour[1:]})"/>'
    )
    if arrow.on:
        yield f'<text x="{route.x:.1f}" y="{route.y:.1f}" fill="{colour}">{_escaped(arrow.label)}</text>'


def _escaped(text: str) -> str:
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))
