"""What `@mage.task` gives, and the decorator in all its forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, cast, overload

from typing_extensions import Unpack

from mageflow.config import RunOptions
from mageflow.core.ids import SIGNATURE
from mageflow.errors import OptionError, TaskShapeError, near
from mageflow.runtime.bodies import inspect_body, name_of
from mageflow.runtime.registry import RegisteredTask

__all__ = ["Task", "TaskDecorator", "TaskOptions"]

if TYPE_CHECKING:
    from mageflow.composites import SwarmTaskSignature

P = ParamSpec("P")
M = TypeVar("M")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")


class TaskOptions(TypedDict, total=False):
    """The options of a task: those of `RunOptions`, whose values beat them, and what only a task can say."""

    delay: float | timedelta | None
    retries: int | None
    backoff_factor: float | None
    backoff_max_seconds: float | timedelta | None
    execution_timeout: float | timedelta | None
    schedule_timeout: float | timedelta | None
    priority: int | None
    retry_on: type[Exception] | Sequence[type[Exception]] | None
    give_up_on: type[Exception] | Sequence[type[Exception]] | None


class Task(Generic[P, M, R, F]):
    """A function that is registered under a name. It is called as the plain function that it was.

    Its type arguments are the parameters beside the message, the message, what the body returns, and the function.

    Attributes:
        name: the name that it is registered under.
        fn: the function.
        options: how its runs are executed where neither the run nor the signature says otherwise.
        input_validator: the type of its message, where the decorator was given one.
        native: what the engine keeps of it, where it keeps anything: on Taskiq its own task, with `.kiq`.
    """

    def __init__(
        self,
        registered: RegisteredTask,
        options: RunOptions,
        input_validator: Any = None,
        *,
        swarm_of: Callable[..., Coroutine[Any, Any, SwarmTaskSignature[Any, Any]]] | None = None,
    ) -> None:
        self._swarm_of = swarm_of
        self.name = registered.name
        self.fn = cast("F", registered.fn)
        self.options = options
        self.input_validator = input_validator
        self.native: Any = None
        self.__wrapped__ = registered.fn
        # Not its `__dict__`: an attribute of the function's must not replace one of the task's.
        update_wrapper(cast("Callable[..., Any]", self), registered.fn, updated=())

    if TYPE_CHECKING:

        @property
        def __call__(self) -> F:  # a property, so that checkers see the function's own parameters
            ...

    else:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.fn(*args, **kwargs)

    async def map(
        self, inputs: Iterable[M | Mapping[str, Any] | None], /, task_name: str | None = None, **given: Any
    ) -> SwarmTaskSignature[Any, R]:
        """Keep a closed swarm of as many members as there are inputs, on this task's client: see `Mageflow.swarm`.

        Args:
            inputs: a message for each member, in member order.
            task_name: what people know the swarm by.
            **given: what `swarm` takes: callbacks, `config`, bound data.
        """
        assert self._swarm_of is not None, "a task that @mage.task made knows its client"
        return await self._swarm_of(self, inputs, task_name=task_name, **given)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


Async = Coroutine[Any, Any, R]


class _Decorator(Protocol):
    """`@mage.task(...)`: the message's type is that of the function's first parameter."""

    @overload
    def __call__(self, fn: Callable[[], Async[R]], /) -> Task[[], None, R, Callable[[], Async[R]]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[M, P], Async[R]], /
    ) -> Task[P, M, R, Callable[Concatenate[M, P], Async[R]]]: ...
    @overload
    def __call__(self, fn: Callable[[], R], /) -> Task[[], None, R, Callable[[], R]]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[M, P], R], /) -> Task[P, M, R, Callable[Concatenate[M, P], R]]: ...


class _ModelDecorator(Protocol[V]):
    """`@mage.task(input_validator=Model)`: the message's type is the validator's."""

    @overload
    def __call__(self, fn: Callable[P, Async[R]], /) -> Task[P, V, R, Callable[P, Async[R]]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, V, R, Callable[P, R]]: ...


class TaskDecorator(ABC):
    """The decorator `task`, for a client to inherit."""

    @abstractmethod
    def _register_task(self, task: RegisteredTask, handle: Any) -> Any:
        """Keep a task, and give what the user gets: `handle`, or what the engine makes of it.

        Raises:
            DuplicateTaskError: if another function has its name.
        """

    @abstractmethod
    async def _swarm_of(
        self, task: Task[..., Any, Any, Any], inputs: Iterable[Any], **given: Any
    ) -> SwarmTaskSignature[Any, Any]:
        """Keep a closed swarm with a member of `task` for each of `inputs`."""

    @abstractmethod
    def _engine_name(self) -> str:
        """Give the name of the engine that runs the tasks, such as `local` or `hatchet`."""

    @overload
    def task(self, fn: Callable[[], Async[R]], /) -> Task[[], None, R, Callable[[], Async[R]]]: ...
    @overload
    def task(
        self, fn: Callable[Concatenate[M, P], Async[R]], /
    ) -> Task[P, M, R, Callable[Concatenate[M, P], Async[R]]]: ...
    @overload
    def task(self, fn: Callable[[], R], /) -> Task[[], None, R, Callable[[], R]]: ...
    @overload
    def task(self, fn: Callable[Concatenate[M, P], R], /) -> Task[P, M, R, Callable[Concatenate[M, P], R]]: ...
    @overload
    def task(
        self, name: str | None = None, *, input_validator: type[V], **options: Unpack[TaskOptions]
    ) -> _ModelDecorator[V]: ...
    @overload
    def task(
        self, name: str | None = None, *, input_validator: None = None, **options: Unpack[TaskOptions]
    ) -> _Decorator: ...

    def task(self, *target: Any, **given: Any) -> Any:
        """Register a function as a task: `@mage.task`, `@mage.task("name")`, `@mage.task(name=…, retries=2, …)`.

        The function takes nothing or one message: a model, a dataclass, a TypedDict, a dict; without an annotation, a
        `ContextMessage`. A parameter `ctx` or `signature` is injected. It may be async or not.

        Args:
            name: the name of the task; by default the function's.
            input_validator: the type of the message, whatever the annotation says.
            delay: seconds (or a `timedelta`) before a run may begin.
            retries: attempts after the first.
            backoff_factor: the pause before the n-th retry is `backoff_factor ** n` seconds; none by default.
            backoff_max_seconds: the longest such pause.
            execution_timeout: seconds (or a `timedelta`) that one attempt may take.
            schedule_timeout: seconds (or a `timedelta`) that a due run may wait for a worker.
            priority: 1 (the default) to 3.
            retry_on: the exception class, or classes, after which `retries` counts; others fail the run at once. Every
                exception by default. A timeout is always tried again.
            give_up_on: those among them that fail the run at once, as `NonRetryable` does.

        Raises:
            TaskShapeError: if the function's parameters cannot be served.
            ModelShapeError: if the message's model cannot be one, as with two `ReturnValue` marks.
            OptionError: for an option that is unknown, another engine's, or has a value that cannot be used.
            DuplicateTaskError: if another function is registered under the name.
        """
        return self._decorate(target, given, {})

    def _function_of(self, fn: Any) -> Any:
        """Give the function to register: of a task that is decorated again, its own."""
        return cast("Task[..., Any, Any, Any]", fn).fn if isinstance(fn, Task) else fn

    def _decorate(self, target: tuple[Any, ...], given: dict[str, Any], more: Mapping[str, Any]) -> Any:
        """Do what `task` says; `more` is for the engine alone."""
        first, name = _target(target, given)
        input_validator = given.pop("input_validator", None)
        retry_on = _exceptions(given, "retry_on", (Exception,))
        give_up_on = _exceptions(given, "give_up_on", ())
        options, native = _options(given, self._engine_name())

        def register(fn: Any) -> Any:
            fn = self._function_of(fn)
            chosen = name if name is not None else name_of(fn)
            body = inspect_body(fn, chosen, input_validator)
            registered = RegisteredTask(
                name=chosen,
                fn=fn,
                body=body,
                options=options.to_core(),
                retry_on=retry_on,
                give_up_on=give_up_on,
                native={**native, **more},
            )
            handle: Task[..., Any, Any, Any] = Task(registered, options, input_validator, swarm_of=self._swarm_of)
            return self._register_task(registered, handle)

        return register if first is None else register(first)


def _exceptions(
    given: dict[str, Any], option: str, default: tuple[type[Exception], ...]
) -> tuple[type[Exception], ...]:
    """Take an option that is an exception's class or several.

    Raises:
        OptionError: if it is anything else.
    """
    classes = given.pop(option, None)
    if classes is None:
        return default
    several = tuple(cast("Iterable[Any]", classes)) if isinstance(classes, list | tuple | set) else (classes,)
    for each in several:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise OptionError(
                f"{option}={classes!r} is not allowed; give an exception class or a tuple of them, as "
                f"{option}=(TimeoutError, ConnectionError)",
                option=option,
            )
    return several


def _target(target: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, str | None]:
    """Tell the forms of the decorator apart: give the function, if there is one already, and the name."""
    if len(target) > 1:
        raise OptionError("@mage.task takes one name or one function by position; give its options by name")
    first = target[0] if target else None
    name = given.pop("name", None)
    if isinstance(first, str):
        if name is not None:
            raise OptionError(f"@mage.task was given two names, {first!r} and {name!r}: give one", option="name")
        first, name = None, first
    if name is not None and (not isinstance(name, str) or not name or name.startswith(SIGNATURE)):
        raise TaskShapeError(
            f"{name!r} is no name for a task: give a string that is not empty and does not begin with {SIGNATURE!r}, "
            "as the keys of signatures do"
        )
    if first is not None and not callable(first):
        raise TaskShapeError(f"{first!r} is no function: put @mage.task above one")
    return first, name


_OWNERS: Mapping[str, frozenset[str]] = {
    "hatchet": frozenset(
        {
            "concurrency",
            "cron_input",
            "default_additional_metadata",
            "default_filters",
            "default_priority",
            "description",
            "desired_worker_labels",
            "eviction_policy",
            "idempotency",
            "on_crons",
            "on_events",
            "rate_limits",
            "slot_cost",
            "sticky",
            "version",
        }
    ),
    "taskiq": frozenset({"labels", "queue_name", "retry_on_error", "max_retries", "schedule"}),
}
"""Options that one engine has of its own: `Hatchet.task` of hatchet-sdk 1.43, and Taskiq's well-known labels."""

_SHOWN = {"hatchet": "Hatchet", "taskiq": "Taskiq"}
_OF_A_RUN = ("eta", "idempotency_key", "idempotency_window")


def _options(given: Mapping[str, Any], engine: str) -> tuple[RunOptions, dict[str, Any]]:
    """Part the options that every engine has from those of this engine alone, and refuse all others."""
    common = {name: value for name, value in given.items() if name in TaskOptions.__annotations__}
    native = {name: value for name, value in given.items() if name in _OWNERS.get(engine, ())}
    for name in given:
        if name not in common and name not in native:
            raise _refusal(name, engine)
    return RunOptions(**common), native


def _refusal(name: str, engine: str) -> OptionError:
    owner = next((owner for owner, names in _OWNERS.items() if name in names), None)
    if name in _OF_A_RUN:
        text = f"{name} belongs to one run, not to a task: give it with RunOptions({name}=...) where the run is started"
    elif owner is not None:
        text = (
            f"{name} is an option of {_SHOWN[owner]} alone, and these tasks run on the {_SHOWN.get(engine, engine)} "
            f"engine: leave it away, or give the client a {_SHOWN[owner]} engine"
        )
    else:
        known = ["name", "input_validator", *TaskOptions.__annotations__, *_OWNERS.get(engine, ())]
        text = f"@mage.task has no option {name!r}{near(name, known) or '; its options are ' + ', '.join(known)}"
    return OptionError(text, option=name)
