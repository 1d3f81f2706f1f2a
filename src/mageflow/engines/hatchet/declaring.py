"""Declaring a task to Hatchet, and what of its declaration the core follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast, get_type_hints

from hatchet_sdk import ConcurrencyExpression, ConcurrencyLimitStrategy, EmptyModel, Hatchet, Priority, RateLimit
from pydantic import PydanticUserError, TypeAdapter

from mageflow.core.options import Options
from mageflow.core.records import replace
from mageflow.engines.hatchet.envelope import as_input
from mageflow.engines.hatchet.sdk import Handle, adopt, expr_to_timedelta
from mageflow.errors import OptionError
from mageflow.ports.engine import Declared

__all__ = ["core_timeout", "declare", "followed", "needs_message", "seconds", "time_to_add"]

EXECUTION_TIMEOUT = 60.0
"""Seconds that Hatchet gives a task that declares no `execution_timeout`."""
_EARLIER = 0.5
"""Seconds by which the core's timer is set before Hatchet's, which says nothing of its reason when it fires."""

_LATER = 5
"""Seconds by which Hatchet's timer is set behind the core's, where a run may take longer than its task declares."""

_OURS = ("declared", "durable", "open")
"""What the client adds to the options: those as they were declared, whether the task is a durable one, and whether it
says nothing of its input."""


def seconds(duration: Any) -> Any:
    """Give a duration that Hatchet writes as text (`"10m"`) as a timedelta; anything else as it is."""
    return expr_to_timedelta(duration) if isinstance(duration, str) else duration


def native_options(native: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options that are Hatchet's alone, and give them as Hatchet takes them.

    Raises:
        OptionError: one that cannot hold for runs that are tried again as deliveries of their own.
    """
    given = {name: value for name, value in native.items() if name not in _OURS}
    if given.get("idempotency") is not None:
        raise OptionError(
            "idempotency= of Hatchet would refuse the second attempt of a run, as a copy of its first: leave it away, "
            "and start runs with RunOptions(idempotency_key=...)",
            option="idempotency",
        )
    if given.get("eviction_policy") is not None:
        raise OptionError(
            "eviction_policy= of Hatchet would stop a run where it waits, and that looks like a cancel: leave it away",
            option="eviction_policy",
        )
    if native.get("durable"):
        given["eviction_policy"] = None  # Hatchet's own choice is to evict
    concurrency: Any = given.get("concurrency")
    if isinstance(concurrency, str):
        given["concurrency"] = ConcurrencyExpression(
            expression=concurrency, max_runs=1, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN
        )
    elif isinstance(concurrency, tuple):
        given["concurrency"] = [*cast("Sequence[Any]", concurrency)]
    return given


def core_timeout(declared: float | None) -> float:
    """Give the seconds after which the core ends an attempt: a little before Hatchet would, which gives no reason.

    Hatchet knows whole seconds only; a limit between two is the core's, and Hatchet gets the next whole one.
    """
    limit = EXECUTION_TIMEOUT if declared is None else declared
    return min(limit, hatchet_timeout(declared) - min(_EARLIER, limit / 4))


def hatchet_timeout(declared: float | None) -> float:
    """Give the seconds after which Hatchet ends an attempt."""
    return EXECUTION_TIMEOUT if declared is None else float(max(1, math.ceil(declared)))


def time_to_add(declared: Any, limit: float | None) -> timedelta | None:
    """Give how much longer Hatchet is to wait for an attempt that may take longer than its task declares; None: not.

    Args:
        declared: what Hatchet was told of the task.
        limit: the seconds after which the core ends the attempt.
    """
    if limit is None or not isinstance(declared, timedelta) or limit < declared.total_seconds():
        return None
    return timedelta(seconds=math.ceil(limit - declared.total_seconds()) + _LATER)


def needs_message(native: Mapping[str, Any]) -> bool:
    """Whether Hatchet evaluates something of the input when a run of this task is created."""
    return any("input" in expression for expression in _expressions(native))


def _expressions(native: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    concurrency: Any = native.get("concurrency")
    several = cast("Sequence[Any]", concurrency) if isinstance(concurrency, list | tuple) else (concurrency,)
    for each in several:
        if isinstance(each, ConcurrencyExpression):
            found.append(each.expression)
            found.append(str(each.max_runs))
        elif isinstance(each, str):
            found.append(each)
    for limit in cast("Sequence[RateLimit]", native.get("rate_limits") or ()):
        found += [str(part) for part in (limit.dynamic_key, limit.units, limit.limit) if part is not None]
    return found


def followed(declared: Options) -> Options:
    """Give what the core follows of a declaration: Hatchet's own limits hold where there are no others."""
    return replace(declared, execution_timeout=core_timeout(declared.execution_timeout))


def declare(hatchet: Hatchet, task: Declared, entry: Callable[..., Any], handle: Any) -> Handle:
    """Declare a task to Hatchet with its own decorator, and give what users hold of it.

    Args:
        hatchet: the client.
        task: the task.
        entry: what Hatchet calls.
        handle: what users hold of a task on every engine.
    """
    declared: Options = task.native.get("declared", task.options)
    given = native_options(task.native)
    entry.__annotations__ = _returns(task.fn)
    model = _model(task)
    decorate: Any = hatchet.durable_task if task.native.get("durable") else hatchet.task
    made = decorate(name=task.name, input_validator=as_input(model), **_shared_options(declared), **given)(entry)
    return adopt(made, task.fn, model, handle)


def _model(task: Declared) -> Any:
    """Give the model of Hatchet's own runs of a task: where it declares none, Hatchet's own open one."""
    annotation = task.annotation
    if annotation is None or task.native.get("open"):
        return EmptyModel
    try:
        TypeAdapter[Any](annotation)
    except PydanticUserError:  # before Python 3.12 it does not take a TypedDict of `typing`, which is a dict anyway
        return dict[str, Any]
    return annotation


def _returns(fn: Callable[..., Any]) -> dict[str, Any]:
    """Give the return annotation, which Hatchet dumps results by."""
    try:
        hints = get_type_hints(fn)
    except (NameError, TypeError):  # a name for checkers alone; Hatchet refuses such a function, and we need not
        return {"return": Any}
    return {"return": hints["return"]} if "return" in hints else {}


def _shared_options(declared: Options) -> dict[str, Any]:
    """Give the options that every engine has, in Hatchet's words; what was not declared stays Hatchet's choice."""
    given: dict[str, Any] = {}
    if declared.retries is not None:
        given["retries"] = declared.retries
    if declared.backoff_factor is not None:
        given["backoff_factor"] = declared.backoff_factor
    if declared.backoff_max_seconds is not None:
        given["backoff_max_seconds"] = math.ceil(declared.backoff_max_seconds)
    if declared.execution_timeout is not None:
        given["execution_timeout"] = timedelta(seconds=hatchet_timeout(declared.execution_timeout))
    if declared.schedule_timeout is not None:
        given["schedule_timeout"] = timedelta(seconds=max(1, math.ceil(declared.schedule_timeout)))
    if declared.priority is not None:
        given["default_priority"] = Priority(declared.priority)
    return given
