"""The tasks of the simulation: bodies that do what their message says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from mageflow.core.options import Options
from mageflow.errors import NonRetryable
from mageflow.models.message import ErrorValue, Outcome, ReturnValue, TaskFailure
from mageflow.runtime.bodies import Body as Shape
from mageflow.runtime.bodies import inspect_body
from mageflow.runtime.context import current_run
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.testing.simulate.auditor import Auditor
from mageflow.testing.simulate.process import Process

__all__ = ["ACTS", "TASKS", "make_registry"]

ACTS = ("succeed", "succeed", "succeed", "fail", "fail", "break", "refuse", "stubborn", "opaque", "linger")

_LINGERS = 1000.0
_LONGEST_IN_CALM = 0.2
"""The last worker may have one slot, and a backlog is no deadlock."""


class Plan(BaseModel):
    """What a body is to do."""

    model_config = ConfigDict(extra="allow")

    act: str = "succeed"
    times: int = 0
    """How often `fail` fails before it succeeds."""
    span: float = 0.0
    """How long the body takes, in virtual seconds."""
    note: int = 0
    """Changed by `aupdate` now and then."""
    results: Any = None


class Alarm(Plan):
    """A plan that hears of a failure."""

    failure: Annotated[TaskFailure | None, ErrorValue()] = None


class Report(Plan):
    """A plan that hears of an outcome."""

    outcome: Annotated[Outcome[Any] | None, ReturnValue()] = None


TASKS: dict[str, tuple[type[Plan], Options]] = {
    "work": (Plan, Options()),
    "order": (Plan, Options(retries=1)),
    "alarm": (Alarm, Options()),
    "report": (Report, Options(priority=2)),
}


class _Refused(Exception):
    """A body that fails as bodies do."""


def make_registry(names: Iterable[str], process: Process, auditor: Auditor, failed: Counter[str]) -> TaskRegistry:
    """Give the tasks that a process knows; `failed` counts, by run, how often a body failed on purpose."""
    registry = TaskRegistry()
    for name in names:
        model, options = TASKS[name]
        registry.register(
            RegisteredTask(name=name, fn=_body(process, auditor, failed), body=_shape(model), options=options)
        )
    return registry


@lru_cache
def _shape(model: type[Plan]) -> Shape:
    async def body(plan: Plan) -> Any: ...

    return inspect_body(body, model.__name__, model)


def _body(process: Process, auditor: Auditor, failed: Counter[str]) -> Callable[[Plan], Any]:
    async def body(plan: Plan) -> Any:
        process.check()
        run = current_run()
        call = auditor.begin(process, run.id, run.attempt, plan.model_dump(mode="json"))
        try:
            span = min(plan.span, _LONGEST_IN_CALM)
            if process.is_stormy:
                span = _LINGERS if plan.act == "linger" else plan.span
            await _pause(process, span, plan.act)
        except asyncio.CancelledError:
            auditor.end(call, "stopped")
            raise
        if plan.act == "break" or (plan.act == "fail" and failed[run.id] < plan.times):
            failed[run.id] += 1
            auditor.end(call, "error")
            raise _Refused(f"attempt {run.attempt} of {plan.act}")
        if plan.act == "refuse":
            auditor.end(call, "final")
            raise NonRetryable("never again")
        if plan.act == "opaque":
            auditor.end(call, "final")
            return object()
        value = {"run": run.id, "attempt": run.attempt}
        auditor.end(call, "value", value)
        return value

    return body


async def _pause(process: Process, seconds: float, act: str) -> None:
    """Take some time, which does not pass in a frozen process; a stubborn body takes no notice of a cancel."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        process.check()
        if act != "stubborn":
            raise
        await asyncio.sleep(seconds)
    await process.thawed()
    process.check()
