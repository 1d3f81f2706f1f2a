"""Putting a function on a broker, also one whose annotations Taskiq cannot read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask

__all__ = ["register_on"]


def register_on(
    broker: AsyncBroker, name: str, fn: Callable[..., Any], labels: Mapping[str, Any]
) -> AsyncTaskiqDecoratedTask[Any, Any]:
    """Register a wrapper of a task's function on the broker.

    Taskiq reads annotations in the function's module alone, and some are of the function around it: they are left out,
    which costs native calls a cast, and our runs nothing. What Taskiq injects must be named in the module.
    """
    try:
        get_type_hints(fn)
    except NameError:
        signature = inspect.signature(fn)
        parameters = [_readable(fn, each) for each in signature.parameters.values()]
        shown: Any = fn
        shown.__signature__ = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
        shown.__annotations__ = {
            each.name: each.annotation for each in parameters if each.annotation is not inspect.Parameter.empty
        }
    return broker.register_task(fn, task_name=name, **labels)


def _readable(fn: Callable[..., Any], parameter: inspect.Parameter) -> inspect.Parameter:
    probe: Any = type("_Probe", (), {"__annotations__": {"it": parameter.annotation}})
    try:
        get_type_hints(probe, getattr(inspect.unwrap(fn), "__globals__", {}), include_extras=True)
    except NameError:
        return parameter.replace(annotation=inspect.Parameter.empty)
    return parameter
