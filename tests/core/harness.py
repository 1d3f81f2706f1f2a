"""A world of records and outbox rows that events are committed to, with a clock that is turned by hand.

It does what a store does (load, decide, fence, commit, stamp) in the plainest way, and holds the invariants after
every commit. So a test reads as a story: sign, start, claim, end.
"""

from __future__ import annotations

from collections.abc import Iterator

from mageflow.core.events import Advance, Sweep
from mageflow.core.lifecycle import SWEEP_PAGE
from mageflow.core.records import RowAction, RunRecord, index_of
from mageflow.core.replies import ControlReply
from tests.core.running import DONE, Outcome, Running, failed, failure_of
from tests.core.signing import DAY, ROUTE

__all__ = ["DAY", "DONE", "ROUTE", "Outcome", "World", "failed", "failure_of"]


class World(Running):
    """The whole of it: what is committed, signed and run, and the continuations carried to their ends."""

    def advance(self, run: str, *, page: int = SWEEP_PAGE) -> int:
        """Carry the continuation of a run to its end; give how many commits it took."""
        return sum(1 for _ in self.advancing(run, page=page))

    def advancing(self, run: str, *, page: int = SWEEP_PAGE) -> Iterator[None]:
        """Carry the continuation of a run to its end as a worker does, one commit at a time."""
        while True:
            event = Advance(run=run, defaults=self.defaults, token=self.token())
            target = self.commit(ControlReply, event).run
            yield
            if target is None or target.cursor is None:
                return
            if target.cursor.callbacks is None and not target.cursor.fill:
                break
        yield from self._sweeping(target, page)

    def _sweeping(self, target: RunRecord, page: int) -> Iterator[None]:
        last: tuple[float, str] | None = None
        while target.cursor is not None and target.cursor.sweep:
            live = self._descendants(target, last)
            chosen = live[:page]
            reached = [each.key for each in chosen if target.key in each.lineage or each.cause == target.key]
            is_last = len(live) <= page
            sweep = Sweep(
                run=target.key,
                sweep=target.cursor.sweep,
                page=tuple(reached),
                last=is_last,
                defaults=self.defaults,
                token=self.token(),
            )
            reply = self.commit(ControlReply, sweep).run
            yield
            if reply is None:
                return
            if reply.cursor is None or reply.cursor.sweep != target.cursor.sweep:
                last = None
            elif is_last:
                return
            else:
                last = (chosen[-1].created_at, chosen[-1].key)
            target = reply

    def _descendants(self, target: RunRecord, after: tuple[float, str] | None) -> list[RunRecord]:
        """What a store's query gives: the live runs under the target's root, newest first, from a place on."""
        root = target.root or target.key
        live = [run for run in self.runs() if run.root == root and index_of(run).live]
        live.sort(key=lambda run: (run.created_at, run.key), reverse=True)
        return [run for run in live if after is None or (run.created_at, run.key) < after]

    def advance_all(self) -> None:
        """Carry all continuations to their ends."""
        while waiting := [row.run for row in self.rows.values() if row.action is RowAction.ADVANCE]:
            for run in waiting:
                self.advance(run)
