"""The command line as a user meets it: a process, its output, its exit code."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

MAGEFLOW = [sys.executable, "-m", "mageflow.cli"]


def environment(**variables: str) -> dict[str, str]:
    """Give the environment of a process: ours, without what would colour or fold its output."""
    left_out = {"COLUMNS", "FORCE_COLOR", "MAGEFLOW_APP", "NO_COLOR", "TTY_COMPATIBLE"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONIOENCODING": "utf-8", **variables}


def mageflow(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its output in pipes, and wait for it."""
    return subprocess.run(
        [*MAGEFLOW, *arguments],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


class HeldFile:
    """A file that whoever reads it waits for: what is to end after it cannot, however fast the machine is.

    Args:
        path: of a regular file; until `as_it_was` a pipe stands in its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = path.read_bytes()
        pipe = path.with_suffix(".pipe")
        os.mkfifo(pipe)
        pipe.replace(path)  # at no moment is there nothing

    def read_once(self) -> None:
        """Let go who reads it now, if somebody does; whoever reads it next waits again."""
        with contextlib.suppress(OSError):  # nobody does
            end = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(end, self._content[: self._content.rindex(b"\n", 0, 1000) + 1])  # that parses too
            finally:
                os.close(end)

    def as_it_was(self) -> None:
        """Put the file back."""
        again = self._path.with_suffix(".again")
        again.write_bytes(self._content)
        again.replace(self._path)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Give the one line that a refused command says, and hold that it says nothing else."""
    assert done.returncode == 1, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"one line was to be said, not:\n{done.stderr}"
    assert lines[0].startswith("mageflow: ")
    return lines[0]
