"""The shape of a task's body: what it takes, what is injected, and what is refused at decoration."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, ForwardRef, get_args, get_origin, get_type_hints

import typing_extensions
from pydantic import BaseModel

from mageflow.errors import ModelShapeError, TaskShapeError
from mageflow.models.message import ContextMessage
from mageflow.runtime.marks import class_of, is_class, type_name, unwrap_annotation
from mageflow.runtime.scopes import definition_scope, innermost, signature_of
from mageflow.runtime.shapes import NOTHING, MessageType, is_message_type, message_type

__all__ = ["Body", "Dependency", "inspect_body", "name_of"]

Parameter = inspect.Parameter

_ENGINES = {"hatchet_sdk": "hatchet", "taskiq": "taskiq", "taskiq_dependencies": "taskiq"}
_CONTEXTS = ("Context", "DurableContext")
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True, slots=True)
class Dependency:
    """A parameter that an engine's own injection fills."""

    name: str
    engine: str
    """`hatchet` or `taskiq`."""
    marker: Any
    """The default, the metadata or the type that says so."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """How a task's function is called.

    Attributes:
        is_async: whether calling it gives a coroutine. What a sync body returns may still be awaitable: a wrapper
            around an async function is sync by itself.
        message: what its message is validated by; `NOTHING` where it takes none.
        parameter: the name of the parameter that receives the message; None where it takes none or several.
        several: the parameters that one message is spread over, for functions that a Taskiq broker already knows.
        wants_ctx: whether it has a parameter `ctx`.
        wants_signature: whether it has a parameter `signature`.
        dependencies: what the engine injects.
        returns: the return annotation, `Any` where there is none that can be read.
    """

    is_async: bool
    message: MessageType = NOTHING
    parameter: str | None = None
    several: tuple[str, ...] = ()
    wants_ctx: bool = False
    wants_signature: bool = False
    dependencies: tuple[Dependency, ...] = ()
    returns: Any = Any
    positional: tuple[str, ...] = ()
    """The parameters that are passed by position, in their order; all others are passed by name."""

    def arguments(
        self,
        message: Any,
        *,
        ctx: Any = None,
        signature: Any = None,
        injected: Mapping[str, Any] | None = None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Give the positional and the named arguments of one call.

        Args:
            message: what `self.message.validate` gave.
            ctx: for a parameter `ctx`.
            signature: for a parameter `signature`.
            injected: values of the engine's dependencies, by parameter; a `ctx` among them is what `ctx` receives.
        """
        named: dict[str, Any] = dict(injected) if injected else {}
        if self.parameter is not None:
            named[self.parameter] = message
        named.update({name: message[name] for name in self.several if name in message})
        if self.wants_ctx:
            named.setdefault("ctx", ctx)
        if self.wants_signature:
            named["signature"] = signature
        return [named.pop(name) for name in self.positional if name in named], named


def name_of(fn: Callable[..., Any]) -> str:
    """Give the name that a task has by default: the function's `__name__`.

    Raises:
        TaskShapeError: if it has none of its own, as a lambda or a `functools.partial`.
    """
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise TaskShapeError(f"{fn!r} has no name of its own: give the task one, @mage.task(name='...')")
    return name


def inspect_body(
    fn: Callable[..., Any], name: str | None = None, input_validator: Any = None, *, several: bool = False
) -> Body:
    """Find out how a function is to be called as a task's body.

    A body takes nothing, or one message: a model, a dataclass, a TypedDict, a dict; without an annotation, a
    `ContextMessage`. `ctx`, `signature` and what Hatchet and Taskiq inject come beside it. A parameter with a default
    that is no message keeps its default.

    Args:
        fn: the function, method, partial or callable object.
        name: the task's name, for errors; by default the function's own.
        input_validator: the type of the message, whatever the annotation says.
        several: whether a function of several plain parameters is served, each from the message's field of its name;
            only for functions that were on a Taskiq broker before.

    Raises:
        TaskShapeError: naming the task, the parameter and what to do.
        ModelShapeError: if the message's model cannot be one.
    """
    name = name if name is not None else name_of(fn)
    _refuse_kinds(fn, name)
    try:
        signature = signature_of(fn)
    except (TypeError, ValueError) as error:
        raise TaskShapeError(
            f"task {name!r}: the parameters of {fn!r} cannot be read ({error}): wrap it in a function of your own",
            task_name=name,
        ) from error
    reading = _Reading(name, _Scope(fn), input_validator, several)
    for parameter in signature.parameters.values():
        if parameter.kind not in _VARIADIC:
            reading.take(parameter)
    return reading.body(fn, signature)


def _refuse_kinds(fn: Callable[..., Any], name: str) -> None:
    inner = innermost(fn)
    if isinstance(fn, type) or not callable(fn):
        raise TaskShapeError(f"task {name!r}: {fn!r} is no function: decorate a function or a method", task_name=name)
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise TaskShapeError(
            f"task {name!r} is a generator, and a task has one result: return a list instead of yielding",
            task_name=name,
        )


class _Scope:
    """The names that a function's annotations may use."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._inner = innermost(fn)
        self._locals: dict[str, Any] | None = None

    def resolve(self, annotation: Any) -> Any:
        """Give the type that an annotation stands for.

        Raises:
            NameError: if it uses a name that is not defined.
        """
        if annotation is Parameter.empty:
            return annotation
        if isinstance(annotation, type) and not get_args(annotation):
            return annotation
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        holder: Any = SimpleNamespace(__annotations__={"it": annotation})
        names = getattr(self._inner, "__globals__", {})
        try:
            return get_type_hints(holder, names, {}, include_extras=True)["it"]
        except NameError:
            if self._locals is None:
                self._locals = definition_scope(self._inner)
            return get_type_hints(holder, names, self._locals, include_extras=True)["it"]


class _Reading:
    """One pass over a function's parameters."""

    def __init__(self, name: str, scope: _Scope, input_validator: Any, several: bool) -> None:
        self.name = name
        self.scope = scope
        self.message = message_type(input_validator) if input_validator is not None else None
        self.overridden = input_validator is not None
        self.several = several
        self.parameter: Parameter | None = None
        self.annotation: Any = Parameter.empty
        self.spread: dict[str, tuple[Parameter, Any]] = {}
        self.injected: set[str] = set()
        self.dependencies: list[Dependency] = []
        self.positional: list[str] = []
        self.taken = 0

    def take(self, parameter: Parameter) -> None:
        """Decide what one parameter receives."""
        first = self.taken == 0
        self.taken += 1
        if self._is_injected(parameter):
            return
        annotation = self._annotation(parameter)
        required = parameter.default is Parameter.empty
        if self.several:
            self.spread[parameter.name] = (parameter, annotation)
        if self.parameter is None and self._may_be_message(annotation, required):
            if not self.several:
                self._check(parameter, annotation)
            self.parameter, self.annotation = parameter, annotation
            # By position, so that the plain function sees what a caller would write; behind others only if it must be.
            if parameter.kind is Parameter.POSITIONAL_ONLY or (first and parameter.kind is not Parameter.KEYWORD_ONLY):
                self.positional.append(parameter.name)
        elif required and not self.several:
            raise self._refusal(parameter, annotation)

    def _may_be_message(self, annotation: Any, required: bool) -> bool:
        return required or self.overridden or _is_model(annotation)

    def _check(self, parameter: Parameter, annotation: Any) -> None:
        if parameter.name in ("self", "cls") and annotation is Parameter.empty:
            raise TaskShapeError(
                f"task {self.name!r} is a method that is not bound, so {parameter.name!r} would be its message: "
                "decorate a function, or register the bound method of an instance",
                task_name=self.name,
                parameter=parameter.name,
            )
        if not self.overridden and annotation is not Parameter.empty and not is_message_type(annotation):
            raise self._refusal(parameter, annotation)

    def _refusal(self, parameter: Parameter, annotation: Any) -> TaskShapeError:
        shown = "" if annotation is Parameter.empty else f": {_shown(annotation)}"
        if self.parameter is None:
            what = f"its parameter `{parameter.name}{shown}` is no message"
            hint = f"take a model with a field {parameter.name!r}"
        else:
            what = f"it takes `{parameter.name}{shown}` beside its message `{self.parameter.name}`"
            hint = f"make {parameter.name!r} a field of the message's model"
        return TaskShapeError(
            f"task {self.name!r} cannot be served: {what}. A task takes nothing or one message (a model, a dataclass, "
            f"a TypedDict, a dict); {hint}, or give the parameter a default",
            task_name=self.name,
            parameter=parameter.name,
        )

    def _is_injected(self, parameter: Parameter) -> bool:
        marker, engine = self._engine_marker(parameter)
        if parameter.name in ("ctx", "signature") and not self._is_model_named(parameter):
            self.injected.add(parameter.name)
        elif engine is not None:
            self.dependencies.append(Dependency(parameter.name, engine, marker))
        else:
            return False
        if parameter.kind is Parameter.POSITIONAL_ONLY:
            self.positional.append(parameter.name)
        return True

    def _is_model_named(self, parameter: Parameter) -> bool:
        try:
            return _is_model(self.scope.resolve(parameter.annotation))
        except (NameError, TypeError):
            return False

    def _engine_marker(self, parameter: Parameter) -> tuple[Any, str | None]:
        engine = _engine_of(class_of(parameter.default))
        if engine is not None:
            return parameter.default, engine
        try:
            annotation = self.scope.resolve(parameter.annotation)
        except (NameError, TypeError):
            return None, None
        if get_origin(annotation) is Annotated:
            for each in get_args(annotation)[1:]:
                engine = _engine_of(each if is_class(each) else class_of(each))
                if engine is not None:
                    return each, engine
        kind = unwrap_annotation(annotation)
        if isinstance(kind, type) and kind.__name__ in _CONTEXTS:
            return kind, _engine_of(kind)
        return None, None

    def _annotation(self, parameter: Parameter) -> Any:
        try:
            return self.scope.resolve(parameter.annotation)
        except NameError as error:
            if self.overridden or parameter.default is not Parameter.empty:
                return Parameter.empty
            missing = f"{error.name!r}" if error.name else "something"
            raise TaskShapeError(
                f"task {self.name!r}: the annotation {_shown(parameter.annotation)} of its parameter "
                f"{parameter.name!r} names {missing}, which is not defined where the task is. Define or import it "
                "before the task (an import under `if TYPE_CHECKING:` does not count), or give input_validator=",
                task_name=self.name,
                parameter=parameter.name,
            ) from error

    def body(self, fn: Callable[..., Any], signature: inspect.Signature) -> Body:
        """Give what was found."""
        if self.several and not self._is_one_message():
            return self._body(fn, signature, message=self._spread_type(), several=tuple(self.spread), positional=())
        message = self.message
        if message is None and self.parameter is not None:
            message = self._type()
        return self._body(
            fn,
            signature,
            message=message or NOTHING,
            parameter=self.parameter.name if self.parameter is not None else None,
            positional=tuple(self.positional),
        )

    def _body(self, fn: Callable[..., Any], signature: inspect.Signature, **found: Any) -> Body:
        is_async = _is_async(fn)
        return Body(
            is_async=is_async,
            wants_ctx="ctx" in self.injected,
            wants_signature="signature" in self.injected,
            dependencies=tuple(self.dependencies),
            returns=self._returns(signature, is_async),
            **found,
        )

    def _type(self) -> MessageType:
        if self.annotation is Parameter.empty:
            return message_type(ContextMessage)
        try:
            return message_type(self.annotation)
        except ModelShapeError as error:
            error.add_note(f"It is the message of task {self.name!r}.")
            raise

    def _is_one_message(self) -> bool:
        required = [each for each, _ in self.spread.values() if each.default is Parameter.empty]
        if not self.spread or self.overridden:
            return True
        return len(required) <= 1 and self.parameter is not None and _is_model(self.annotation)

    def _spread_type(self) -> MessageType:
        fields: dict[str, Any] = {}
        for name, (parameter, annotation) in self.spread.items():
            kind = Any if annotation is Parameter.empty else annotation
            fields[name] = kind if parameter.default is Parameter.empty else typing_extensions.NotRequired[kind]
        make: Any = typing_extensions.TypedDict  # a parameter of any name can be its key, which a model's field cannot
        return message_type(make(f"{self.name}_parameters", fields))

    def _returns(self, signature: inspect.Signature, is_async: bool) -> Any:
        if signature.return_annotation is inspect.Signature.empty:
            return Any
        try:
            returns = self.scope.resolve(signature.return_annotation)
        except (NameError, TypeError):  # often imported for checkers alone; a result is dumped without it
            return Any
        if not is_async and get_origin(returns) in (
            Coroutine,
            typing_extensions.get_origin(typing_extensions.Awaitable),
        ):
            return get_args(returns)[-1]
        return returns


def _is_async(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    if inspect.iscoroutinefunction(fn):
        return True
    call = inspect.getattr_static(type(fn), "__call__", None)  # of a callable object
    return not inspect.isroutine(fn) and inspect.iscoroutinefunction(call)


def _is_model(annotation: Any) -> bool:
    """Tell whether a type can only be meant as a message: a model, a dataclass or a TypedDict."""
    kind = unwrap_annotation(annotation)
    kind = get_origin(kind) or kind
    return is_class(kind) and (
        (issubclass(kind, BaseModel) and is_message_type(kind))
        or dataclasses.is_dataclass(kind)
        or typing_extensions.is_typeddict(kind)
    )


def _engine_of(kind: type) -> str | None:
    return _ENGINES.get(kind.__module__.partition(".")[0])


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else type_name(annotation)
