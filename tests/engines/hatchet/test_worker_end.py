"""A worker on Hatchet ends, whatever its listener process does: the SDK's own worker, without a server."""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("hatchet_sdk", reason="pip install 'mageflow[hatchet]'")

from hatchet_sdk.worker.worker import WorkerStatus

from mageflow import ConfigurationError, Mageflow
from mageflow.engines.hatchet import sdk
from mageflow.hatchet import HatchetMageflow, HatchetWorker
from mageflow.hatchet import worker as worker_module
from tests.crash.processes import until
from tests.engines.hatchet.fake import FakeServer
from tests.engines.hatchet.listening import deaf, obedient

pytestmark = [
    # The SDK reads names of its own that it has deprecated for others.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hatchet_sdk.*"),
]


class Place:
    """Where workers run: what they ask of a server is answered here."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._server = FakeServer()
        self.hatchet: HatchetMageflow = Mageflow(self._server.client(), "memory://")
        self.made: list[HatchetWorker] = []
        self.answers = threading.Event()
        """Set once the server answers which version it has."""
        self.answers.set()

        @self.hatchet.task
        async def work() -> None: ...

    def worker(self, listener: Callable[..., None], lifespan: Any = None) -> HatchetWorker:
        """Make a worker that is listened for by a process of the test's."""
        self._patch.setattr("hatchet_sdk.worker.worker.worker_action_listener_process", listener)
        if listener is deaf:
            self._patch.setattr(worker_module, "_LISTENER_ENDS_WITHIN", 0.0)
        made = self.hatchet.worker(lifespan=lifespan)
        client: Any = made._client
        client.admin = SimpleNamespace(put_workflow=lambda workflow: None)  # pyright: ignore[reportUnknownLambdaType]
        client.dispatcher = SimpleNamespace(get_version=self._version)
        client.workers = SimpleNamespace(aio_pause=self._pause)
        self.made.append(made)
        return made

    async def _version(self) -> str:
        await asyncio.to_thread(self.answers.wait)
        return "v0.104.7"

    async def _pause(self, worker_id: str) -> None: ...

    def close(self) -> None:
        self.answers.set()
        for worker in self.made:
            process = worker._action_listener_process
            if process is not None and process.is_alive():
                process.kill()
                process.join()
            if worker._loop is not None and not worker._loop.is_running():
                worker._loop.close()  # the SDK leaves it open
        self._server.loop.close()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(monkeypatch)
    yield place
    place.close()


async def until_it_waits(worker: HatchetWorker) -> None:
    """Wait until the listener process waits to be told to stop."""
    stop: Any = worker._stop_listener_event
    await until(lambda: not stop._cond._sleeping_count._semlock._is_zero())


def exit_code(worker: HatchetWorker) -> int | None:
    process = worker._action_listener_process
    assert process is not None, "the worker has started none"
    return process.exitcode


async def test_a_listener_that_stops_when_it_is_told_to_is_left_to_it(place: Place) -> None:
    async with place.hatchet, place.worker(obedient) as worker:
        await until_it_waits(worker)
        assert exit_code(worker) is None
    assert exit_code(worker) == 0


async def test_a_worker_beside_a_program_leaves_no_listener_that_does_not_stop(place: Place) -> None:
    async with place.hatchet, place.worker(deaf) as worker:
        assert exit_code(worker) is None
    assert exit_code(worker) == -9


async def test_a_worker_that_is_given_up_while_it_starts_leaves_no_listener(place: Place) -> None:
    place.answers.clear()
    worker = place.worker(deaf)
    async with place.hatchet:
        entering = asyncio.create_task(worker.__aenter__())
        await until(lambda: worker.status is WorkerStatus.STARTING)
        entering.cancel()
        await asyncio.sleep(0)
        place.answers.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert worker._thread is not None
    assert not worker._thread.is_alive()
    assert exit_code(worker) == -9


async def test_a_worker_leaves_no_listener_that_hangs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own would wait for ever for the process to hear that it is to stop."""
    monkeypatch.setattr(sdk, "_HEARD_WITHIN", 0.1)
    monkeypatch.setattr(worker_module, "_LISTENER_ENDS_WITHIN", 0.0)
    async with place.hatchet, place.worker(obedient) as worker:
        await until_it_waits(worker)
        process = worker._action_listener_process
        assert process is not None
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
    assert exit_code(worker) == -9


async def test_a_worker_whose_listener_was_killed_ends_and_says_so(place: Place) -> None:
    worker = place.worker(obedient)

    async def program() -> None:
        async with worker:
            await until_it_waits(worker)
            process = worker._action_listener_process
            assert process is not None
            process.kill()
            await until(lambda: worker._ended)

    async with place.hatchet:
        with pytest.raises(ConfigurationError, match="ended before its program"):
            await program()
    worker._terminate_processes()  # as at a second signal


@pytest.fixture
def as_before() -> Iterator[None]:
    """Take back what a worker by itself does to its process."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    before = {each: signal.getsignal(each) for each in signals}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)
    gc.unfreeze()
    asyncio.set_event_loop(None)


@pytest.mark.usefixtures("as_before")
def test_a_worker_by_itself_leaves_no_listener_and_froze_what_was_imported(place: Place) -> None:
    frozen: list[int] = []

    async def lifespan() -> AsyncGenerator[Any, Any]:
        frozen.append(gc.get_freeze_count())
        leaving = asyncio.create_task(leave())
        yield None
        await leaving

    async def leave() -> None:
        await until(lambda: worker.status is WorkerStatus.HEALTHY)
        signal.raise_signal(signal.SIGTERM)

    worker = place.worker(deaf, lifespan)
    before = gc.get_freeze_count()
    with pytest.raises(SystemExit) as left:
        worker.start()
    assert left.value.code == 0
    assert exit_code(worker) == -9
    assert frozen[0] > before + 10_000, "the modules of the SDK alone are more"
