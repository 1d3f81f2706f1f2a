"""A picture as a Mermaid flowchart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mageflow.drawing.boxes import Arrow, Box, BoxKind, Picture, headline

__all__ = ["mermaid"]

_SPECIAL = re.compile(r"[^\w .,/()=×…'-]|(?<=\d)[.)](?=\s|$)|^-")
"""What is written by its number. Beside quotes and angle brackets: `%` and `:`, which Mermaid's own passes over the
whole text take for directives and styles, and what Markdown takes for the beginning of a list."""

_CLASSES = {
    "succeeded": "fill:#e3f5e6,stroke:#1a7f37,color:#0b3d1a",
    "failed": "fill:#ffe3e0,stroke:#c62828,color:#5f1010,stroke-width:2px",
    "cancelled": "fill:#fff3d6,stroke:#9a6700,color:#4d3300",
    "running": "fill:#dff1ff,stroke:#0969da,color:#062e5c",
    "held": "fill:#f3e6fb,stroke:#8250df,color:#3b1a6b",
    "stranded": "fill:#fff3d6,stroke:#9a6700,color:#4d3300,stroke-width:2px",
    "waiting": "fill:#f6f8fa,stroke:#57606a,color:#24292f",
    "faint": "fill:#ffffff,stroke:#8c959f,color:#57606a,stroke-dasharray:4 3",
}
_CLASS_OF = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "running",
    "suspended": "held",
    "interrupted": "held",
    "unroutable": "stranded",
    "scheduled": "waiting",
    "queued": "waiting",
    "not begun": "faint",
    "not called": "faint",
}
_FAINT = (BoxKind.MORE, BoxKind.REMOVED, BoxKind.AGAIN)


def mermaid(picture: Picture) -> str:
    """Give the source of a flowchart."""
    lines = ["flowchart LR"]
    for box in picture.boxes:
        lines.extend(_box(box, "  "))
    lines.extend(f"  {_arrow(arrow)}" for arrow in picture.arrows)
    lines.extend(_styles(picture))
    return "\n".join(lines) + "\n"


def _box(box: Box, indent: str) -> Iterator[str]:
    text = "<br/>".join(_escaped(line) for line in _lines(box))
    if not box.inside:
        opening, closing = ("([", "])") if box.kind is BoxKind.AGAIN else ("[", "]")
        yield f'{indent}{box.id}{opening}"{text}"{closing}'
        return
    yield f'{indent}subgraph {box.id}["{text}"]'
    yield f"{indent}  direction TB"
    for inner in box.inside:
        yield from _box(inner, indent + "  ")
    if box.kind is BoxKind.CHAIN:
        for before, after in zip(box.inside, box.inside[1:], strict=False):
            yield f"{indent}  {before.id} --> {after.id}"
    yield f"{indent}end"


def _lines(box: Box) -> list[str]:
    return [headline(box), *([box.status] if box.status else []), *box.notes]


def _arrow(arrow: Arrow) -> str:
    if not arrow.on:
        return f"{arrow.source} -.- {arrow.target}"
    return f'{arrow.source} -->|"{_escaped(arrow.label)}"| {arrow.target}'


def _styles(picture: Picture) -> Iterator[str]:
    wearing: dict[str, list[str]] = {}
    for box in picture.all_boxes():
        worn = "faint" if box.kind in _FAINT else _CLASS_OF.get(box.status or "")
        if worn is not None:
            wearing.setdefault(worn, []).append(box.id)
    for name, ids in wearing.items():
        yield f"  classDef {name} {_CLASSES[name]}"
        yield f"  class {','.join(ids)} {name}"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found.group())};", text)
