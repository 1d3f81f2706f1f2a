"""Composing signatures on a client: chains and swarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from mageflow.composing import Composed, make_chain, make_swarm, members_with
from mageflow.composites import ChainTaskSignature, SwarmTaskSignature
from mageflow.config import RunOptions, SwarmConfig
from mageflow.errors import OptionError
from mageflow.runtime.kernel import Kernel
from mageflow.signing import Callback, coerce_callbacks
from mageflow.tasks import Task

__all__ = ["Composer"]

M = TypeVar("M")
R = TypeVar("R")


class Composer:
    """What a client composes."""

    _kernel: Kernel

    async def chain(  # noqa: PLR0913 - API.md B gives their names
        self,
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
        """Keep a chain: steps one after another, each with the result of the one before in its return field.

        Args:
            tasks: at least two steps: signatures, keys, tasks, names, chains or swarms.
            name: what people know it by.
            error: one more error callback.
            success: one more success callback.
            success_callbacks: what its success starts, with the result of the last step.
            error_callbacks: what its failure starts, with the message of the step that failed.
            done_callbacks: what its end starts, whichever it is.
            run_options: how its runs are to be executed: when they begin, with which priority.
            kwargs: data to bind to every step, also under names that are taken here.
            **bound: data to bind to every step; it stands over what a step's message or own bound data say.

        Raises:
            InvalidSignatureError: fewer than two steps, or one that cannot be one.
        """
        composed = Composed(
            name=name,
            success_callbacks=_with(success, success_callbacks),
            error_callbacks=_with(error, error_callbacks),
            done_callbacks=done_callbacks,
            run_options=run_options,
            kwargs=kwargs,
            bound=bound,
        )
        record = await make_chain(self._kernel, tasks, composed)
        return await ChainTaskSignature[Any, Any](self._kernel, record).load()

    achain = chain

    @overload
    async def swarm(
        self,
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
        self,
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
        self,
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
    async def swarm(  # noqa: PLR0913 - API.md B and C give their names
        self,
        tasks: Sequence[Callback] = (),
        task_name: str | None = None,
        *,
        task: Callback | None = None,
        inputs: Iterable[Any] | None = None,
        success_callbacks: Sequence[Callback] = (),
        error_callbacks: Sequence[Callback] = (),
        done_callbacks: Sequence[Callback] = (),
        config: SwarmConfig | None = None,
        is_swarm_closed: bool = False,
        run_options: RunOptions | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **bound: Any,
    ) -> SwarmTaskSignature[Any, Any]:
        """Keep a swarm: members side by side inside a window, with callbacks when the last of them has ended.

        Args:
            tasks: its members: signatures, keys, tasks, names, chains or swarms; more may be added while it is open.
            task_name: what people know it by.
            task: with `inputs`: the task of all members. Such a swarm is closed.
            inputs: a message for each member; 100,000 are made in bulk.
            success_callbacks: what its success starts, with the list of the members' results, in member order.
            error_callbacks: what its failure starts, with the message that the swarm was started with.
            done_callbacks: what its end starts, whichever it is.
            config: its window, at how many failures it stops, how many members it may have.
            is_swarm_closed: whether no member can be added any more.
            run_options: how its runs are to be executed: when they begin, with which priority.
            kwargs: data to bind to every member, also under names that are taken here.
            **bound: data to bind to every member; it stands over all else that says something about a field.

        Raises:
            InvalidSignatureError: a member that cannot be one.
            TooManyTasksError: more members than `max_task_allowed`.
        """
        settings = _checked(config)
        composed = Composed(
            name=task_name,
            success_callbacks=success_callbacks,
            error_callbacks=error_callbacks,
            done_callbacks=done_callbacks,
            run_options=run_options,
            kwargs=kwargs,
            bound=bound,
        )
        if (task is None) is not (inputs is None):
            raise OptionError("task= and inputs= go together: swarm(task=resize, inputs=[...])", option="inputs")
        keys = await coerce_callbacks(self._kernel, tasks, "tasks")
        members = members_with(keys, None)
        if task is not None and inputs is not None:
            (key,) = await coerce_callbacks(self._kernel, [task], "task")
            messages = list(inputs)
            members += members_with([key] * len(messages), messages)
            is_swarm_closed = True
        record = await make_swarm(self._kernel, members, settings, composed, closed=is_swarm_closed)
        return await SwarmTaskSignature[Any, Any](self._kernel, record).load()

    aswarm = swarm


def _with(callback: Callback | None, callbacks: Sequence[Callback]) -> Sequence[Callback]:
    return callbacks if callback is None else [callback, *callbacks]


def _checked(config: Any) -> SwarmConfig:
    if config is None:
        return SwarmConfig()
    if not isinstance(config, SwarmConfig):
        raise OptionError(
            f"config={config!r} is not a SwarmConfig; write config=mageflow.SwarmConfig(max_concurrency=5)",
            option="config",
        )
    return config
