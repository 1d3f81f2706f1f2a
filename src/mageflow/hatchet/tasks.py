"""What `@hatchet.task` takes and gives, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypedDict, TypeVar, overload

from hatchet_sdk import ConcurrencyExpression, DefaultFilter, DesiredWorkerLabel, Priority, RateLimit, StickyStrategy

from mageflow.engines.hatchet import Handle
from mageflow.tasks import Task

__all__ = ["Decorator", "HatchetTask", "HatchetTaskOptions", "ModelDecorator"]

P = ParamSpec("P")
M = TypeVar("M")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")

Async = Coroutine[Any, Any, R]


class HatchetTaskOptions(TypedDict, total=False):
    """The options of a task on Hatchet: those of every engine, and Hatchet's own. Durations may be text: `"10m"`."""

    delay: float | timedelta | None
    retries: int | None
    backoff_factor: float | None
    backoff_max_seconds: float | timedelta | None
    execution_timeout: float | timedelta | str | None
    schedule_timeout: float | timedelta | str | None
    priority: int | None
    retry_on: type[Exception] | Sequence[type[Exception]] | None
    give_up_on: type[Exception] | Sequence[type[Exception]] | None
    concurrency: int | str | ConcurrencyExpression | Sequence[ConcurrencyExpression] | None
    cron_input: Any
    default_additional_metadata: Mapping[str, Any] | None
    default_filters: list[DefaultFilter] | None
    default_priority: int | Priority
    description: str | None
    desired_worker_labels: dict[str, DesiredWorkerLabel] | list[DesiredWorkerLabel] | None
    on_crons: list[str] | None
    on_events: list[str] | None
    rate_limits: list[RateLimit] | None
    slot_cost: int | None
    sticky: StickyStrategy | None
    version: str | None


if TYPE_CHECKING:

    class HatchetTask(Task[P, M, R, F], Handle):  # type: ignore[misc]
        """A real Hatchet `Standalone`, which can also be called as the function that it was, and signed."""

else:
    HatchetTask = Handle


class Decorator(Protocol):
    """`@hatchet.task(...)`: the message's type is that of the function's first parameter."""

    @overload
    def __call__(self, fn: Callable[[], Async[R]], /) -> HatchetTask[[], None, R, Callable[[], Async[R]]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[M, P], Async[R]], /
    ) -> HatchetTask[P, M, R, Callable[Concatenate[M, P], Async[R]]]: ...
    @overload
    def __call__(self, fn: Callable[[], R], /) -> HatchetTask[[], None, R, Callable[[], R]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[M, P], R], /
    ) -> HatchetTask[P, M, R, Callable[Concatenate[M, P], R]]: ...


class ModelDecorator(Protocol[V]):
    """`@hatchet.task(input_validator=Model)`: the message's type is the validator's."""

    @overload
    def __call__(self, fn: Callable[P, Async[R]], /) -> HatchetTask[P, V, R, Callable[P, Async[R]]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> HatchetTask[P, V, R, Callable[P, R]]: ...
