"""`taskiq worker` processes that end with their test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.crash.processes import ROOT

__all__ = ["TaskiqWorkers"]


class TaskiqWorkers:
    """The processes of one test.

    Args:
        folder: for what they say and note.
        url: the Redis server.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.gate = folder / "gate"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "ENGINE_REDIS": url,
            "ENGINE_JOURNAL": str(self.journal),
            "ENGINE_GATE": str(self.gate),
        }
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, app: str = "tests.engines.program:broker", **environment: str) -> subprocess.Popen[bytes]:
        """Start `taskiq worker` with one worker process, which it starts anew when that dies."""
        command = [sys.executable, "-m", "taskiq", "worker", app, "--workers", "1"]
        with (self.folder / f"said-{len(self._all)}").open("wb") as file:
            process = subprocess.Popen(
                command,
                env=self.environment | environment,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                start_new_session=True,
            )
        self._all.append(process)
        return process

    def said(self) -> str:
        """Give what all of them have said."""
        return "\n".join(file.read_text(encoding="utf-8") for file in sorted(self.folder.glob("said-*")))

    def noted(self, what: str, **facts: Any) -> list[dict[str, Any]]:
        """Give what bodies have noted."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("}")]
        return [each for each in entries if each["what"] == what and facts.items() <= each.items()]

    def pids(self) -> list[int]:
        """Give the worker processes that have begun and are there, oldest first."""
        return [each["pid"] for each in self.noted("startup") if _is_there(each["pid"])]

    def end(self) -> None:
        """End what is left, with the processes that each has started."""
        for process in self._all:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
