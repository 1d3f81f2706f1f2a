"""The client on Hatchet: `hatchet = Mageflow(hatchet, redis)`, used in the place of the Hatchet client."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from hatchet_sdk import Hatchet
from hatchet_sdk.config import ClientConfig
from hatchet_sdk.worker.worker import LifespanFn
from typing_extensions import Unpack

from mageflow.client import Mageflow
from mageflow.config import AcceptParams, MageflowConfig
from mageflow.core.records import replace
from mageflow.engines.hatchet import (
    BaseWorkflow,
    HatchetEngine,
    StubsClient,
    WorkersClient,
    client_of,
    followed,
    seconds,
    slots_of,
)
from mageflow.errors import ConfigurationError
from mageflow.hatchet import shaping
from mageflow.hatchet.tasks import Decorator, HatchetTask, HatchetTaskOptions, ModelDecorator
from mageflow.hatchet.worker import HatchetWorker
from mageflow.models.message import ContextMessage
from mageflow.runtime.registry import RegisteredTask
from mageflow.workers import settings_of

__all__ = ["HatchetMageflow"]

P = ParamSpec("P")
M = TypeVar("M")
R = TypeVar("R")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])

Async = Coroutine[Any, Any, R]


class HatchetMageflow(Mageflow, Hatchet):
    """Mageflow on Hatchet, and a Hatchet client: every attribute that is Hatchet's stays so.

    Args:
        engine: the Hatchet client; also `hatchet_client=`.
        store: where signatures and runs are kept; also `redis_client=`.
        param_config: what functions of tasks take beside the message; as in `config`.
        config: settings.
    """

    def __init__(
        self,
        engine: Hatchet | HatchetEngine | None = None,
        store: Any = None,
        *,
        hatchet_client: Hatchet | None = None,
        redis_client: Any = None,
        param_config: AcceptParams | None = None,
        config: MageflowConfig | None = None,
    ) -> None:
        given: Any = engine if engine is not None else hatchet_client
        carrier = given if isinstance(given, HatchetEngine) else None
        given = carrier.hatchet if carrier is not None else given
        if not isinstance(given, Hatchet):
            raise ConfigurationError(
                f"{given!r} is no Hatchet client; write Mageflow(Hatchet(), 'redis://localhost:6379/0')"
            )
        hatchet: Hatchet = given.hatchet if isinstance(given, HatchetMageflow) else given
        self.hatchet: Hatchet = hatchet
        self._client = client_of(hatchet)
        settings = config if config is not None else MageflowConfig()
        if param_config is not None:
            settings = dataclasses.replace(settings, param_config=param_config)
        super().__init__(
            carrier or HatchetEngine(hatchet), store if store is not None else redis_client, config=settings
        )

    def __getattr__(self, name: str) -> Any:
        """Give what a Hatchet client of the user's own kind has beside."""
        if name in ("hatchet", "_kernel"):  # not there yet
            raise AttributeError(name)
        return getattr(self.hatchet, name)

    # What is Hatchet's own

    @property
    def config(self) -> ClientConfig:
        """Hatchet's settings; mageflow's own are `mageflow_config`."""
        return self.hatchet.config

    @property
    def workers(self) -> WorkersClient:  # type: ignore[override]
        """Hatchet's workers; those that the store knows are given by `find_workers()`."""
        return self.hatchet.workers

    @property
    def stubs(self) -> StubsClient:
        """Hatchet's stubs, for tasks whose code is elsewhere."""
        return self.hatchet.stubs

    # Tasks

    @overload  # type: ignore[override]
    def task(self, fn: Callable[[], Async[R]], /) -> HatchetTask[[], None, R, Callable[[], Async[R]]]: ...
    @overload
    def task(
        self, fn: Callable[Concatenate[M, P], Async[R]], /
    ) -> HatchetTask[P, M, R, Callable[Concatenate[M, P], Async[R]]]: ...
    @overload
    def task(self, fn: Callable[[], R], /) -> HatchetTask[[], None, R, Callable[[], R]]: ...
    @overload
    def task(self, fn: Callable[Concatenate[M, P], R], /) -> HatchetTask[P, M, R, Callable[Concatenate[M, P], R]]: ...
    @overload
    def task(
        self, name: str | None = None, *, input_validator: type[V], **options: Unpack[HatchetTaskOptions]
    ) -> ModelDecorator[V]: ...
    @overload
    def task(
        self, name: str | None = None, *, input_validator: None = None, **options: Unpack[HatchetTaskOptions]
    ) -> Decorator: ...

    def task(self, *target: Any, **given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Register a function as a task, with the options of every engine and those of `Hatchet.task`.

        What it gives is a Hatchet `Standalone`: it can be run, scheduled and listed as one, passed to a worker, called
        as the function that it was, and signed. Runs that Hatchet starts by itself (`.run`, a cron, an event) are plain
        runs of Hatchet.

        Raises:
            TaskShapeError: if the function's parameters cannot be served.
            ModelShapeError: if the message's model cannot be one.
            OptionError: for an option that is unknown, or has a value that cannot be used.
            DuplicateTaskError: if another function is registered under the name.
        """
        return self._decorate(target, _plain_durations(given), {})

    @overload  # type: ignore[override]
    def durable_task(self, fn: Callable[[], Async[R]], /) -> HatchetTask[[], None, R, Callable[[], Async[R]]]: ...
    @overload
    def durable_task(
        self, fn: Callable[Concatenate[M, P], Async[R]], /
    ) -> HatchetTask[P, M, R, Callable[Concatenate[M, P], Async[R]]]: ...
    @overload
    def durable_task(self, fn: Callable[[], R], /) -> HatchetTask[[], None, R, Callable[[], R]]: ...
    @overload
    def durable_task(
        self, fn: Callable[Concatenate[M, P], R], /
    ) -> HatchetTask[P, M, R, Callable[Concatenate[M, P], R]]: ...
    @overload
    def durable_task(
        self, name: str | None = None, *, input_validator: type[V], **options: Unpack[HatchetTaskOptions]
    ) -> ModelDecorator[V]: ...
    @overload
    def durable_task(
        self, name: str | None = None, *, input_validator: None = None, **options: Unpack[HatchetTaskOptions]
    ) -> Decorator: ...

    def durable_task(self, *target: Any, **given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Register a function as a durable task of Hatchet's: as `task`, with the options of `Hatchet.durable_task`."""
        return self._decorate(target, _plain_durations(given), {"durable": True})

    def _function_of(self, fn: Any) -> Any:
        return shaping.function_of(fn, self.mageflow_config.param_config)

    def _register_task(self, task: RegisteredTask, handle: Any) -> Any:
        """Register a task with what the core follows of its declaration, and let Hatchet see the declaration itself."""
        declared = task.options
        if declared.priority is None and task.native.get("default_priority") is not None:
            declared = replace(declared, priority=int(task.native["default_priority"]))
        native = {name: value for name, value in task.native.items() if name != "default_priority"}
        core = followed(declared)
        longer = getattr(task.fn, shaping.STAGGER, 0.0)
        if longer and core.execution_timeout is not None:
            core = replace(core, execution_timeout=core.execution_timeout + longer)
        says_nothing = handle.input_validator is None and _is_open(task)
        kept = replace(task, options=core, native={**native, "declared": declared, "open": says_nothing})
        return super()._register_task(kept, handle)

    def with_ctx(self, fn: F) -> F:
        """Mark a function whose second parameter is Hatchet's context, whatever it is called."""
        return shaping.with_ctx(fn)

    def with_signature(self, fn: F) -> F:
        """Mark a function that has a parameter `signature`; the parameter alone says the same."""
        return shaping.with_signature(fn)

    def stagger_execution(self, wait_delta: timedelta) -> Callable[[F], F]:
        """Let each run of a task wait for a random time before its body begins; its time limits are longer by that.

        Args:
            wait_delta: how long at most.
        """

        def decorate(fn: F) -> F:
            return cast("F", shaping.stagger(fn, wait_delta, self._kernel.tx.entropy))

        return decorate

    # Workers

    def worker(  # noqa: PLR0913 - Hatchet's six, and three of ours
        self,
        name: str | None = None,
        slots: int | None = None,
        durable_slots: int | None = None,
        labels: dict[str, str | int] | None = None,
        workflows: Sequence[BaseWorkflow[Any]] | None = None,
        lifespan: LifespanFn | None = None,
        *,
        concurrency: int = 100,
        drain: bool = True,
        grace: float = 10.0,
    ) -> HatchetWorker:
        """Make a worker: a Hatchet `Worker` with `start()`, and a worker for `async with`.

        Args:
            name: what people read; None: one is made.
            slots: how many bodies run at once; the same as `concurrency`.
            durable_slots: how many bodies of durable tasks run at once.
            labels: Hatchet's labels of a worker.
            workflows: tasks and workflows; None: all tasks of this client.
            lifespan: Hatchet's lifespan: a generator that gives what bodies find in `ctx.lifespan`.
            concurrency: how many bodies run at once.
            drain: whether leaving the block normally first runs all that is due.
            grace: seconds that bodies may go on when the worker stops without draining.
        """
        count = slots if slots is not None else concurrency
        settings = settings_of(self.mageflow_config, name=name, concurrency=count, drain=drain, grace=grace)
        engine = self._kernel.engine
        assert isinstance(engine, HatchetEngine)
        served: list[Any] = list(workflows) if workflows is not None else list(engine.handles.values())
        for each in served:
            if not isinstance(each, BaseWorkflow):
                raise TypeError(f"workflows= takes tasks and workflows of Hatchet's, not {each!r}")
        return HatchetWorker(
            self._kernel,
            self,
            settings,
            self.load_signature,
            lifespan=lifespan,
            name=name or "mageflow",
            slot_config=slots_of(count, durable_slots, served),
            labels=labels,
            config=self.config,
            debug=self._client.debug,
            workflows=served,
        )


def _plain_durations(given: dict[str, Any]) -> dict[str, Any]:
    """Give the options with those durations as spans of time that Hatchet writes as text."""
    names = ("execution_timeout", "schedule_timeout", "backoff_max_seconds")
    return {name: seconds(value) if name in names else value for name, value in given.items()}


def _is_open(task: RegisteredTask) -> bool:
    """Whether the function says nothing of its message."""
    if task.body.message.annotation is not ContextMessage or task.body.parameter is None:
        return False
    return inspect.signature(task.fn).parameters[task.body.parameter].annotation is inspect.Parameter.empty
