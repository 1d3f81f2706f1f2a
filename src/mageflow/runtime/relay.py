"""Handing on what the outbox says is due: rows to the engine, continuations to whoever executes them here."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable

from mageflow.core.events import Lapse
from mageflow.core.records import OutboxRow, RowAction
from mageflow.core.replies import EndReply
from mageflow.core.status import RunStatus
from mageflow.ports.engine import Engine
from mageflow.runtime.advance import advance
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.transact import Transactor

__all__ = ["Relay"]

logger = logging.getLogger("mageflow.runtime")

_ADVANCE = RowAction.ADVANCE.value
_BATCH = 200
_LOOK_EVERY = 1.0
"""Seconds between two looks at the outbox where nothing rang."""


class Relay:
    """Hands on due rows.

    Args:
        transactor: commits.
        registry: the tasks of this process.
        engine: what rows of runs are submitted to.
        redeliver_after: seconds after which a row that nobody claimed is given again.
    """

    def __init__(
        self, transactor: Transactor, registry: TaskRegistry, engine: Engine, *, redeliver_after: float
    ) -> None:
        self._tx = transactor
        self._registry = registry
        self._engine = engine
        self._redeliver_after = redeliver_after

    async def submit_all(self, route: str) -> None:
        """Submit the rows of a route as they come, until cancelled."""
        await self._serve(route, self._submit)

    async def advance_all(self) -> None:
        """Execute continuations, and end what nobody began in time, as they come; until cancelled."""
        await self._serve(_ADVANCE, self._advance)

    async def advance_due(self) -> int:
        """Execute what `advance_all` would by now; say how much there was."""
        return await self._hand_on(_ADVANCE, self._advance)

    async def _serve(self, route: str, act: Callable[[list[OutboxRow]], Awaitable[None]]) -> None:
        rung = asyncio.Event()
        loop = asyncio.get_running_loop()
        unwatch = self._tx.store.watch_route(route, rung.set)
        try:
            while True:
                rung.clear()
                try:
                    found = await self._hand_on(route, act)
                except Exception:  # whatever an engine raises, the next row may find it well again
                    logger.exception("rows of %s could not be handed on; they are due again later", route)
                    found = 0
                if not found:
                    alarm = loop.call_later(_LOOK_EVERY, rung.set)
                    await rung.wait()
                    alarm.cancel()
        finally:
            unwatch()

    async def _hand_on(self, route: str, act: Callable[[list[OutboxRow]], Awaitable[None]]) -> int:
        rows = await self._tx.store.due((route,), _BATCH, redeliver_after=self._redeliver_after)
        if rows:
            await act(rows)
        return len(rows)

    async def _advance(self, rows: list[OutboxRow]) -> None:
        for row in rows:
            if row.action is RowAction.LAPSE:
                event = Lapse(run=row.run, defaults=self._registry.defaults(), token=self._tx.token())
                ended = await self._tx.commit(EndReply, (row.run,), event)
                if ended.accepted and ended.run is not None and ended.run.status is RunStatus.FAILED:
                    logger.error("run %s has failed: no worker began it within its schedule_timeout", row.run)
            else:
                await advance(self._tx, row.run, self._registry.defaults())

    async def _submit(self, rows: list[OutboxRow]) -> None:
        """Submit rows in an empty context: an engine must not take them for children of what runs here."""
        await asyncio.create_task(self._engine.submit(rows), context=contextvars.Context())
