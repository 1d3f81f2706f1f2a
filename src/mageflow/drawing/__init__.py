"""Pictures of signatures and runs.

`reading` reads what hangs on a signature or a run into boxes and arrows, within bounds; `mermaid`, `svg` (placed by
`layout`) and `outline` say the same boxes as text, as an image and as an indented list; `drawing` is what callers hold.
"""

from __future__ import annotations

from mageflow.drawing.drawing import Drawing
from mageflow.drawing.reading import draw_run, draw_signature

__all__ = ["Drawing", "draw_run", "draw_signature"]
