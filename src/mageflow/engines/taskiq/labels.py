"""What Taskiq's labels say, in the core's words, and which labels a message of ours carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from taskiq import AsyncBroker
from taskiq.middlewares.simple_retry_middleware import SimpleRetryMiddleware
from taskiq.middlewares.smart_retry_middleware import SmartRetryMiddleware

from mageflow.core.options import Options
from mageflow.engines.taskiq.crossing import RUN_LABEL

__all__ = ["carried_labels", "labels_of", "message_labels", "read_options", "retried_exceptions"]

_DEFAULT_RETRIES = 3
"""Attempts, as both of Taskiq's retry middlewares have it."""
_OURS = frozenset({"timeout", "delay", "schedule", "types_of_exceptions", "retry_on_error", "max_retries", "_retries"})
"""Labels that would have Taskiq, a middleware of its or a broker do once more what the core does."""


def _retrying(broker: AsyncBroker) -> SimpleRetryMiddleware | SmartRetryMiddleware | None:
    for each in broker.middlewares:
        if isinstance(each, SimpleRetryMiddleware | SmartRetryMiddleware):
            return each
    return None


def read_options(broker: AsyncBroker, labels: Mapping[str, Any]) -> Options:
    """Give the options that the labels of a task stand for.

    `max_retries` counts attempts there. A `SmartRetryMiddleware` waits, by default as long before each attempt; the
    core's nearest is a pause of that length at most.
    """
    middleware = _retrying(broker)
    wanted = _flag(labels.get("retry_on_error"))
    if wanted is None:
        wanted = middleware.default_retry_label if middleware is not None else False
    default = middleware.default_retry_count if middleware is not None else _DEFAULT_RETRIES
    retries = max(0, _number(labels.get("max_retries"), default) - 1) if wanted else None
    timeout = labels.get("timeout")
    factor = longest = None
    if retries and isinstance(middleware, SmartRetryMiddleware):
        longest = _number(labels.get("delay"), middleware.default_delay)
        factor = longest if longest >= 1.0 else None
    return Options(
        retries=int(retries) if retries is not None else None,
        backoff_factor=factor,
        backoff_max_seconds=longest if factor is not None else None,
        execution_timeout=float(timeout) if timeout is not None else None,
    )


def retried_exceptions(broker: AsyncBroker, labels: Mapping[str, Any]) -> tuple[type[Exception], ...]:
    """Give the exceptions after which Taskiq would try again."""
    given: Iterable[Any] | None = labels.get("types_of_exceptions")
    if given is None and (middleware := _retrying(broker)) is not None:
        given = middleware.types_of_exceptions
    if given is None:
        return (Exception,)
    return tuple(each for each in given if isinstance(each, type) and issubclass(each, Exception))


def labels_of(native: Mapping[str, Any]) -> dict[str, Any]:
    """Give the labels that a task is registered with: `labels={…}` and those that have options of their own."""
    named: dict[str, Any] = {name: value for name, value in native.items() if name != "labels"}
    return {**(native.get("labels") or {}), **named}


def message_labels(declared: Mapping[str, Any], run: str, *, acks_late: bool = False) -> dict[str, Any]:
    """Give the labels of a message: what the task declares, such as its queue, and which run it is.

    It is acknowledged early, since the outbox delivers again: no broker has to guess how long a body may take.
    `acks_late` is for a broker that gives a message again only after minutes, and has no limit to those that are not
    acknowledged: a body need not wait for it there, and a surplus delivery of a long one is refused by its claim.
    """
    kept = carried_labels(declared)
    ack = "when_executed" if acks_late else "when_received"
    return {**kept, RUN_LABEL: run, "ack_type": ack, "retry_on_error": False}


def carried_labels(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Give those of a task's labels that its messages carry: they may say which queue a message goes to."""
    return {name: value for name, value in declared.items() if name not in _OURS}


def _flag(value: Any) -> bool | None:
    return value.lower() == "true" if isinstance(value, str) else value


def _number(value: Any, default: float) -> float:
    return default if value is None else float(value)
