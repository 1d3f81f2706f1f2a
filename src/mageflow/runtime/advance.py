"""Executing continuations: what a decision left over because one commit would have been too large."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mageflow.core.events import Advance, Sweep
from mageflow.core.lifecycle import SWEEP_PAGE, hears_of_cancel
from mageflow.core.members import Form
from mageflow.core.options import Defaults
from mageflow.core.records import RunRecord
from mageflow.core.replies import ControlReply
from mageflow.core.status import RunStatus
from mageflow.ports.store import Filter, Store
from mageflow.runtime.listing import runs_of
from mageflow.runtime.transact import Transactor

__all__ = ["advance"]


async def advance(transactor: Transactor, run_id: str, defaults: Defaults) -> None:
    """Carry the continuation of a run to its end. Several workers at once do no harm: each step is fenced."""
    while True:
        reply = await transactor.commit(
            ControlReply, (run_id,), Advance(run=run_id, defaults=defaults, token=transactor.token())
        )
        run = reply.run
        if run is None or run.cursor is None:
            return
        if run.cursor.callbacks is None and not run.cursor.fill:
            break
    await _sweep(transactor, run, defaults)


async def _sweep(transactor: Transactor, run: RunRecord, defaults: Defaults) -> None:
    """Reach every live descendant, page by page; from the beginning where the control changed on the way.

    A descendant that ended before it was reached may have caused runs that do not obey `run` yet: the sweep has come to
    its end when it meets nobody who did not obey.
    """
    while run.cursor is not None and run.cursor.sweep:
        sweep = run.cursor.sweep
        strangers = False
        async for page in _pages(transactor.store, run):
            strangers = strangers or any(run.key not in record.lineage for record in page)
            swept = await _reach(transactor, run, tuple(record.key for record in page), defaults)
            if swept is None:
                return
            run = swept
            if run.cursor is None or run.cursor.sweep != sweep:
                break
        else:
            if strangers:
                continue
            ended = await _reach(transactor, run, (), defaults, last=True)
            if ended is None or ended.cursor is None or ended.cursor.sweep == sweep:
                return
            run = ended


async def _reach(
    transactor: Transactor, run: RunRecord, page: tuple[str, ...], defaults: Defaults, *, last: bool = False
) -> RunRecord | None:
    assert run.cursor is not None
    event = Sweep(
        run=run.key, sweep=run.cursor.sweep, page=page, last=last, defaults=defaults, token=transactor.token()
    )
    return (await transactor.commit(ControlReply, (run.key, *page), event)).run


async def _pages(store: Store, run: RunRecord) -> AsyncGenerator[list[RunRecord]]:
    """Give the live descendants of a run, a commit's worth at a time."""
    page: list[RunRecord] = []
    seen = set[str]()
    async for record in _descendants(store, run):
        if record.key in seen:
            continue
        seen.add(record.key)
        page.append(record)
        if len(page) == SWEEP_PAGE:
            yield page
            page = []
    if page:
        yield page


async def _descendants(store: Store, run: RunRecord) -> AsyncGenerator[RunRecord]:
    if run.root is None or run.form is not Form.TASK:  # all that is live below a chain or swarm has it in its lineage
        async for record in runs_of(store, Filter(root=run.root or run.key, live=True), page_size=SWEEP_PAGE):
            if run.key in record.lineage or (record.cause == run.key and not hears_of_cancel(run)):
                yield record
    if run.root is not None:
        async for record in _of_cause(store, run):
            yield record


async def _of_cause(store: Store, run: RunRecord) -> AsyncGenerator[RunRecord]:
    """Walk from cause to cause: a line of callbacks carries no trace of a run in its middle that has ended."""
    causes = [(run.key, not hears_of_cancel(run))]
    while causes:
        cause, entirely = causes.pop()
        async for record in runs_of(store, Filter(cause=cause), page_size=SWEEP_PAGE):
            if record.place is not None:
                continue  # a member: what it led to has its chain or swarm in its lineage
            if record.status.is_terminal:
                # What a cancelled one caused is there to hear of its end; but a hold of `run` may have reached it.
                causes.append((record.key, entirely and record.status is not RunStatus.CANCELLED))
            elif entirely or run.key in record.lineage:
                yield record
