"""The edge of hatchet-sdk: everything that is used of it beyond its public names, in one place.

A private name is used where the SDK has no other way to say a thing. `tests/engines/hatchet/test_edge.py` holds each
of them against the installed SDK, so that a release that moves one is found before its users find it.
"""

# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Annotated, Any

from hatchet_sdk import Context, Hatchet, Worker
from hatchet_sdk.features.stubs import StubsClient
from hatchet_sdk.features.workers import WorkersClient
from hatchet_sdk.runnables.task import Task
from hatchet_sdk.runnables.workflow import BaseWorkflow, Standalone
from hatchet_sdk.utils.slots import normalize_slot_config, resolve_worker_slot_config
from hatchet_sdk.utils.timedelta_to_expression import expr_to_timedelta
from hatchet_sdk.utils.typing import STOP_LOOP
from pydantic import TypeAdapter

from mageflow.engines.hatchet.envelope import as_output, is_envelope, resolving

__all__ = [
    "BaseWorkflow",
    "DeclaredTask",
    "Handle",
    "Standalone",
    "StubsClient",
    "WorkersClient",
    "adopt",
    "client_of",
    "dependencies",
    "end_listeners",
    "entry_signature",
    "expr_to_timedelta",
    "listeners_of",
    "loop_of",
    "show_message",
    "slots_of",
    "stop_listening",
]

_HEARD_WITHIN = 5.0
"""Seconds that a listener process may take to hear that it is to stop."""


class DeclaredTask(Task[Any, Any]):
    """A Hatchet task whose dependencies are resolved when the message is known.

    Hatchet resolves them before the body is called, and gives them the input. That of one of our runs is an envelope,
    so they are left alone then, and resolved by `dependencies` later.
    """

    def _unpack_dependencies_with_cleanup(self, ctx: Any) -> Any:
        if is_envelope(ctx._workflow_input) and resolving.get() is None:
            return _none()
        return super()._unpack_dependencies_with_cleanup(ctx)


@asynccontextmanager
async def _none() -> AsyncGenerator[dict[str, Any]]:
    yield {}


@asynccontextmanager
async def dependencies(task: DeclaredTask, ctx: Context, message: Any) -> AsyncGenerator[dict[str, Any]]:
    """Resolve the dependencies of a task with the message that its body receives; clean up after them."""
    token = resolving.set((message,))
    try:
        entered = task._unpack_dependencies_with_cleanup(ctx)
        found = await entered.__aenter__()
    finally:
        resolving.reset(token)
    try:
        yield found
    finally:
        await entered.__aexit__(None, None, None)


def show_message(ctx: Context, message: Mapping[str, Any]) -> None:
    """Let a context's own `workflow_input` be the message that the body receives."""
    ctx._input = dict(message)


def loop_of(worker: Worker) -> asyncio.AbstractEventLoop | None:
    """Give the event loop that a worker has made, once it has."""
    return worker._loop


def listeners_of(worker: Worker) -> list[BaseProcess]:
    """Give the processes that listen for a worker, of those that live: one, or two with a server before slot types."""
    started = (worker._action_listener_process, worker._durable_action_listener_process)
    return [process for process in started if process is not None and process.is_alive()]


def stop_listening(worker: Worker) -> None:
    """Tell the processes that listen for a worker to take nothing more.

    Setting the event waits for those that wait for it to wake up: for ever, where one was killed or hangs.
    """
    if listeners_of(worker):
        telling = threading.Thread(target=worker._stop_listener_event.set, name="mageflow-hatchet-stop", daemon=True)
        telling.start()
        telling.join(_HEARD_WITHIN)


def end_listeners(worker: Worker, within: float) -> list[int | None]:
    """End the processes that listen for a worker whose work has ended; give the ids of those that had to be killed.

    Hatchet's worker tells them to stop, and leaves it to the end of the program to wait for them, which has no limit.
    One that has put actions on a queue that nobody reads any more waits as long itself, once they are more than a pipe
    holds; and one whose server is gone tries for minutes to send what it has.

    Args:
        worker: its loop does not run any more.
        within: seconds that each of them has.
    """
    listeners = listeners_of(worker)
    stop_listening(worker)
    for queue in (worker._event_queue, worker._durable_event_queue):
        if queue is not None and listeners:
            with contextlib.suppress(ValueError):  # it is closed: they have been told
                queue.put(STOP_LOOP)
    killed: list[int | None] = []
    for process in listeners:
        process.join(within)
        if process.is_alive():
            process.kill()
            process.join()
            killed.append(process.pid)
    return killed


def client_of(hatchet: Hatchet) -> Any:
    """Give what all clients of a Hatchet client share."""
    return hatchet._client


def slots_of(slots: int, durable_slots: int | None, workflows: Sequence[BaseWorkflow[Any]]) -> dict[str, int]:
    """Give the slots of a worker by their kind, with those for durable tasks where there are any."""
    return normalize_slot_config(resolve_worker_slot_config(None, slots, durable_slots, list(workflows)))


class Handle(Standalone[Any, Any]):
    """What `@hatchet.task` gives: a real Hatchet `Standalone`, which can also be called as the function that it was.

    Attributes:
        fn: the function.
    """

    __name__: str

    def __init__(self, made: Standalone[Any, Any], fn: Callable[..., Any], ours: Any) -> None:
        super().__init__(made._workflow, made._task)
        self.fn = fn
        self._ours = ours
        self.__wrapped__ = fn
        for name in ("__doc__", "__name__", "__qualname__", "__module__"):
            if hasattr(fn, name):
                setattr(self, name, getattr(fn, name))

    if not TYPE_CHECKING:  # checkers take it from the function, where they know that

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self._config.name!r} on Hatchet>"

    def __getattr__(self, name: str) -> Any:
        """Give what mageflow's tasks have on every engine, and Hatchet's do not."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._ours, name)

    @property
    def declared(self) -> DeclaredTask:
        """The one task of this workflow."""
        assert isinstance(self._task, DeclaredTask)
        return self._task


def adopt(made: Standalone[Any, Any], fn: Callable[..., Any], model: Any, ours: Any) -> Handle:
    """Give the handle of a task that was declared by the SDK's own decorator; `ours` is the one of every engine."""
    task = made._task
    task.__class__ = DeclaredTask
    validators: Any = task._validators
    validators.step_output = TypeAdapter(as_output(validators.step_output._type))
    made._config.input_validator._type = model  # what `input_validator_type` shows
    return Handle(made, fn, ours)


def entry_signature(injected: Mapping[str, Any]) -> inspect.Signature:
    """Give the signature by which Hatchet finds what a task depends on, whatever its own parameters are."""
    kinds = inspect.Parameter
    parameters = [kinds("message", kinds.POSITIONAL_OR_KEYWORD), kinds("ctx", kinds.POSITIONAL_OR_KEYWORD)]
    for name, marker in injected.items():
        parameters.append(kinds(name, kinds.KEYWORD_ONLY, annotation=Annotated[Any, marker]))
    return inspect.Signature(parameters)
