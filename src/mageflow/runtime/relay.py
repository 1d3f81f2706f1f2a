"""Handing on what the outbox says is due: rows to the engine, continuations to whoever executes them here."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence

from mageflow.core.events import Lapse, Peek, Refuse, Strand
from mageflow.core.records import Failure, OutboxRow, RowAction, TaskRecord, task_key
from mageflow.core.replies import ClaimReply, EndReply, Verdict
from mageflow.core.status import RunStatus
from mageflow.errors import MageflowError, StoreError
from mageflow.ports.engine import Engine, Refused, Submission, WhyRefused
from mageflow.runtime.advance import advance
from mageflow.runtime.gathering import Gathering
from mageflow.runtime.leaving import Leaving, Lookout
from mageflow.runtime.messages import assemble
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.transact import Transactor

__all__ = ["Relay"]

logger = logging.getLogger("mageflow.runtime")

_ADVANCE = RowAction.ADVANCE.value
_BATCH = 500
_LOOK_EVERY = 1.0
"""Seconds between two looks at the outbox where nothing rang."""
_CALLS = 4
"""How many submits of a route may be under way at once."""
_CALL_TAKES = 0.05
"""Seconds after which a submit is not waited for: what comes sooner goes together with the next one."""
_MANY = 100
"""Rows of one submit behind which nothing waits: they are of a swarm, and its next ones are on their way."""
_NOT_HANDED_ON = "rows of %s could not be handed on; they are due again later"


class Relay:
    """Hands on due rows.

    Args:
        transactor: commits.
        registry: the tasks of this process.
        engine: what rows of runs are submitted to.
        redeliver_after: seconds after which a row that nobody claimed is given again.
        unknown_task_after: seconds after which a run whose task nobody knows has failed.
    """

    def __init__(
        self,
        transactor: Transactor,
        registry: TaskRegistry,
        engine: Engine,
        *,
        redeliver_after: float,
        unknown_task_after: float,
    ) -> None:
        self._tx = transactor
        self._gathering = Gathering(transactor.store)
        self._patience = unknown_task_after
        self._registry = registry
        self._engine = engine
        self._redeliver_after = redeliver_after
        self._advancing = asyncio.Lock()
        self.advanced = 0
        """How many continuations it has begun."""

    async def submit_all(self, route: str) -> None:
        """Submit the rows of a route as they come, until cancelled.

        A submit may last until the server has brought the last of its rows to a worker, which is no reason for the
        next rows to wait.
        """
        under_way: set[asyncio.Task[None]] = set()
        lookout = Lookout(self._tx.store, route)
        leaving = Leaving(self._tx, lookout)
        async with asyncio.TaskGroup() as calls:
            calls.create_task(leaving.put_back_always())

            async def submit(given: list[OutboxRow]) -> None:
                theirs = await self._tasks_of_others(given)
                leaving.leave([row.run for row in given if row.task in theirs])
                if rows := [row for row in given if row.task not in theirs]:
                    await begin(rows)

            async def begin(rows: list[OutboxRow]) -> None:
                call = calls.create_task(self._submit_or_log(route, rows))
                under_way.add(call)
                call.add_done_callback(under_way.discard)
                if len(rows) < _MANY:
                    await asyncio.wait((call,), timeout=_CALL_TAKES)
                while len(under_way) >= _CALLS:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

            await self._serve(lookout, route, lambda: self._hand_on(route, submit))

    async def _tasks_of_others(self, rows: list[OutboxRow]) -> set[str]:
        """Give the tasks of these rows whose messages only other processes can assemble."""
        strange = {task_key(row.task): row.task for row in rows if self._registry.find(row.task) is None}
        if not strange:
            return set()
        known = await self._tx.load(tuple(strange))
        return {
            strange[key] for key, record in known.items() if isinstance(record, TaskRecord) and record.needs_message
        }

    async def advance_all(self) -> None:
        """Execute continuations, and end what nobody began in time, as they come; until cancelled."""
        await self._serve(Lookout(self._tx.store, _ADVANCE), _ADVANCE, self.advance_due)

    async def advance_due(self) -> int:
        """Execute what `advance_all` would by now, after what it has under way; say how much there was."""
        async with self._advancing:
            return await self._hand_on(_ADVANCE, self._advance)

    async def _serve(self, lookout: Lookout, route: str, hand_on: Callable[[], Awaitable[int]]) -> None:
        found = _BATCH
        try:
            while True:
                # Behind a full batch there may be more; behind another, what was put since has rung.
                await lookout.wait(None if found >= _BATCH else _LOOK_EVERY)
                try:
                    found = await hand_on()
                except Exception:
                    logger.exception(_NOT_HANDED_ON, route)
                    found = 0
        finally:
            lookout.end()

    async def _hand_on(self, route: str, act: Callable[[list[OutboxRow]], Awaitable[None]]) -> int:
        rows = await self._tx.store.due((route,), _BATCH, redeliver_after=self._redeliver_after)
        if rows:
            await act(rows)
        return len(rows)

    async def _advance(self, rows: list[OutboxRow]) -> None:
        self.advanced += len(rows)
        for row in rows:
            if row.action is RowAction.LAPSE:
                event = Lapse(run=row.run, defaults=self._registry.defaults(), token=self._tx.token())
                ended = await self._tx.commit(EndReply, (row.run,), event)
                if ended.accepted and ended.run is not None and ended.run.status is RunStatus.FAILED:
                    logger.error("run %s has failed: no worker began it within its schedule_timeout", row.run)
            else:
                await advance(self._tx, row.run, self._registry.defaults())

    async def _submit_or_log(self, route: str, rows: list[OutboxRow]) -> None:
        try:
            await self._submit(rows)
        except Exception:  # whatever an engine raises, the next row may find it well again
            logger.exception(_NOT_HANDED_ON, route)

    async def _submit(self, rows: list[OutboxRow]) -> None:
        """Submit rows in an empty context: an engine must not take them for children of what runs here."""
        submissions = [Submission(row) for row in rows if not self._engine.needs_message(row.task)]
        whole = [row for row in rows if self._engine.needs_message(row.task)]
        for made in await asyncio.gather(*(self._with_message(row) for row in whole)):
            submissions.extend(made)
        if not submissions:
            return
        submit = asyncio.create_task(_submitted(self._engine, submissions), context=contextvars.Context())
        for refused in await submit:
            await self._take_refusal(refused)

    async def _with_message(self, row: OutboxRow) -> list[Submission]:
        """Assemble the message of a row; give nothing where the run has ended, or ends here because there is none."""
        task = self._registry.find(row.task)
        peeked = await self._tx.commit(ClaimReply, (row.run,), Peek(run=row.run, token=self._tx.token()))
        if task is None or peeked.verdict is not Verdict.CLAIMED:
            return [Submission(row)]  # its claim says what becomes of it
        try:
            assembled = await assemble(peeked, task, self._registry, self._gathering)
            assembled.receive(task.name)
        except StoreError as error:
            logger.warning("run %s could not be handed on (%s); it is due again later", row.run, error)
            return []
        except MageflowError as error:
            await self._refuse(row, Failure(type=type(error).__name__, message=str(error)))
            return []
        return [Submission(row, assembled.frozen)]

    async def _take_refusal(self, refused: Refused) -> None:
        row = refused.row
        if refused.why is WhyRefused.UNFIT:
            await self._refuse(row, Failure(type="UndeliverableError", message=refused.message))
            return
        logger.warning("run %s waits: %s", row.run, refused.message)
        event = Strand(run=row.run, patience=self._patience, defaults=self._registry.defaults(), token=self._tx.token())
        await self._tx.commit(EndReply, (row.run,), event)

    async def _refuse(self, row: OutboxRow, failure: Failure) -> None:
        logger.error("run %s has failed before it began: %s", row.run, failure.message)
        event = Refuse(run=row.run, failure=failure, defaults=self._registry.defaults(), token=self._tx.token())
        await self._tx.commit(EndReply, (row.run,), event)


async def _submitted(engine: Engine, submissions: Sequence[Submission]) -> Sequence[Refused]:
    return await engine.submit(submissions)
