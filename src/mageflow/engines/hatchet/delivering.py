"""What Hatchet calls: one of our runs is handed to the core, a run of Hatchet's own gets its body as it is."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
from hatchet_sdk import Context, Depends
from msgspec import Raw

from mageflow.engines.hatchet.declaring import time_to_add
from mageflow.engines.hatchet.envelope import Envelope
from mageflow.engines.hatchet.outcomes import tell
from mageflow.engines.hatchet.sdk import DeclaredTask, dependencies, entry_signature, show_message
from mageflow.errors import MageflowError
from mageflow.ports.engine import Declared, Delivered, Handler, Inject, Reported

__all__ = ["Deliveries", "entry_of"]

logger = logging.getLogger("mageflow.hatchet")

_LOOK_EVERY = 0.1
"""Seconds between two looks at whether Hatchet has called something off: its own exception comes a second later."""


class Deliveries:
    """The deliveries of Hatchet that execute in this process, and where they are executed."""

    def __init__(self) -> None:
        self._handler: Handler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[Context, str] = {}
        """The deliveries that execute, and their runs."""
        self._some = asyncio.Event()
        """Whether there are any."""
        self._over = False
        self._called_off: set[Context] = set()
        self._tasks: set[asyncio.Task[Any]] = set()  # the event loop itself holds tasks weakly

    async def serve(self, handler: Handler) -> None:
        """Execute what is brought with `handler`, in the running event loop, until cancelled, or `end`."""
        self._over = False
        before = self._handler, self._loop, self._some
        self._handler, self._loop, self._some = handler, asyncio.get_running_loop(), asyncio.Event()
        try:
            while not self._over:
                await self._some.wait()
                await asyncio.sleep(_LOOK_EVERY)
                await self._look(handler)
        finally:
            self._handler, self._loop, self._some = before

    def limit_of(self, run: str) -> float | None:
        """Give the seconds that the body of a run which executes here may take."""
        return self._handler.limit_of(run) if self._handler is not None else None

    async def _look(self, handler: Handler) -> None:
        """Tell the core of what Hatchet has called off."""
        for ctx, run in list(self._open.items()):
            if not ctx.is_cancelled and ctx not in self._called_off:
                continue
            try:
                await handler.call_off(run)
                self._forget(ctx)
            except MageflowError as error:
                logger.warning(
                    "run %s was called off by Hatchet; the store did not answer (%s), again soon", run, error
                )
        if not self._open and not self._over:
            self._some.clear()

    def _forget(self, ctx: Context) -> None:
        self._open.pop(ctx, None)
        self._called_off.discard(ctx)

    def end(self) -> None:
        """Know that nothing more is brought; from any thread."""
        self._over = True
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._some.set)

    async def bring(self, envelope: Envelope, ctx: Context, inject: Inject) -> Delivered:
        """Hand a delivery to the core, and wait for what becomes of it; cancelling this cancels nothing there."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._handler is None:
            return await asyncio.shield(asyncio.wrap_future(self.begin(envelope, ctx, inject)))
        return await asyncio.shield(self._start(loop, self._handler, contextvars.copy_context(), envelope, ctx, inject))

    def begin(self, envelope: Envelope, ctx: Context, inject: Inject) -> concurrent.futures.Future[Delivered]:
        """Hand a delivery to the core, in a task of its own on the event loop that serves; from any thread.

        The task has the context of the caller, so that what a body starts on Hatchet is a child of its run there.
        """
        answer: concurrent.futures.Future[Delivered] = concurrent.futures.Future()
        handler, loop = self._handler, self._loop
        if handler is None or loop is None:
            answer.set_result(Delivered(Reported.HELD_BACK))
            return answer
        context = contextvars.copy_context()

        def start() -> None:
            self._start(loop, handler, context, envelope, ctx, inject).add_done_callback(end)

        def end(task: asyncio.Task[Delivered]) -> None:
            if task.cancelled():
                answer.cancel()
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        loop.call_soon_threadsafe(start)
        return answer

    def _start(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        context: contextvars.Context,
        envelope: Envelope,
        ctx: Context,
        inject: Inject,
    ) -> asyncio.Task[Delivered]:
        task = loop.create_task(self._deliver(handler, envelope.run, ctx, inject), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _deliver(self, handler: Handler, run: str, ctx: Context, inject: Inject) -> Delivered:
        self._open[ctx] = run
        self._some.set()
        try:
            return await handler.deliver(run, ref=ctx.workflow_run_id, inject=inject)
        except (KeyboardInterrupt, SystemExit) as error:  # would end the loop, and leave a worker that looks alive
            raise RuntimeError(f"the delivery of run {run} was ended by {type(error).__name__}") from error
        finally:
            self._forget(ctx)

    def call_off(self, ctx: Context) -> None:
        """Know that Hatchet has called a delivery off, though its context may not say so; from any thread."""
        if ctx in self._open:
            self._called_off.add(ctx)


def entry_of(task: Declared, deliveries: Deliveries, declared_task: Callable[[], DeclaredTask]) -> Callable[..., Any]:
    """Give the function that Hatchet calls for `task`; like the user's own it is async or not.

    Args:
        task: the task.
        deliveries: where our runs are handed to the core.
        declared_task: gives the Hatchet task, once it is declared.
    """
    body = task.body

    def natively(message: Any, ctx: Any, injected: Mapping[str, Any]) -> Any:
        args, kwargs = body.arguments(message, injected={**_contexts(task, ctx), **injected})
        return task.fn(*args, **kwargs)

    def injection(run: str, ctx: Any) -> Inject:
        def inject(message: Any, frozen: Raw) -> AbstractAsyncContextManager[Mapping[str, Any]]:
            show_message(ctx, msgspec.json.decode(frozen))
            return _injected(task, declared_task(), ctx, message, deliveries.limit_of(run))

        return inject

    async def entry_async(message: Any, ctx: Any, **injected: Any) -> Any:
        if not isinstance(message, Envelope):
            return await natively(message, ctx, injected)
        try:
            delivered = await deliveries.bring(message, ctx, injection(message.run, ctx))
        except asyncio.CancelledError:
            deliveries.call_off(ctx)
            raise
        return tell(delivered, message.run)

    def entry_in_thread(message: Any, ctx: Any, **injected: Any) -> Any:
        if not isinstance(message, Envelope):
            return natively(message, ctx, injected)
        return tell(deliveries.begin(message, ctx, injection(message.run, ctx)).result(), message.run)

    entry: Any = entry_async if body.is_async else entry_in_thread
    markers = {each.name: each.marker for each in body.dependencies if _is_dependency(each.marker)}
    entry.__name__ = getattr(task.fn, "__name__", task.name)
    entry.__doc__ = task.fn.__doc__
    entry.__signature__ = entry_signature(markers)
    made: Callable[..., Any] = entry
    return made


@asynccontextmanager
async def _injected(
    task: Declared, declared: DeclaredTask, ctx: Context, message: Any, limit: float | None
) -> AsyncGenerator[Mapping[str, Any]]:
    """Give what Hatchet injects into a body: its context, and the task's dependencies."""
    more = time_to_add(declared.execution_timeout, limit)
    if more is not None:
        await ctx.aio_refresh_timeout(more)
    given = _contexts(task, ctx)
    if all(each.name in given for each in task.body.dependencies):
        yield given
        return
    async with dependencies(declared, ctx, message) as found:
        yield {**given, **found}


def _is_dependency(marker: Any) -> bool:
    return isinstance(marker, Depends)


def _contexts(task: Declared, ctx: Any) -> dict[str, Any]:
    """Give the context for the parameters that ask for it, by their type or as `ctx`."""
    asked = (each for each in task.body.dependencies if isinstance(each.marker, type))
    given = {each.name: ctx for each in asked if issubclass(each.marker, Context)}
    return {**given, "ctx": ctx} if task.body.wants_ctx else given
