"""How tasks come into a client's registry: from its decorator, and from the engine that users registered them with."""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from mageflow.core.options import merge_options
from mageflow.core.records import TaskRecord, task_key
from mageflow.errors import MageflowError
from mageflow.ports.engine import Engine
from mageflow.runtime.bodies import inspect_body
from mageflow.runtime.registry import RegisteredTask, TaskRegistry

__all__ = ["declare", "discover", "record_of"]

logger = logging.getLogger("mageflow.runtime")


def declare(registry: TaskRegistry, engine: Engine, task: RegisteredTask, handle: Any) -> Any:
    """Keep a task, and give what the user gets of it: `handle`, or what the engine makes of it.

    Raises:
        DuplicateTaskError: another function has its name.
    """
    task = replace(task, options=merge_options(task.options, engine.read_options(task.native)))
    registry.register(task)
    given = engine.register(task, handle)
    if given is not handle:
        registry.register(replace(task, handle=given))
    return given


def record_of(engine: Engine, name: str) -> TaskRecord:
    """Give what other processes are to know of a task of this one."""
    needs_message = engine.needs_message(name)
    return TaskRecord(key=task_key(name), created_at=0.0, route=engine.route(name), needs_message=needs_message)


def discover(registry: TaskRegistry, engine: Engine) -> None:
    """Take in the tasks that users registered with the engine itself."""
    for found in engine.discover():
        try:
            body = inspect_body(found.fn, found.name, several=True)
        except MageflowError as error:
            logger.info("%s is left to the engine alone: %s", found.name, error)
            continue
        task = RegisteredTask(
            name=found.name,
            fn=found.fn,
            body=body,
            options=found.options,
            retry_on=found.retry_on,
            handle=found.handle,
        )
        registry.register(task)
