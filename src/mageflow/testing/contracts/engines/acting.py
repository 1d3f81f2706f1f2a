"""What the tests of engines share: a client, and waiting for a body or a status."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mageflow import Mageflow, MageflowConfig, RunHandle, RunStatus
from mageflow.ports.engine import Engine

__all__ = ["PATIENCE", "Begun", "EngineTests", "Wrap", "until_status"]

PATIENCE = 30.0

Wrap = Callable[[Engine], Engine]


class EngineTests:
    """The fixtures of each part of the contract."""

    @pytest.fixture
    def engine(self) -> Any:
        """What a client is given as its engine; None: the embedded one."""
        raise NotImplementedError("override `engine`: what the client is given")

    @pytest.fixture
    def store(self) -> Any:
        """What a client is given as its store."""
        return "memory://"

    @pytest.fixture
    async def mage(self, engine: Any, store: Any) -> AsyncIterator[Mageflow]:
        """A client on the engine; its lost deliveries are made good soon."""
        async with Mageflow(engine, store, config=MageflowConfig(lease=5.0, redeliver_after=1.0)) as client:
            yield client


class Begun:
    """A body's word that it runs. A run is `running` before its body is, and the body may be in another thread."""

    def __init__(self) -> None:
        self._said = threading.Event()

    def say(self) -> None:
        self._said.set()

    async def heard(self) -> None:
        """Wait until the body runs."""
        assert await asyncio.to_thread(self._said.wait, PATIENCE), "no body began"


async def until_status(handle: RunHandle[Any], status: RunStatus) -> None:
    """Wait until a run has a status.

    Raises:
        AssertionError: the run ended without it.
    """
    async with asyncio.timeout(PATIENCE):
        async for seen in handle.events():
            if seen.status is status:
                return
    raise AssertionError(f"the run ended without having been {status}")
