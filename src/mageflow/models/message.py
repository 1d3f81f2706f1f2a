"""What users write in their own messages: the marks of fields, and the models that callbacks receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, Self, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field

from mageflow.core.status import RunStatus

__all__ = ["ContextMessage", "ErrorValue", "Outcome", "ReturnValue", "TaskFailure"]

T = TypeVar("T")

# `Annotated[T, ReturnValue()]` calls the name and `ReturnValue[T]` subscripts it to mean `T`. No single declaration
# gives both to both checkers: an alias of `T` cannot be called in pyright, and a class is not `T`. mypy never checks
# the metadata of `Annotated`, so the alias serves it; pyright reads a field of a descriptor class as the value that
# `__get__` returns and takes the value that `__set__` accepts. mypy takes a variable called MYPY as true.
MYPY = False

if TYPE_CHECKING:
    if MYPY:
        ReturnValue = Annotated[T, "return value"]  # pyright: ignore[reportAssignmentType, reportGeneralTypeIssues]
        ErrorValue = Annotated[T, "error value"]  # pyright: ignore[reportAssignmentType, reportGeneralTypeIssues]
    else:

        class _Mark(Generic[T]):
            @overload
            def __get__(self, instance: None, owner: Any, /) -> Self: ...
            @overload
            def __get__(self, instance: object, owner: Any, /) -> T: ...
            def __get__(self, instance: object, owner: Any, /) -> Any: ...
            def __set__(self, instance: object, value: T, /) -> None: ...

        class ReturnValue(_Mark[T]):
            """Mark the field that receives the result of the run that a callback answers."""

            def __new__(cls) -> ReturnValue[Any]: ...

        class ErrorValue(_Mark[T]):
            """Mark the field of an error callback's model that receives the `TaskFailure`."""

            def __new__(cls) -> ErrorValue[Any]: ...

else:

    class _Mark:
        __slots__ = ()

        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[item, cls()]

        def __eq__(self, other: object) -> bool:
            return type(self) is type(other)

        def __hash__(self) -> int:
            return hash(type(self))

        def __repr__(self) -> str:
            return f"{type(self).__name__}()"

    class ReturnValue(_Mark):
        """Mark the field that receives the result of the run that a callback answers.

        Both spellings are one: `Annotated[T, ReturnValue()]` and `ReturnValue[T]`. A model has at most one such field.
        A field with a default is spelled the first way: pyright takes no default for the second.
        """

        __slots__ = ()

    class ErrorValue(_Mark):
        """Mark the field of an error callback's model that receives the `TaskFailure`.

        Both spellings are one: `Annotated[TaskFailure, ErrorValue()]` and `ErrorValue[TaskFailure]`. A model has at
        most one such field; an error callback without one gets the original message and its bound values.
        """

        __slots__ = ()


class ContextMessage(BaseModel):
    """The message of a task whose parameter has no annotation: a `context`, and every other field as it was sent."""

    model_config = ConfigDict(extra="allow")

    context: dict[str, Any] = Field(default_factory=dict)


class TaskFailure(BaseModel):
    """Why a run failed, as its error callbacks and `RunFailedError.failure` tell it."""

    type: str
    """The name of the exception's class."""
    message: str
    traceback: str
    """As Python prints it; empty where no exception was raised, such as for a timeout."""
    attempt: int
    """Which attempt failed for good, counted from 1."""
    task_name: str
    run_id: str


class Outcome(BaseModel, Generic[T]):
    """How a run ended, whichever way: what a done callback receives in its return field."""

    status: RunStatus
    value: T | None = None
    """What the task returned, where it succeeded."""
    failure: TaskFailure | None = None
    """Why it failed, where it failed."""
    attempts: int
    member: str | None = None
    """The key of the member in its chain or swarm; None for a run that is no member."""
    task_name: str
    run_id: str
