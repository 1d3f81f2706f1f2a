"""Running a worker inside a program: `async with mage.worker():`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

from mageflow.config import MageflowConfig
from mageflow.errors import ConfigurationError, MageflowError
from mageflow.runtime.declaring import discover
from mageflow.runtime.execute import Executor
from mageflow.runtime.heart import Heart
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.logbook import Logbook
from mageflow.runtime.recovery import Patience
from mageflow.runtime.worker import Worker, WorkerSettings

__all__ = ["WorkerContext", "lifespan"]


class WorkerContext:
    """A worker that runs while its `async with` block does.

    Leaving the block normally first runs all that is due (`drain`), callbacks included; delayed runs stay stored.
    Leaving it by an exception stops at once: what runs has `grace` seconds to end, and is handed back otherwise.
    """

    def __init__(self, kernel: Kernel, client: Any, settings: WorkerSettings, load_signature: Any) -> None:
        self._kernel = kernel
        self._settings = settings
        self._executor = Executor(
            kernel.tx,
            kernel.registry,
            client=client,
            load_signature=load_signature,
            threads=settings.concurrency,
            logbook=Logbook(messages=kernel.config.log_messages),
        )
        self._worker: Worker | None = None

    async def __aenter__(self) -> Self:
        self._kernel.check_open()
        if self._worker is not None:
            raise MageflowError("this worker is running already; make another one with mage.worker()")
        kernel, settings = self._kernel, self._settings
        discover(kernel.registry, kernel.engine)
        heart = Heart(kernel.store.beater, every=settings.beat, max_stall=kernel.config.seconds("max_stall"))
        worker = Worker(kernel.tx, kernel.registry, kernel.engine, self._executor, settings, heart)
        await worker.start()
        self._worker = worker
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(drain=self._settings.drain and error is None)

    @property
    def key(self) -> str:
        """The key of the worker's record.

        Raises:
            MageflowError: the worker is not running.
        """
        if self._worker is None:
            raise MageflowError("this worker is not running; enter it with `async with`")
        return self._worker.key

    async def run_forever(self) -> None:
        """Run until cancelled; then stop without draining."""
        async with self:
            await asyncio.get_running_loop().create_future()


def settings_of(
    config: MageflowConfig, *, name: str | None, concurrency: int, drain: bool, grace: float
) -> WorkerSettings:
    """Give a worker's settings.

    Raises:
        ConfigurationError: a value that cannot be used.
    """
    given: Any = concurrency  # where no checker looked it may be anything
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigurationError(f"concurrency={concurrency!r} is not allowed; give a whole number of 1 or more")
    return WorkerSettings(
        name=name,
        concurrency=concurrency,
        drain=drain,
        grace=grace,
        redeliver_after=config.seconds("redeliver_after"),
        patience=Patience(
            lease=config.seconds("lease"),
            unknown_task_after=config.seconds("unknown_task_after"),
            max_losses=config.max_worker_losses,
        ),
    )


def lifespan(make: Callable[[], WorkerContext]) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Give a lifespan for FastAPI and Starlette: a worker that runs while the application does."""

    @asynccontextmanager
    async def run(app: Any) -> AsyncGenerator[None]:
        async with make():
            yield

    return run
