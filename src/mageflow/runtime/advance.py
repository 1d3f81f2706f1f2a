"""Executing continuations: what a decision left over because one commit would have been too large."""

from __future__ import annotations

from mageflow.core.events import AdvanceCallbacks, ControlReply, Defaults, Sweep
from mageflow.core.lifecycle import SWEEP_PAGE
from mageflow.core.records import RunRecord
from mageflow.ports.store import Filter
from mageflow.runtime.transact import Transactor

__all__ = ["advance"]


async def advance(transactor: Transactor, run_id: str, defaults: Defaults) -> None:
    """Carry the continuation of a run to its end. Several workers at once do no harm: each step is fenced."""
    while True:
        reply = await transactor.commit(
            ControlReply, (run_id,), AdvanceCallbacks(run=run_id, defaults=defaults, token=transactor.token())
        )
        run = reply.run
        if run is None or run.cursor is None:
            return
        if not run.cursor.callbacks:
            break
    await _sweep(transactor, run, defaults)


async def _sweep(transactor: Transactor, run: RunRecord, defaults: Defaults) -> None:
    """Reach every live descendant, page by page; from the beginning where the control changed on the way."""
    cursor: str | None = None
    while run.cursor is not None and run.cursor.sweep:
        page = await transactor.store.query(
            Filter(root=run.root or run.key, live=True), limit=SWEEP_PAGE, cursor=cursor
        )
        reached = tuple(
            record.key
            for record in page.records
            if isinstance(record, RunRecord) and (run.key in record.lineage or record.cause == run.key)
        )
        event = Sweep(
            run=run.key,
            sweep=run.cursor.sweep,
            page=reached,
            last=page.cursor is None,
            defaults=defaults,
            token=transactor.token(),
        )
        reply = await transactor.commit(ControlReply, (run.key, *reached), event)
        if reply.run is None:
            return
        if reply.run.cursor is None or reply.run.cursor.sweep != run.cursor.sweep:
            cursor = None
        elif event.last:
            return
        else:
            cursor = page.cursor
        run = reply.run
