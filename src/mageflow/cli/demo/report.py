"""What the demo found, as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mageflow.cli.output import clean, print_table

if TYPE_CHECKING:
    from mageflow.cli.demo.program import Summary

__all__ = ["print_summary"]


def print_summary(found: Summary, out: Console) -> None:
    """Print the largest files, and those that failed."""
    if found.largest:
        table = _table("Largest files")
        for heading in ("lines", "functions", "classes"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("path", overflow="fold")
        for entry in found.largest:
            table.add_row(
                f"{entry.lines:,}", f"{entry.functions:,}", f"{entry.classes:,}", Text(clean(str(entry.path)))
            )
        out.print()
        print_table(out, table)
    if found.problems:
        table = _table("Failed")
        table.add_column("path", overflow="fold")
        table.add_column("reason", overflow="fold")
        for problem in found.problems:
            table.add_row(Text(clean(str(problem.path))), Text(clean(f"{problem.error}: {problem.reason}")))
        out.print()
        print_table(out, table)
        if found.failed > len(found.problems):
            out.print(f"  and {found.failed - len(found.problems)} more, in the report")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=True)
