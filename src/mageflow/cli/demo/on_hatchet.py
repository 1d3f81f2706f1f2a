"""A worker of the demo on Hatchet: what a program of yours has below its main guard.

python -m mageflow.cli.demo.on_hatchet NAME SLOTS
"""

from __future__ import annotations

import sys
from typing import Any

from mageflow.cli.demo.program import mage

if __name__ == "__main__":
    hatchet: Any = mage  # on Hatchet it is a Hatchet client, and its worker a Hatchet worker
    hatchet.worker(sys.argv[1], slots=int(sys.argv[2])).start()
