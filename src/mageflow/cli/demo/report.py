"""What the demo found: as a file for programs, as tables for people."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mageflow.cli.output import CommandError, clean, print_table

if TYPE_CHECKING:
    from mageflow.cli.demo.program import Figures, Problem

__all__ = ["Report", "print_report", "write_report"]

_LARGEST = 10
_FAILURES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the callbacks recorded, by path, and what it took."""

    folder: Path
    figures: list[Figures]
    problems: list[Problem]
    runs: int
    runs_before: int
    """How many of them an earlier start of the same demo had ended."""
    seconds: float
    """Of this start."""
    run_ids: dict[Path, str]
    """The run that read each file."""
    store: str
    """The file in which the runs are."""

    @property
    def files(self) -> int:
        return len(self.run_ids)

    @property
    def rate(self) -> float:
        return (self.runs - self.runs_before) / self.seconds

    @property
    def example(self) -> str | None:
        """The run that is worth a look: one that failed, if any did."""
        paths = [entry.path for entry in self.problems] or [entry.path for entry in self.figures]
        return self.run_ids[paths[0]] if paths else None


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON.

    Raises:
        CommandError: the file cannot be written.
    """
    content = {
        "folder": str(report.folder),
        "python": platform.python_version(),
        "files": report.files,
        "parsed": len(report.figures),
        "failed": len(report.problems),
        "runs": report.runs,
        "runs_before": report.runs_before,
        "seconds": round(report.seconds, 3),
        "runs_per_second": round(report.rate, 1),
        "figures": [entry.model_dump(mode="json") | {"run": report.run_ids[entry.path]} for entry in report.figures],
        "failures": [entry.model_dump(mode="json") | {"run": report.run_ids[entry.path]} for entry in report.problems],
    }
    try:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}; give another path with --report") from error


def print_report(report: Report, out: Console) -> None:
    """Print the largest files, and those that failed."""
    if report.figures:
        table = _table("Largest files")
        for heading in ("lines", "functions", "classes"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("path", overflow="fold")
        for entry in sorted(report.figures, key=lambda each: (-each.lines, each.path))[:_LARGEST]:
            table.add_row(
                f"{entry.lines:,}", f"{entry.functions:,}", f"{entry.classes:,}", Text(clean(str(entry.path)))
            )
        out.print()
        print_table(out, table)
    if report.problems:
        table = _table("Failed")
        table.add_column("path", overflow="fold")
        table.add_column("reason", overflow="fold")
        for problem in report.problems[:_FAILURES]:
            table.add_row(Text(clean(str(problem.path))), Text(clean(f"{problem.error}: {problem.reason}")))
        out.print()
        print_table(out, table)
        if len(report.problems) > _FAILURES:
            out.print(f"  and {len(report.problems) - _FAILURES} more, in the report")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=True)
