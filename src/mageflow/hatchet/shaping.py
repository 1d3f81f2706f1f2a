"""Functions that say by a mark, not by their parameters, what they take; and those that are to wait a little first."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from mageflow.config import AcceptParams
from mageflow.engines.hatchet import Handle
from mageflow.ports.clock import Entropy
from mageflow.tasks import Task

__all__ = ["STAGGER", "function_of", "stagger", "with_ctx", "with_signature"]

F = TypeVar("F", bound=Callable[..., Any])
Parameter = inspect.Parameter

_CTX = "__user_ctx__"
STAGGER = "__mageflow_stagger__"
"""On a function that waits before it begins: for how many seconds at most."""
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def with_ctx(fn: F) -> F:
    """Mark a function whose second parameter is Hatchet's context, whatever it is called."""
    setattr(fn, _CTX, True)
    return fn


def with_signature(fn: F) -> F:
    """Give the function back: a parameter `signature` receives the signature, with or without this mark."""
    return fn


def function_of(fn: Any, accept: AcceptParams) -> Any:
    """Give the function to register, which says by its parameters what it takes."""
    if isinstance(fn, Handle | Task):
        return cast("Handle", fn).fn
    if getattr(fn, _CTX, False) or accept is AcceptParams.ALL:
        return _context_second(fn)
    return fn


def _context_second(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function whose second parameter is called `ctx`, and calls `fn` with it."""
    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    if len(parameters) < 2 or parameters[1].name == "ctx" or parameters[1].kind not in _POSITIONAL:
        return fn
    # By position, since the function has its own name for it; what stands before is by position then too.
    first, second = (each.replace(kind=Parameter.POSITIONAL_ONLY) for each in parameters[:2])
    second = second.replace(name="ctx", annotation=Parameter.empty)
    shown = signature.replace(parameters=[first, second, *parameters[2:]])
    return _calling(fn, fn, shown)


def _calling(fn: Callable[..., Any], call: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Give a function that looks like `fn`, with another signature, and calls `call`."""

    async def calling_async(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    def calling(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    made: Any = functools.wraps(fn)(calling_async if inspect.iscoroutinefunction(fn) else calling)
    made.__signature__ = signature
    given: Callable[..., Any] = made
    return given


def stagger(fn: Callable[..., Any], wait_delta: timedelta, entropy: Entropy) -> Callable[..., Any]:
    """Give a function that waits for a random time before it begins.

    Args:
        fn: the function, async or not.
        wait_delta: how long at most.
        entropy: gives the chance.
    """
    longest = wait_delta.total_seconds()

    async def later(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(entropy.jitter() * longest)
        return await fn(*args, **kwargs)

    def later_in_thread(*args: Any, **kwargs: Any) -> Any:
        time.sleep(entropy.jitter() * longest)
        return fn(*args, **kwargs)

    call = later if inspect.iscoroutinefunction(fn) else later_in_thread
    staggered = _calling(fn, call, inspect.signature(fn))
    setattr(staggered, STAGGER, longest)
    return staggered
