"""What callers hold of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mageflow.drawing.boxes import Picture
from mageflow.drawing.mermaid import mermaid
from mageflow.drawing.outline import outline
from mageflow.drawing.svg import svg

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Drawing"]


class Drawing(Picture):
    """A picture of a signature, or of a run with the states of the moment.

    Its `str` is a Mermaid flowchart; in a terminal (`rich.print`) it is an indented list, in a notebook an image.
    `boxes` and `arrows` are what it shows, for programs: `model_dump()` gives them as plain JSON values.
    """

    @property
    def svg(self) -> str:
        """The picture as an SVG document."""
        return svg(self)

    @property
    def text(self) -> str:
        """The picture as an indented list."""
        return "\n".join("".join(words for words, _ in line).rstrip() for line in outline(self))

    def __str__(self) -> str:
        return mermaid(self)

    def __rich__(self) -> Text:
        from rich.text import Text  # noqa: PLC0415 - only rich itself calls this

        lines = (Text.assemble(*line, no_wrap=True, overflow="ellipsis") for line in outline(self))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Give what notebooks show: they take the first form that they know."""
        return {"image/svg+xml": self.svg, "text/vnd.mermaid": str(self), "text/plain": self.text}
