"""Worker processes for the crash tests: started, signalled by their pid, and gone at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["APP", "LONG", "PATIENCE", "Standstill", "Workers", "cpu_seconds", "until"]

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.crash.program:mage"
PATIENCE = 60.0
_LOOK_EVERY = 0.005
_STANDSTILL = 0.05
LONG = bool(os.environ.get("LONG_TESTS"))
"""Whether the long forms are wanted: `LONG_TESTS=1 make test`."""


@dataclass(frozen=True)
class Standstill:
    """A while in which a busy machine lets a process wait."""

    until: float
    seconds: float


async def until(arrived: Callable[[], bool | Awaitable[bool]], why: Callable[[], str] = str) -> list[Standstill]:
    """Wait for what other processes do; give when meanwhile this machine had no time for this process."""
    deadline = time.monotonic() + PATIENCE
    stood: list[Standstill] = []
    while True:
        looked = time.perf_counter()
        found = arrived()
        if found if isinstance(found, bool) else await found:
            return stood
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came\n{why()}")
        await asyncio.sleep(_LOOK_EVERY)
        now = time.perf_counter()
        if now - looked > _STANDSTILL:
            stood.append(Standstill(until=now, seconds=now - looked))


class Workers:
    """The processes of one test.

    Args:
        folder: for the store, the gate, and what the processes say.
        lease: of the workers, in seconds.
    """

    def __init__(self, folder: Path, *, lease: float = 2.0) -> None:
        self.store = folder / "crash.db"
        self.gate = folder / "gate"
        self.journal = folder / "journal"
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "MAGEFLOW_STORE": str(self.store),
            "CRASH_JOURNAL": str(self.journal),
            "CRASH_GATE": str(self.gate),
            "CRASH_LEASE": str(lease),
        }
        self._all: list[subprocess.Popen[bytes]] = []
        self._said: dict[int, Path] = {}

    def worker(self, *, concurrency: int = 4, grace: float = 10.0, **environment: str) -> subprocess.Popen[bytes]:
        """Start one worker process."""
        limits = ["--concurrency", str(concurrency), "--grace", str(grace)]
        return self.start([sys.executable, "-m", "mageflow.serving", APP, *limits], **environment)

    def start(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        said = self._folder / f"said-{len(self._all)}"
        with said.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=self._environment | environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                cwd=self._folder,
            )
        self._all.append(process)
        self._said[process.pid] = said
        return process

    def said(self, process: subprocess.Popen[bytes] | None = None) -> str:
        """Give what a process, or all of them, have said."""
        files = [self._said[process.pid]] if process is not None else list(self._said.values())
        return "\n".join(file.read_text(encoding="utf-8") for file in files)

    def noted(self, what: str, attempt: int | None = None) -> list[dict[str, Any]]:
        """Give what bodies have noted."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("}")]
        return [each for each in entries if each["what"] == what and attempt in (None, each["attempt"])]

    async def ready(self, *processes: subprocess.Popen[bytes]) -> None:
        """Wait until workers serve."""
        await until(lambda: all(self.serves(each) for each in processes), self.said)

    def serves(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a worker has begun to serve."""
        return "is ready" in self.said(process)

    async def gone(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until a process has ended; give its exit code."""
        await until(lambda: process.poll() is not None, self.said)
        return process.returncode

    def end(self) -> None:
        """End what is left."""
        for process in self._all:
            if process.stdin is not None:
                process.stdin.close()
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def cpu_seconds(pid: int) -> float:
    """Give the time that a process's threads have had on a core."""
    spent = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9
