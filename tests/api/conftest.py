"""A client on each store, and the two faces that every promise is tested on: the client's methods, the module's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mageflow
from mageflow import Mageflow, MageflowConfig, RunHandle, RunStatus, SwarmConfig
from mageflow.engines.local import LocalEngine
from mageflow.ports.store import Store
from mageflow.stores.memory import MemoryStore
from mageflow.stores.redis import RedisStore
from mageflow.stores.sqlite import SqliteStore
from tests.api.flow_tasks import Log, register
from tests.api.transacting import Begin
from tests.redis.servers import Server

Sign = Callable[..., Awaitable[Any]]


@pytest.fixture
def store(kind_of_store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind that the module is tested on."""
    match kind_of_store:
        case "memory":
            return MemoryStore()
        case "sqlite":
            return SqliteStore(tmp_path / "flows.db")
        case _:
            server: Server = request.getfixturevalue("redis")
            return RedisStore(server.url)


@pytest.fixture(params=["memory", "sqlite"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    """The kinds; a module that is tested on others too has a fixture of this name in the place of this one."""
    return str(request.param)


@pytest.fixture
async def mage(store: Store) -> AsyncIterator[Mageflow]:
    client = Mageflow(LocalEngine(), store, config=MageflowConfig(lease=5.0))
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


@dataclass(frozen=True)
class Face:
    """The functions that make and steer signatures: a client's methods, or the module's, under one spelling."""

    sign: Sign
    chain: Sign
    swarm: Sign
    load_signature: Sign
    pause: Sign
    resume: Sign
    remove: Sign


@pytest.fixture(params=["client", "module"])
def face(request: pytest.FixtureRequest, mage: Mageflow) -> Face:
    """Each test that asks for it runs with the client's methods, and with the module's under their older names."""
    if request.param == "client":
        return Face(mage.sign, mage.chain, mage.swarm, mage.load_signature, mage.pause, mage.resume, mage.remove)
    return Face(
        mageflow.asign,
        mageflow.achain,
        mageflow.aswarm,
        mageflow.load_signature,
        mageflow.pause,
        mageflow.resume,
        mageflow.remove,
    )


@pytest.fixture(params=["client", "module", "client, other name", "module, other name"])
def begin(request: pytest.FixtureRequest, mage: Mageflow) -> Begin:
    faces = {
        "client": mage.transaction,
        "module": mageflow.transaction,
        "client, other name": mage.abounded_field,
        "module, other name": mageflow.abounded_field,
    }
    return faces[request.param]


class Gates:
    """Bodies that say when they run, and wait until they may go on."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self._open: set[str] = set()
        self._changed = asyncio.Condition()

    async def through(self, name: str) -> str:
        """Enter, wait for the gate, and give the name."""
        async with self._changed:
            self.entered.append(name)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: name in self._open or "*" in self._open)
        return name

    async def until(self, *names: str) -> None:
        """Wait until these have entered, each as often as it is named here."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: not Counter(names) - Counter(self.entered))

    async def open(self, *names: str) -> None:
        """Let these through; without names, all."""
        async with self._changed:
            self._open.update(names or ("*",))
            self._changed.notify_all()


@pytest.fixture
def gates(mage: Mageflow) -> Gates:
    """Gates, and a task `gated` whose message names the one that it passes."""
    gates = Gates()

    @mage.task
    async def gated(msg: dict[str, Any]) -> str:
        return await gates.through(msg["name"])

    return gates


async def gated_swarm(face: Face, *names: str, window: int = 30, **given: Any) -> Any:
    """Make a closed swarm whose members pass the gates of these names."""
    members = [await face.sign("gated", name=name) for name in names]
    return await face.swarm(members, is_swarm_closed=True, config=SwarmConfig(max_concurrency=window), **given)


async def gated_chain(face: Face, *names: str, **given: Any) -> Any:
    """Make a chain whose steps pass the gates of these names."""
    return await face.chain([await face.sign("gated", name=name) for name in names], **given)


@pytest.fixture
def log(mage: Mageflow) -> Log:
    """What the notes received, in order, and the tasks of `flow_tasks`."""
    return register(mage)


def is_a(value: Any, kind: type[Any]) -> bool:
    """`isinstance`, after which the checkers know no more of the value than before."""
    return isinstance(value, kind)
