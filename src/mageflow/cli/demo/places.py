"""Where the demo runs: what `--engine` and `--store` mean, how workers start there, and what an earlier demo left."""

from __future__ import annotations

import importlib
import os
import shlex
import socket
import sys
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

import mageflow
from mageflow.cli.demo import ENGINE_VARIABLE, FILE, STORE_VARIABLE, lifeline
from mageflow.cli.opening import shown
from mageflow.cli.output import CommandError
from mageflow.project import App
from mageflow.serving import Logs, worker_processes
from mageflow.supervising import Supervisor, kept

__all__ = ["Engine", "FilePlace", "Place", "ServerPlace", "place_for"]

_GRACE = 2.0
_BODIES = 4
"""At once in each process. A thread holds the interpreter while it parses; a few keep it busy."""
_SERVERS_GRACE = 3.0
"""Seconds that Taskiq's and Hatchet's workers have to end; what is left of them is killed then."""
_REACHED_WITHIN = 5.0
_PROGRAM = "mageflow.cli.demo.program"
# From where mageflow itself is imported: nothing in the user's folder can be taken for a module of the program's.
_HERE = Path(mageflow.__file__).resolve().parents[1]
_REDIS = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
_EXAMPLE = "--store redis://localhost:6379/0"


class Engine(StrEnum):
    """What `--engine` takes."""

    EMBEDDED = "embedded"
    TASKIQ = "taskiq"
    HATCHET = "hatchet"


class FilePlace:
    """The embedded engine, and a file in the current folder."""

    def __init__(self) -> None:
        self.store = FILE
        self.leave_within = 2 * _GRACE
        """Seconds after which the workers of a demo that was killed have ended."""

    @property
    def shown(self) -> str:
        return self.store

    def exists(self) -> bool:
        return Path(self.store).exists()

    def another(self) -> str:
        """Say what to do where the workers of another demo stay."""
        what = "another demo is running in this folder"
        return f"{what}. Wait for its end, interrupt it, or start this one in another folder"

    async def remove(self) -> None:
        """Remove what earlier demos left.

        Raises:
            CommandError: it cannot be removed.
        """
        _remove(self.store)

    def workers(self, processes: int) -> AbstractAsyncContextManager[None]:
        """Have worker processes, for `async with`."""
        return worker_processes(
            App(f"{_PROGRAM}:mage", _HERE),
            processes=processes,
            concurrency=_BODIES,
            name="demo",
            grace=_GRACE,
            logs=Logs.PROBLEMS,
        )


class ServerPlace:
    """An engine of a team's own, and Redis: a namespace there that is the demo's alone.

    Args:
        engine: Taskiq or Hatchet.
        url: of the Redis server.
    """

    def __init__(self, engine: Engine, url: str) -> None:
        self._engine = engine
        self._url = url
        # Of the engine's own: a run that waits on one of them is not brought by the other.
        self._space = f"mageflow-demo-{engine}"
        self.store = f"{url}{'&' if '?' in url else '?'}namespace={self._space}"
        self.leave_within = 2 * _SERVERS_GRACE

    @property
    def shown(self) -> str:
        return shown(self.store)

    def exists(self) -> bool:
        return True

    def another(self) -> str:
        """Say what to do where the workers of another demo stay."""
        return "another demo is running on it. Wait for its end, interrupt it, or name another database: redis://host/1"

    async def remove(self) -> None:
        """Remove what earlier demos left: the namespace, and the queue."""
        import redis.asyncio  # noqa: PLC0415 - an extra

        driver: Any = redis.asyncio.Redis
        async with driver.from_url(self._url.replace("valkey", "redis", 1)) as client:
            async for key in client.scan_iter(match=f"{{{self._space}}}:*", count=1000):
                await client.unlink(key)
            await client.unlink(f"{self._space}-queue")

    def workers(self, processes: int) -> AbstractAsyncContextManager[None]:
        """Have worker processes, for `async with`: those that a team would start."""
        if self._engine is Engine.TASKIQ:
            # From where there is no module but mageflow's: Taskiq looks for modules in the current folder first.
            own = f"-m taskiq worker mageflow.cli.demo.engine:engine {_PROGRAM} --log-level ERROR --shutdown-timeout 2"
            commands = [f"{own} --workers {processes} --max-async-tasks {_BODIES}"]
        else:
            commands = [f"-m mageflow.cli.demo.on_hatchet demo-{n + 1} {_BODIES}" for n in range(processes)]
        kept_by = [sys.executable, "-P", lifeline.__file__, str(_SERVERS_GRACE), sys.executable, "-P", "-u"]
        supervisor = Supervisor(
            [[*kept_by, *shlex.split(each)] for each in commands], grace=_SERVERS_GRACE, folder=self._folder()
        )
        return kept(supervisor, "the demo")

    def _folder(self) -> str | None:
        return str(_HERE) if self._engine is Engine.TASKIQ else None  # Hatchet reads `.env` in the current one


Place = FilePlace | ServerPlace


def place_for(engine: Engine, store: str | None) -> Place:
    """Give the place that is meant; from here on the demo's program is one for it, in this process and its workers.

    Raises:
        BadParameter: the store does not go with the engine.
        CommandError: a package is not installed, or the server that carries runs cannot be used.
    """
    if engine is Engine.EMBEDDED:
        if store is not None:
            raise typer.BadParameter(
                f"the embedded engine's demo is kept in {FILE}; --store goes with --engine taskiq or hatchet",
                param_hint="--store",
            )
        for name in (ENGINE_VARIABLE, STORE_VARIABLE):
            os.environ.pop(name, None)
        return FilePlace()
    if store is None or not store.startswith(_REDIS):
        found = f"{store!r} is none" if store is not None else "none is given"
        raise typer.BadParameter(f"--engine {engine} needs a Redis, and {found}: {_EXAMPLE}", param_hint="--store")
    if "namespace=" in store:
        raise typer.BadParameter("the demo has a namespace of its own; leave namespace= away", param_hint="--store")
    place = ServerPlace(engine, store)
    os.environ |= {ENGINE_VARIABLE: engine.value, STORE_VARIABLE: place.store}
    with _installed(engine):
        module = importlib.import_module("mageflow.cli.demo.engine")
    if engine is Engine.HATCHET:
        _refuse_unreachable(module.engine.config.host_port)
    return place


@contextmanager
def _installed(engine: Engine) -> Generator[None]:
    """Say what to do where a package is missing, or where a Hatchet client cannot be made."""
    packages = "'mageflow[taskiq,redis]' taskiq-redis" if engine is Engine.TASKIQ else "'mageflow[hatchet,redis]'"
    try:
        importlib.import_module("redis")
        yield
    except ImportError as error:
        raise CommandError(
            f"--engine {engine} needs {error.name or error}, which is not installed. Run: pip install {packages}"
        ) from None
    except ValueError as error:
        if engine is not Engine.HATCHET:
            raise CommandError(f"--store cannot be used: {error}") from None
        given = "is not a token" if os.environ.get("HATCHET_CLIENT_TOKEN") else "is not set"
        raise CommandError(
            f"HATCHET_CLIENT_TOKEN {given}: make one in your Hatchet's dashboard (Settings, API Tokens) and set it, "
            "without TLS also HATCHET_CLIENT_TLS_STRATEGY=none"
        ) from None


def _remove(file: str) -> None:
    try:
        for ending in ("", "-wal", "-shm"):
            Path(f"{file}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"the store of an earlier demo, {file}, cannot be removed: {error.strerror}") from error


def _refuse_unreachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_REACHED_WITHIN):
            return
    except (OSError, ValueError) as error:
        raise CommandError(
            f"the Hatchet server at {address} cannot be reached ({error}); start it, or see whether "
            "HATCHET_CLIENT_TOKEN is one of another server's"
        ) from None
