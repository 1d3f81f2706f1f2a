"""The module-level functions: each is a method of the current client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast, overload

from mageflow.composites import ChainTaskSignature, SwarmTaskSignature
from mageflow.config import RunOptions
from mageflow.current import get_client
from mageflow.handles import RunHandle
from mageflow.models.explanation import Explanation
from mageflow.signatures import Signature, TaskSignature
from mageflow.signing import AnyTask, Callback, NativeTask, Target
from mageflow.tasks import Task

__all__ = ["achain", "asign", "aswarm", "chain", "explain", "load_run", "load_signature", "remove", "sign", "swarm"]

M = TypeVar("M")
R = TypeVar("R")


@overload
async def sign(
    task: Task[..., M, R, Any],
    /,
    *,
    success_callbacks: Sequence[Callback] = (),
    error_callbacks: Sequence[Callback] = (),
    done_callbacks: Sequence[Callback] = (),
    model_validators: type[Any] | str | None = None,
    run_options: RunOptions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **bound: Any,
) -> TaskSignature[M, R]: ...


@overload
async def sign(
    task: str | NativeTask,
    /,
    *,
    success_callbacks: Sequence[Callback] = (),
    error_callbacks: Sequence[Callback] = (),
    done_callbacks: Sequence[Callback] = (),
    model_validators: type[Any] | str | None = None,
    run_options: RunOptions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **bound: Any,
) -> TaskSignature[Any, Any]: ...


async def sign(task: Target, /, **given: Any) -> TaskSignature[Any, Any]:
    """Keep a blueprint of a call of `task` on the current client: see `Mageflow.sign`.

    Raises:
        NoClientError: no client was constructed.
    """
    return await get_client().sign(cast("AnyTask", task), **given)


asign = sign


async def chain(
    tasks: Sequence[Callback],
    name: str | None = None,
    error: Callback | None = None,
    success: Callback | None = None,
    **given: Any,
) -> ChainTaskSignature[Any, Any]:
    """Keep a chain on the current client: see `Mageflow.chain`."""
    return await get_client().chain(tasks, name, error, success, **given)


achain = chain


async def swarm(tasks: Sequence[Callback] = (), task_name: str | None = None, **given: Any) -> SwarmTaskSignature[Any]:
    """Keep a swarm on the current client: see `Mageflow.swarm`."""
    return await get_client().swarm(tasks, task_name, **given)


aswarm = swarm


async def load_signature(key: str) -> Signature[Any, Any] | None:
    """Give the signature that is kept under `key` on the current client, or None."""
    return await get_client().load_signature(key)


async def load_run(run_id: str) -> RunHandle[Any] | None:
    """Give the handle of a run of the current client, or None."""
    return await get_client().load_run(run_id)


async def remove(key: str) -> bool:
    """Remove a signature of the current client: see `Mageflow.remove`."""
    return await get_client().remove(key)


async def explain(key: str, *, watch: float = 0.0) -> Explanation:
    """Say why a run or a signature of the current client is where it is: see `Mageflow.explain`."""
    return await get_client().explain(key, watch=watch)
