"""How commands speak: to a terminal with colour, to a pipe in plain text that stays the same."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mageflow import RunStatus
from mageflow.errors import MageflowError
from mageflow.models.run import Progress, RunInfo
from mageflow.wording import listed, plural, say_span, say_time

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "STATUS_STYLES",
    "CommandError",
    "called",
    "clean",
    "clock",
    "compact",
    "complain",
    "console",
    "counted",
    "invocation",
    "note",
    "print_json",
    "print_table",
    "span",
    "summary",
    "tolerate_any_encoding",
    "waits",
]

FAILED = 1
INTERRUPTED = 130

STATUS_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "suspended": "magenta",
    "interrupted": "magenta",
    "unroutable": "bold yellow",
}

_NO_LIMIT = 100_000
"""A width in which nothing is folded: whoever reads a pipe wants a line per line."""


class CommandError(MageflowError):
    """A command cannot do what it was asked for; its message is what the user reads."""


def console() -> Console:
    """Give the console that writes to stdout."""
    plain = not sys.stdout.isatty()
    return Console(highlight=False, markup=False, emoji=False, width=_NO_LIMIT if plain else None)


def complain(message: str) -> None:
    """Say in one line on stderr what went wrong."""
    line = " ".join(clean(message).split())
    print(f"mageflow: {line}", file=sys.stderr)


def note(message: str) -> None:
    """Say in one line on stderr what is good to know, beside the output."""
    complain(message)


def tolerate_any_encoding() -> None:
    """Let no character stop the output: what the terminal's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """Write JSON for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(out: Console, table: Table) -> None:
    """Print a table without the blanks that fill its lines up."""
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def invocation() -> str:
    """Give the words that call this program again from where the user is."""
    called = Path(sys.argv[0])
    if called.name != "mageflow":
        return f"{_from_here(Path(sys.executable))} -m mageflow.cli"
    found = shutil.which("mageflow")
    return "mageflow" if found is not None and Path(found).resolve() == called.resolve() else _from_here(called)


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def clean(text: str) -> str:
    """Give `text` with control characters escaped: no message of a run may move the cursor."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def compact(value: Any) -> str:
    """Give a JSON value in one line."""
    return json.dumps(value, ensure_ascii=False)


def summary(run: RunInfo) -> str:
    """Say in one line what a run came to."""
    if run.failure is not None:
        lines = run.failure.message.splitlines()
        return clean(f"{run.failure.type}: {lines[0] if lines else ''}")
    if run.progress is not None:
        return counted(run.progress)
    return "" if run.result is None else clean(compact(run.result))


def called(run: RunInfo) -> str:
    """Give the name of what a run executes, and what that is, where it is no task."""
    name = clean(run.task_name)
    return name if run.kind in ("task", name) else f"{run.kind} {name}"


def counted(progress: Progress) -> str:
    """Count the members of a chain or swarm by what they are."""
    kinds = ("waiting", "running", "succeeded", "failed", "cancelled")
    counts = [(getattr(progress, kind), kind) for kind in kinds]
    parts = [f"{count:,} {kind}" for count, kind in counts if count]
    return f"{plural(progress.total, 'member')}: {listed(parts)}" if parts else "no members"


def waits(run: RunInfo) -> bool:
    """Whether a run waits for its attempt to begin, be it the first or the next."""
    return run.status in (RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.UNROUTABLE, RunStatus.SUSPENDED)


def clock(when: datetime | None) -> str:
    """Give a time as the clock on the wall shows it."""
    return "-" if when is None else say_time(when)


def span(begin: datetime | None, end: datetime | None) -> str:
    """Say how long it was from `begin` to `end`."""
    if begin is None or end is None:
        return "-"
    return say_span((end - begin).total_seconds())
