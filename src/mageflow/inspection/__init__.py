"""What people and their tools ask of a store: why a run is where it is, who works, what there is, what has expired.

`questions` reads, through the client; `sight` holds what was seen of a run or a signature and around it; `explaining`
puts that into words, of which `phrases` are the parts. Who asks sees only `Inspection`.
"""

from __future__ import annotations

from mageflow.inspection.questions import Inspection

__all__ = ["Inspection"]
