"""Worker processes on a Redis store that end with their test: `taskiq worker`, and the embedded engine's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.crash.processes import ROOT

__all__ = ["EmbeddedWorkers", "TaskiqWorkers"]


class TaskiqWorkers:
    """The processes of one test.

    Args:
        folder: for what they say and note.
        url: the Redis server.
        environment: more of it, as the program reads it.
    """

    def __init__(self, folder: Path, url: str, **environment: str) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.gate = folder / "gate"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "ENGINE_REDIS": url,
            "ENGINE_JOURNAL": str(self.journal),
            "ENGINE_GATE": str(self.gate),
            **environment,
        }
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, processes: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        """Start `taskiq worker` with so many worker processes, which it starts anew when they die."""
        app = "tests.engines.program:broker"
        return self._start([sys.executable, "-m", "taskiq", "worker", app, "--workers", str(processes)], environment)

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
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


class EmbeddedWorkers(TaskiqWorkers):
    """Processes of `mageflow worker`."""

    def start(self, processes: int = 2, **environment: str) -> subprocess.Popen[bytes]:
        """Start `mageflow worker` with several worker processes, which it starts anew when they die."""
        app = "tests.engines.program:mage"
        command = [sys.executable, "-m", "mageflow.cli", "worker", app, "--processes", str(processes)]
        return self._start(command, environment)

    def pids(self) -> list[int]:
        """Give the worker processes that serve, oldest first."""
        return [pid for pid in map(int, re.findall(r"is ready: process (\d+)", self.said())) if _is_there(pid)]

    def end(self) -> None:
        """End what is left; the worker processes are in sessions of their own."""
        super().end()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
