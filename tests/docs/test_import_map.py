"""What «coming from mageflow 0.3» says is imported from where can be imported from there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mageflow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "coming-from-0.3.md"
ROWS = re.findall(r"^\| `[^`]+` \| `from mageflow import ([^`]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("names", ROWS)
def test_the_new_import_works(names: str) -> None:
    for name in names.split(", "):
        assert hasattr(mageflow, name), f"{PAGE.name}: mageflow has no {name}"


def test_the_table_was_found() -> None:
    assert len(ROWS) >= 5
