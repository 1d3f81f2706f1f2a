"""What a store does with events, in the plainest way: load, decide, fence, commit, stamp. All invariants are held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from mageflow.core.decide import decide
from mageflow.core.decision import Decision, Need
from mageflow.core.edits import (
    AddMembers,
    AppendCallbacks,
    CloseMembers,
    EditKwargs,
    PutMembers,
    PutSignature,
    RemoveSignature,
    Resize,
    SetSignatureControl,
)
from mageflow.core.events import Announce, Event, RetryRun, Start, Sweep, Withdraw
from mageflow.core.ids import retry_id
from mageflow.core.notes import AcquireLock, KeepNote, ReleaseLock, lock_key
from mageflow.core.options import Options
from mageflow.core.records import OutboxRow, Record, RowAction, RunRecord, decode, encode, replace
from mageflow.core.status import RunStatus
from tests.core import invariants

__all__ = ["Committing", "loads"]

T = TypeVar("T")


def loads(event: Event) -> tuple[str, ...]:
    """Give the keys that an event loads from the start, as its docstring says."""
    match event:
        case Start():
            return (event.run, event.signature, *((event.window,) if event.window is not None else ()))
        case Sweep():
            return (event.run, *event.page)
        case RetryRun():
            return (event.run, event.new)
        case PutSignature() | KeepNote():
            return (event.record.key,)
        case EditKwargs() | SetSignatureControl() | CloseMembers() | Resize():
            return (event.key,)
        case AddMembers():
            return (event.key, event.note, *(member.signature for member in event.members))
        case AppendCallbacks():
            return (event.key, event.note, *event.callbacks)
        case RemoveSignature():
            return (event.key, *event.callbacks)
        case Announce() | PutMembers():
            return tuple(record.key for record in event.records)
        case Withdraw():
            return (event.worker,)
        case AcquireLock() | ReleaseLock():
            return (lock_key(event.about),)
        case _:
            return (event.run,)


class Committing:
    """Records and rows as a store would hold them, and the story told so far.

    Attributes:
        now: the store's time; `turn` moves it.
        defaults: the options that tasks were registered with.
        story: every event with its decision, oldest first.
    """

    def __init__(self, defaults: Mapping[str, Options] | None = None) -> None:
        self.now = 1_000_000.0
        self.jitter = 0.0
        self.defaults = defaults or {}
        self.records: dict[str, Record] = {}
        self.rows: dict[str, OutboxRow] = {}
        self.story: list[tuple[Event, Decision]] = []
        self._serial: int = 0

    def token(self) -> str:
        self._serial += 1
        return f"token{self._serial}"

    def commit(self, reply: type[T], event: Event) -> T:
        """Commit an event as a store would; check all that must hold."""
        decision = self._decide(event)
        invariants.check_decision(decision, self.records)
        before = {record.key: self.records.get(record.key) for record in decision.writes}
        self._apply(event, decision)
        self.story.append((event, decision))
        self._check(decision, before)
        invariants.changes_nothing(event, self._decide(event), self.records, self.rows)
        assert isinstance(decision.reply, reply), f"{event} replied {decision.reply!r}"
        return decision.reply

    def again(self, reply: type[T], event: Event | None = None) -> T:
        """Commit an event once more, the last one by default: its reply was lost."""
        return self.commit(reply, event if event is not None else self.story[-1][0])

    def _decide(self, event: Event) -> Decision:
        records: dict[str, Record | None] = {key: self.records.get(key) for key in loads(event)}
        about = self.records.get(getattr(event, "run", ""))
        levels = len(about.lineage) if isinstance(about, RunRecord) else 0
        for _ in range(5 + 3 * levels):  # the end of a member may end what it is in, and that what it is in
            answer = self._decide_twice(records, event)
            if isinstance(answer, Decision):
                return answer
            more = [key for key in answer.keys if key not in records]
            assert more, f"{event} asked again for what was loaded: {answer.keys}"
            records.update((key, self.records.get(key)) for key in more)
        raise AssertionError(f"{event} asked for more records again and again")

    def _decide_twice(self, records: dict[str, Record | None], event: Event) -> Decision | Need:
        """The same input gives the same answer, and is left as it was."""
        before = {key: encode(record) if record is not None else None for key, record in records.items()}
        answer = decide(records, event, self.now, self.jitter)
        copies = {key: decode(data, key) if data is not None else None for key, data in before.items()}
        assert records == copies, f"{event} changed what it was given"
        assert decide(copies, event, self.now, self.jitter) == answer, f"{event} was decided in two ways"
        return answer

    def _apply(self, event: Event, decision: Decision) -> None:
        for record in decision.writes:
            stamped = replace(record, rev=record.rev + 1, token=event.token)
            self.records[record.key] = decode(encode(stamped), record.key)
        for record in decision.deletes:
            del self.records[record.key]
        for key, expires_at in decision.touches:
            touched = self.records[key]
            if touched.expires_at is not None:
                self.records[key] = replace(touched, expires_at=max(touched.expires_at, expires_at))
        for key in decision.settled:
            self.rows.pop(key, None)
        for row in decision.rows:
            self.rows.pop(row.key, None)
            self.rows[row.key] = row

    def _check(self, decision: Decision, before: Mapping[str, Record | None]) -> None:
        """Check what this commit may have changed; `check_all` looks at the rest."""
        looked: set[str] = set(before)
        for key, old in before.items():
            run = invariants.as_run(self.records, key)
            if run is not None:
                assert old is None or isinstance(old, RunRecord)
                invariants.check_change(old, run, self.records)
                if run.cause is not None:
                    looked.add(run.cause)
                if run.parent is not None:
                    looked.add(run.parent)
        for row in decision.rows:
            invariants.check_row(row, self.records)
            looked.add(row.run)
        looked.update(key.removeprefix("advance:") for key in decision.settled)
        for key in looked:
            run = invariants.as_run(self.records, key)
            if run is not None:
                invariants.check_run(run, self.records, self.rows)

    def check_all(self) -> None:
        """Check all records and rows."""
        for row in self.rows.values():
            invariants.check_row(row, self.records)
        caused = set[str]()
        for run in self.runs():
            invariants.check_run(run, self.records, self.rows)
            if run.status.is_terminal or run.tally is not None:
                caused.update(invariants.expected_callbacks(run))
        retried = {retry_id(run.key) for run in self.runs()}
        odd = [
            run.key for run in self.runs() if run.cause not in (None, run.parent) and run.key not in caused | retried
        ]
        assert not odd, f"runs that no end accounts for: {odd}"

    # Looking

    def run(self, run: str) -> RunRecord:
        record = self.records[run]
        assert isinstance(record, RunRecord)
        return record

    def runs(self) -> list[RunRecord]:
        """Give all runs, oldest first."""
        return [record for record in self.records.values() if isinstance(record, RunRecord)]

    def status(self, run: str) -> RunStatus:
        return self.run(run).status

    def callbacks(self, run: str) -> list[RunRecord]:
        """Give the runs that the end of `run` made, in the order of their making."""
        return [each for each in self.runs() if each.cause == run]

    def tasks_called(self, run: str) -> list[str]:
        """Give the tasks of the runs that the end of `run` made."""
        return [each.task for each in self.callbacks(run)]

    def due(self) -> list[str]:
        """Give the runs that are due now."""
        rows = sorted(
            (row for row in self.rows.values() if row.action is RowAction.RUN and row.due_at <= self.now),
            key=lambda row: (-row.priority, row.due_at),
        )
        return [row.run for row in rows]

    def turn(self, seconds: float) -> None:
        """Turn the clock."""
        self.now += seconds
