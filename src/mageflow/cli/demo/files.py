"""Which files the demo reads."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["python_files"]

_LEFT_OUT = {"__pycache__", "dist-packages", "node_modules", "site-packages"}


def python_files(folder: Path) -> tuple[list[Path], int]:
    """Give the .py files below a folder in a fixed order, and how many have names that JSON cannot hold."""
    files: list[Path] = []
    unreadable = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.endswith(".py") or not path.is_file():
                continue
            try:
                str(path).encode()
            except UnicodeEncodeError:
                unreadable += 1
            else:
                files.append(path)
    return files, unreadable
