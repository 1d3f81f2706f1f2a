"""What users hold of chains and swarms."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self

from typing_extensions import TypeVar

from mageflow.composing import add_members, members_with
from mageflow.config import RunOptions, SwarmConfig
from mageflow.core.members import Form, Roster
from mageflow.core.records import RunRecord, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.errors import MageflowError, SwarmOpenError
from mageflow.handles import RunHandle, progress_of
from mageflow.models.run import MemberInfo, Progress
from mageflow.runtime.kernel import Kernel
from mageflow.signatures import Signature, TaskSignature
from mageflow.signing import Callback, coerce_callbacks

__all__ = ["ChainTaskSignature", "Composite", "SwarmTaskSignature", "signature_of"]

M = TypeVar("M")
R = TypeVar("R", default=Any)


_MOST_LISTED = 5_000
"""Up to how many members are listed by `tasks`: each look would load all of them."""


class Composite(Signature[M, R]):
    """A signature that has members."""

    def __init__(self, kernel: Kernel, record: SignatureRecord, keys: Sequence[str] = ()) -> None:
        super().__init__(kernel, record)
        self._keys = list(keys)

    @property
    def tasks(self) -> list[str]:
        """The keys of its members' signatures, in member order, as they were when it was last read.

        Raises:
            MageflowError: it has more than 5,000; `members()` of a swarm goes through them.
        """
        count = self._held.record.roster.count if self._held.record.roster is not None else 0
        if count > _MOST_LISTED:
            raise MageflowError(
                f"{self.task_name!r} has {count:,} members, more than are listed at once; go through them by "
                "`async for member in swarm.members()`, or count them by `await swarm.progress()`"
            )
        return list(self._keys)

    async def load(self) -> Self:
        """Read the list of its members."""
        record = self._held.record
        if record.roster is not None and len(self._keys) != record.roster.count <= _MOST_LISTED:
            self._keys = await self._held.kernel.membership.signatures(record)
        return self

    async def refresh(self) -> None:
        """Read the signature and the list of its members again."""
        await super().refresh()
        await self.load()

    async def _like(self, record: SignatureRecord) -> Self:
        return type(self)(self._held.kernel, record, self._keys)


class ChainTaskSignature(Composite[M, R]):
    """Steps one after another: each gets the result of the one before in its return field.

    A failed step ends the chain: the step's error callbacks fire, then the chain's. The result of the last step is the
    chain's.
    """


class SwarmTaskSignature(Composite[M, list[R]]):
    """Members side by side, inside a window, with one end: callbacks that fire when the last of them has ended."""

    @property
    def config(self) -> SwarmConfig:
        """How it runs, as it was when it was last read."""
        roster = self._roster
        return SwarmConfig(
            max_concurrency=roster.window,
            stop_after_n_failures=roster.stop_after,
            max_task_allowed=roster.most,
            auto_close=roster.auto_close,
        )

    @property
    def is_swarm_closed(self) -> bool:
        """Whether no member can be added any more, as it was when it was last read."""
        return self._roster.closed

    @property
    def _roster(self) -> Roster:
        roster = self._held.record.roster
        assert roster is not None
        return roster

    # Members

    async def add_task(self, task: Callback, msg: Any = None, *, close_on_max_task: bool = True) -> None:
        """Add a member; if the swarm runs, it begins as soon as the window has room.

        Args:
            task: a signature, the key of one, a task, or a task's name.
            msg: the member's own message; its set fields beat what all members get.
            close_on_max_task: whether the swarm closes when it has its `max_task_allowed`.

        Raises:
            SwarmClosedError: it is closed.
            SwarmIsCanceledError: it was stopped by failures, or cancelled.
            TooManyTasksError: it would have more than its `max_task_allowed`.
        """
        await self.add_tasks([task], [msg], close_on_max_task=close_on_max_task)

    async def add_tasks(
        self, tasks: Sequence[Callback], msgs: Sequence[Any] | None = None, *, close_on_max_task: bool = True
    ) -> None:
        """Add members, in their order: see `add_task`."""
        held = self._held
        keys = await coerce_callbacks(held.kernel, tasks, "tasks")
        members = members_with(keys, msgs)
        held.record = await add_members(held.kernel, self.key, members, close_when_full=close_on_max_task)
        self._keys.extend(keys)
        await self.load()

    async def aio_run_in_swarm(
        self, task: Callback | Sequence[Callback], msg: Any = None, options: RunOptions | None = None
    ) -> RunHandle[list[R]]:
        """Add a member, or several with one message, and open the swarm if it is not open yet."""
        tasks = [task] if isinstance(task, str) or not isinstance(task, Sequence) else list(task)
        return await self.aio_run_tasks_in_swarm(tasks, [msg] * len(tasks), options)

    async def aio_run_tasks_in_swarm(
        self, tasks: Sequence[Callback], msgs: Sequence[Any], options: RunOptions | None = None
    ) -> RunHandle[list[R]]:
        """Add members, each with its own message, and open the swarm if it is not open yet.

        Raises:
            TaskAndMsgsDontMatchForSwarmError: there are more tasks than messages, or fewer.
        """
        await self.add_tasks(tasks, msgs)
        return await self.start(options=options)

    async def close_swarm(self) -> None:
        """Let no member be added any more. Closed twice is closed.

        Its callbacks fire when the last member has ended, at once if all have.
        """
        self._held.record = await self._held.kernel.membership.close(self.key)

    # Running

    async def run(self, msg: M | Mapping[str, Any] | None = None, /, *, options: RunOptions | None = None) -> list[R]:
        """Start it, wait for its end and give the results of the members that succeeded, in member order.

        Raises:
            SwarmOpenError: it is open and does not close by itself, so it would never end.
        """
        await self.refresh()
        if not self._roster.closed and not self._roster.auto_close:
            raise SwarmOpenError(
                f"the swarm {self.task_name!r} is open, so its run would not end before somebody closes it: call "
                "close_swarm() first, give config=SwarmConfig(auto_close=True), or use start() and close it later",
                key=self.key,
            )
        return await super().run(msg, options=options)

    async def resume(self, *, max_concurrency: int | None = None) -> None:
        """Let its runs go on, with another window if one is given."""
        if max_concurrency is not None:
            self._held.record = await self._held.kernel.membership.resize(
                self.key, SwarmConfig(max_concurrency=max_concurrency).max_concurrency
            )
        await super().resume()

    async def is_swarm_done(self) -> bool:
        """Whether its latest run has ended."""
        run = await self._held.kernel.latest_run(self.key)
        return run is not None and run.status.is_terminal

    async def progress(self) -> Progress:
        """Count the members of its latest run by what they are."""
        run = await self._held.kernel.latest_run(self.key)
        if run is None:
            await self.refresh()
            return Progress(total=self._roster.count, waiting=self._roster.count, closed=self._roster.closed)
        return progress_of(run) or Progress(total=0)

    async def members(self) -> AsyncGenerator[MemberInfo]:
        """Give the members of its latest run, in member order."""
        run = await self._latest()
        async for place, run_id, member in self._held.kernel.gathering.members(run):
            if member is None:
                ended = RunStatus.CANCELLED if run.status.is_terminal else None
                yield MemberInfo(place=place, run_id=run_id, status=ended)
            else:
                yield MemberInfo(
                    place=place,
                    run_id=member.key,
                    status=member.status,
                    task_name=member.task,
                    signature=member.signature,
                )

    async def _latest(self) -> RunRecord:
        run = await self._held.kernel.latest_run(self.key)
        if run is None:
            raise MageflowError(f"the swarm {self.task_name!r} has not been started, so no member has a run")
        return run


async def signature_of(kernel: Kernel, record: SignatureRecord) -> Signature[Any, Any]:
    """Give what users hold of a signature, by its kind."""
    match record.form:
        case Form.CHAIN:
            return await ChainTaskSignature[Any, Any](kernel, record).load()
        case Form.SWARM:
            swarm: Signature[Any, Any] = await SwarmTaskSignature[Any, Any](kernel, record).load()
            return swarm
        case Form.TASK:
            return TaskSignature(kernel, record)
