"""A client on each store, and the two faces that every promise is tested on: the client's methods, the module's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import mageflow
from mageflow import Mageflow, MageflowConfig, RunHandle, RunStatus

Sign = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["memory", "sqlite"])
async def mage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Mageflow]:
    store = "memory://" if request.param == "memory" else tmp_path / "flows.db"
    client = Mageflow(store=store, config=MageflowConfig(lease=5.0))
    mageflow.set_default(client)
    try:
        async with client:
            yield client
    finally:
        mageflow.set_default(None)


@pytest.fixture(params=["client", "module"])
def sign(request: pytest.FixtureRequest, mage: Mageflow) -> Sign:
    return mage.sign if request.param == "client" else mageflow.sign


async def until_status(handle: RunHandle[Any], status: RunStatus) -> None:
    """Wait until a run has a status."""
    async with asyncio.timeout(20):
        async for seen in handle.events():
            if seen.status is status:
                return
    raise AssertionError(f"the run ended without having been {status}")


async def work(client: Mageflow) -> None:
    """Run all that is due, callbacks included."""
    async with client.worker():
        pass
