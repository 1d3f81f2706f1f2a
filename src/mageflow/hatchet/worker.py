"""The worker on Hatchet: a Hatchet `Worker`, and a worker for `async with` in a program that has its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import threading
from collections.abc import AsyncGenerator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from hatchet_sdk import Worker
from hatchet_sdk.worker.worker import LifespanFn, WorkerStartOptions, WorkerStatus

from mageflow.engines.hatchet import HatchetEngine, end_listeners, loop_of, stop_listening
from mageflow.errors import ConfigurationError
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.worker import WorkerSettings
from mageflow.workers import WorkerContext

__all__ = ["HatchetWorker"]

logger = logging.getLogger("mageflow.hatchet")

_LOOK_EVERY = 0.05
_BEGINS = (WorkerStatus.INITIALIZED, WorkerStatus.STARTING)
_DOES_NOT_LISTEN = (*_BEGINS, WorkerStatus.UNHEALTHY)
_ENDED = (
    "the Hatchet worker has ended before its program, and what is due waits for another one; its log says why (most "
    "often: the program starts a worker when it is imported, outside of `if __name__ == '__main__':`)"
)
_ENDS_WITHIN = 20.0
"""Seconds that the Hatchet worker's own end may take, beside the grace of its bodies."""
_LISTENER_ENDS_WITHIN = 10.0
"""Seconds that its listener process has after that, to send what bodies have ended with."""


class HatchetWorker(WorkerContext, Worker):
    """A worker on Hatchet, for one of two uses.

    `worker.start()` runs it in the main thread until a signal comes, with an event loop of its own: bodies run there.
    `async with worker:` runs it beside the code of the block: Hatchet's own loop runs in a thread, and bodies run in
    the loop of the block. Signals stay the program's then.

    Args:
        kernel: the client's.
        client: the client.
        settings: how it behaves.
        load_signature: gives the object that a body's `signature` parameter receives.
        given: the lifespan of the user's, and what Hatchet's own constructor takes.
    """

    def __init__(
        self,
        kernel: Kernel,
        client: Any,
        settings: WorkerSettings,
        load_signature: Any,
        *,
        lifespan: LifespanFn | None,
        **given: Any,
    ) -> None:
        WorkerContext.__init__(self, kernel, client, settings, load_signature)
        Worker.__init__(self, lifespan=self._live, **given)
        self._users_lifespan = lifespan
        self._thread: threading.Thread | None = None
        self._beside: contextlib.AsyncExitStack | None = None
        self._leaving = False
        self._ended = False
        """Whether Hatchet's worker has ended before it was asked to."""
        self._shown: Any = None
        """What the user's lifespan gave, in a worker beside a program."""

    # By itself

    def start(self, options: WorkerStartOptions | None = None) -> None:
        """Run until a signal comes. To be called from the main thread, outside of any event loop."""
        _refuse_import()
        Worker._setup_signal_handlers(self)
        self._settings = replace(self._settings, drain=False)  # Hatchet brings nothing more once it stops
        # What the program has imported lives as long as it does, and the SDK alone is so much that each full collection
        # stopped all bodies and deliveries for more than a tenth of a second to look at it.
        gc.collect()
        gc.freeze()
        self._listen(options)

    def _listen(self, options: WorkerStartOptions | None = None) -> None:
        """Be Hatchet's worker until it ends, and leave no process behind that the end of the program would wait for."""
        try:
            Worker.start(self, options)
        finally:
            killed = end_listeners(self, _LISTENER_ENDS_WITHIN)
            if killed:
                logger.warning(
                    "the listener process %s of the Hatchet worker %s did not stop within %s s, and was killed; a run "
                    "whose end it had not sent is brought again by Hatchet",
                    killed[0],
                    self.name,
                    _LISTENER_ENDS_WITHIN,
                )

    # Hatchet's worker waits for ever for a listener process to hear that it is to stop, if that was killed or hangs.

    def _stop_listener_action_loops(self) -> None:
        stop_listening(self)

    def _terminate_processes(self) -> None:
        end_listeners(self, _LISTENER_ENDS_WITHIN)

    def _setup_signal_handlers(self) -> None:
        """Leave the signals alone until `start`: a worker that is only made, or runs beside a program, has none."""

    async def _live(self) -> AsyncGenerator[Any, None]:
        """Be the lifespan that Hatchet's worker knows; on its loop."""
        if self._beside is not None:
            yield self._shown
            return
        async with self._users() as given:
            await WorkerContext.__aenter__(self)
            try:
                self._know_tasks()
                yield given
            finally:
                await WorkerContext.__aexit__(self, None, None, None)

    def _know_tasks(self) -> None:
        self._carrier.know(self._kernel.registry.names())

    @property
    def _carrier(self) -> HatchetEngine:
        engine = self._kernel.engine
        assert isinstance(engine, HatchetEngine)
        return engine

    @contextlib.asynccontextmanager
    async def _users(self) -> AsyncGenerator[Any]:
        """Run the user's own lifespan around."""
        if self._users_lifespan is None:
            yield None
            return
        lifespan = self._users_lifespan()
        yield await anext(lifespan, None)
        with contextlib.suppress(StopAsyncIteration):
            await anext(lifespan)

    # Beside a program

    async def __aenter__(self) -> Self:
        _refuse_import()
        async with contextlib.AsyncExitStack() as stack:
            self._shown = await stack.enter_async_context(self._users())
            await WorkerContext.__aenter__(self)
            stack.push_async_exit(self._stop_ours)
            self._beside = stack
            try:
                await self._begin()
            except BaseException:
                self._leaving = True
                await self._end()
                self._beside = None
                raise
            self._beside = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        beside, self._beside = self._beside, None
        if beside is None:
            return
        try:
            await beside.__aexit__(kind, error, trace)
        finally:
            self._leaving = True
            await self._end()
        if self._ended and error is None:
            raise ConfigurationError(_ENDED)

    async def _stop_ours(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await WorkerContext.__aexit__(self, kind, error, trace)

    async def _begin(self) -> None:
        """Start Hatchet's worker in a thread, and wait until it listens."""
        self._thread = threading.Thread(target=self._run, name="mageflow-hatchet-worker", daemon=True)
        self._thread.start()
        await self._while(self._thread, _DOES_NOT_LISTEN)
        if not self._thread.is_alive():
            raise ConfigurationError(
                "the Hatchet worker could not start; its log says why (most often: the server cannot be reached, "
                "or it refuses the declaration of a task)"
            )
        self._know_tasks()

    async def _while(self, thread: threading.Thread, statuses: tuple[WorkerStatus, ...]) -> None:
        """Wait while Hatchet's worker has one of these, and its thread has not ended."""
        while thread.is_alive() and self.status in statuses:  # noqa: ASYNC110 - no event of the SDK's tells it
            await asyncio.sleep(_LOOK_EVERY)

    def _run(self) -> None:
        try:
            self._listen()
        except SystemExit:
            logger.debug("the Hatchet worker has ended")
        except Exception:
            logger.exception("the Hatchet worker has failed")
        finally:
            loop = loop_of(self)
            if loop is not None and not loop.is_running():
                loop.close()
            self._note_end()

    def _note_end(self) -> None:
        """Note that Hatchet's worker has ended; nothing is brought any more, so that nothing can be waited for."""
        if not self._leaving:
            self._ended = True
            logger.error(_ENDED)
            self._carrier.deliveries.end()

    async def _end(self) -> None:
        """End Hatchet's worker: its runs have ended by now."""
        thread = self._thread
        if thread is None:
            return
        await self._while(thread, _BEGINS)  # it cannot be ended before
        loop = loop_of(self)
        if loop is None or not thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self.exit_gracefully(), loop)  # it stops its loop, and so never answers
        await asyncio.to_thread(thread.join, self._settings.grace + _ENDS_WITHIN + _LISTENER_ENDS_WITHIN)
        if thread.is_alive():
            logger.error("the Hatchet worker %s did not end: a run of Hatchet's own still executes", self.name)


def _refuse_import() -> None:
    """Refuse to start while the listener process of a worker imports the program.

    Raises:
        ConfigurationError: naming the guard that is missing.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigurationError(
            "the Hatchet worker starts a process that imports your program again, and the import starts a worker: put "
            "what starts it below `if __name__ == '__main__':`"
        )
