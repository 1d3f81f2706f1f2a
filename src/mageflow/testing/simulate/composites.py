"""What must hold of chains and swarms after every commit."""

from __future__ import annotations

from collections.abc import Iterable

from mageflow.core.records import Control, RunRecord
from mageflow.core.status import RunStatus
from mageflow.testing.simulate.ledger import Ledger

__all__ = ["Composites"]


class Composites:
    """Checks the runs of chains and swarms, and what their members come to.

    Args:
        ledger: what was committed so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._windows: dict[str, int] = {}
        """The widest window that a run has had."""

    def check_new(self, run: RunRecord) -> None:
        """A member is made by its chain or swarm, in its turn."""
        name = self._ledger.name(run.key)
        parent = self._ledger.runs.get(run.parent or "")
        there = parent is not None and parent.tally is not None and run.place is not None
        self._hold(there, "a member has a chain or swarm", name)
        if parent is None or parent.tally is None or run.place is None:
            return
        of = f"{name}, member {run.place} of {self._ledger.name(parent.key)}, {parent.status}, {parent.tally}"
        self._hold(run.place < parent.tally.made, "members are made in their order", of)
        told_off = run.status is RunStatus.CANCELLED
        stopped = self._ledger.is_stopping(parent) or self._ledger.is_broken(parent)
        # One that failed as it was made (it was removed, or its first step was) stops none that was made with it.
        failed = (each for each in self._ledger.members(parent) if each.status is RunStatus.FAILED)
        stopped = stopped and not any(each.created_at == each.ended_at == run.created_at for each in failed)
        begins = self._ledger.control(parent) is Control.NONE and not stopped
        by_now = not told_off or parent.status.is_terminal
        self._hold(begins or told_off or run.status.is_terminal, "what is held or stopped makes no member", of)
        self._hold(not parent.status.is_terminal or by_now, "what has ended makes no member", of)

    def check_touched(self, changed: Iterable[RunRecord]) -> None:
        """Check every chain and swarm that a commit wrote, or that has a member which it wrote."""
        touched: dict[str, None] = {}
        for run in changed:
            if run.tally is not None:
                touched[run.key] = None
            if run.place is not None and run.parent is not None:
                touched[run.parent] = None
        for key in touched:
            self._check(self._ledger.runs[key])

    def _check(self, run: RunRecord) -> None:
        tally = run.tally
        if tally is None:
            return
        window = self._windows[run.key] = max(tally.window, self._windows.get(run.key, 0))
        name = f"{self._ledger.name(run.key)}, {run.form}, {run.status}, cursor {run.cursor}, {tally}"
        members = self._ledger.members(run)
        live = [member for member in members if not member.status.is_terminal]
        self._hold(0 <= tally.ended <= tally.made <= tally.total, "the tally adds up", name)
        self._hold(len({member.place for member in members}) == len(members), "each member exists once", name)
        self._hold(len(live) <= window, "no more members are live than the window has room for", name)
        if run.status.is_terminal:
            self._hold(not live, "a join waits for all members", f"{name}: {len(live)} are live")
            return
        self._hold(len(live) == tally.live, "the tally counts the members", f"{name}: {len(live)} are live")
        for status, counted in (
            (RunStatus.SUCCEEDED, tally.succeeded),
            (RunStatus.FAILED, tally.failed),
            (RunStatus.CANCELLED, tally.cancelled),
        ):
            met = sum(member.status is status for member in members)
            self._hold(met <= counted, "the tally counts the members", f"{name}: {met} are {status}")
        self._check_going_on(run, name)

    def _check_going_on(self, run: RunRecord, name: str) -> None:
        """What is open and not held goes on, or a continuation is due that lets it."""
        tally = run.tally
        assert tally is not None
        if run.started_at is None or run.status is not RunStatus.RUNNING or run.cursor is not None:
            return
        above = [self._ledger.runs[key] for key in run.lineage]
        if any(each.cursor is not None and each.cursor.sweep for each in above):
            return
        control = self._ledger.control(run)
        if control in (Control.SUSPEND, Control.INTERRUPT):
            return
        left = tally.total - tally.made
        room = tally.window - tally.live
        stops = control is Control.CANCEL or self._ledger.is_stopping(run) or self._ledger.is_broken(run)
        self._hold(not left or (room <= 0 and not stops), "a window with room is filled", name)
        closed = tally.closed or (tally.auto_close and tally.total > 0)
        self._hold(bool(left or tally.live) or not closed, "a join fires when its last member has ended", name)

    def _hold(self, holds: bool, invariant: str, detail: str) -> None:
        if not holds:
            raise self._ledger.history.fail(invariant, detail)
