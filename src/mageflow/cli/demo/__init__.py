"""`mageflow demo`: the library at work on real files. Its program is `program.py`, to be read as an example."""

from __future__ import annotations

__all__ = ["ENGINE_VARIABLE", "FILE", "STORE_VARIABLE"]

# How worker processes are told on what the demo runs; without them it is the embedded engine, and this file.
ENGINE_VARIABLE = "MAGEFLOW_DEMO_ENGINE"
STORE_VARIABLE = "MAGEFLOW_DEMO_STORE"
FILE = "mageflow-demo.db"
