"""The module-level functions: each is a method of the current client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast, overload

from mageflow.compat import PauseType
from mageflow.composites import ChainTaskSignature, SwarmTaskSignature
from mageflow.config import RunOptions, SwarmConfig
from mageflow.current import get_client
from mageflow.handles import RunHandle
from mageflow.models.explanation import Explanation
from mageflow.signatures import Signature, TaskSignature
from mageflow.signing import AnyTask, Blueprint, Callback, NativeTask, Target
from mageflow.tasks import Task

__all__ = [
    "abounded_field",
    "achain",
    "asign",
    "aswarm",
    "chain",
    "explain",
    "load_run",
    "load_signature",
    "lock_task",
    "pause",
    "remove",
    "resume",
    "sign",
    "swarm",
    "transaction",
]

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


async def chain(  # noqa: PLR0913 - API.md B gives their names
    tasks: Sequence[Callback],
    name: str | None = None,
    error: Callback | None = None,
    success: Callback | None = None,
    *,
    success_callbacks: Sequence[Callback] = (),
    error_callbacks: Sequence[Callback] = (),
    done_callbacks: Sequence[Callback] = (),
    run_options: RunOptions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **bound: Any,
) -> ChainTaskSignature[Any, Any]:
    """Keep a chain on the current client: see `Mageflow.chain`."""
    return await get_client().chain(
        tasks,
        name,
        error,
        success,
        success_callbacks=success_callbacks,
        error_callbacks=error_callbacks,
        done_callbacks=done_callbacks,
        run_options=run_options,
        kwargs=kwargs,
        **bound,
    )


achain = chain


@overload
async def swarm(
    tasks: Sequence[Callback] = (),
    task_name: str | None = None,
    *,
    task: Task[..., M, R, Any],
    inputs: Iterable[M | Mapping[str, Any] | None],
    success_callbacks: Sequence[Callback] = (),
    error_callbacks: Sequence[Callback] = (),
    done_callbacks: Sequence[Callback] = (),
    config: SwarmConfig | None = None,
    is_swarm_closed: bool = False,
    run_options: RunOptions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **bound: Any,
) -> SwarmTaskSignature[M, R]: ...


@overload
async def swarm(
    tasks: Sequence[Callback] = (),
    task_name: str | None = None,
    *,
    task: Callback,
    inputs: Iterable[Any],
    success_callbacks: Sequence[Callback] = (),
    error_callbacks: Sequence[Callback] = (),
    done_callbacks: Sequence[Callback] = (),
    config: SwarmConfig | None = None,
    is_swarm_closed: bool = False,
    run_options: RunOptions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **bound: Any,
) -> SwarmTaskSignature[Any, Any]: ...


@overload
async def swarm(
    tasks: Sequence[Callback] = (),
    task_name: str | None = None,
    *,
    success_callbacks: Sequence[Callback] = (),
    error_callbacks: Sequence[Callback] = (),
    done_callbacks: Sequence[Callback] = (),
    config: SwarmConfig | None = None,
    is_swarm_closed: bool = False,
    run_options: RunOptions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **bound: Any,
) -> SwarmTaskSignature[Any, Any]: ...


async def swarm(
    tasks: Sequence[Callback] = (), task_name: str | None = None, **given: Any
) -> SwarmTaskSignature[Any, Any]:
    """Keep a swarm on the current client: see `Mageflow.swarm`."""
    return await get_client().swarm(tasks, task_name, **given)


aswarm = swarm


async def load_signature(key: str) -> Signature[Any, Any] | None:
    """Give the signature that is kept under `key` on the current client, or None."""
    return await get_client().load_signature(key)


async def load_run(run_id: str) -> RunHandle[Any] | None:
    """Give the handle of a run of the current client, or None."""
    return await get_client().load_run(run_id)


async def pause(key: str, pause_type: PauseType = "suspend") -> None:
    """Suspend or interrupt all runs of a signature of the current client: see `Mageflow.pause`."""
    await get_client().pause(key, pause_type)


async def resume(key: str) -> None:
    """Let the runs of a signature of the current client go on: see `Mageflow.resume`."""
    await get_client().resume(key)


async def remove(key: str) -> bool:
    """Remove a signature of the current client: see `Mageflow.remove`."""
    return await get_client().remove(key)


async def explain(key: str, *, watch: float = 0.0) -> Explanation:
    """Say why a run or a signature of the current client is where it is: see `Mageflow.explain`."""
    return await get_client().explain(key, watch=watch)


def transaction() -> AbstractAsyncContextManager[None]:
    """Commit all changes of a block on the current client together, or none of them: see `Mageflow.transaction`."""
    return get_client().transaction()


abounded_field = transaction


def lock_task(
    key: str | Blueprint, *, timeout: float | None = None
) -> AbstractAsyncContextManager[Signature[Any, Any]]:
    """Keep others who lock the same signature out of a block: see `Mageflow.lock_task`."""
    return get_client().lock_task(key, timeout=timeout)
