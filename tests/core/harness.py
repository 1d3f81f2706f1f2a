"""A world of records and outbox rows that events are committed to, with a clock that is turned by hand.

It does what a store does (load, decide, fence, commit, stamp) in the plainest way, and holds the invariants after
every commit. So a test reads as a story: sign, start, claim, end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Raw

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
    Slot,
)
from mageflow.core.events import (
    Advance,
    Announce,
    Claim,
    End,
    Event,
    Failed,
    HandedBack,
    Keeps,
    Lapse,
    Peek,
    Refuse,
    Reroute,
    RetryRun,
    SetControl,
    Start,
    Stopped,
    Strand,
    Succeeded,
    Sweep,
    TakeBack,
    Withdraw,
)
from mageflow.core.ids import RUN, SIGNATURE, retry_id
from mageflow.core.lifecycle import SWEEP_PAGE
from mageflow.core.members import MEMBERS_A_RECORD, Form, Member, Roster, members_keys
from mageflow.core.notes import AcquireLock, KeepNote, ReleaseLock, lock_key
from mageflow.core.options import Options
from mageflow.core.records import (
    Control,
    Failure,
    MembersRecord,
    Origin,
    OutboxRow,
    Record,
    RowAction,
    RunRecord,
    SignatureRecord,
    decode,
    encode,
    index_of,
    replace,
)
from mageflow.core.replies import (
    ClaimReply,
    ControlReply,
    EndReply,
    MembersReply,
    SignatureReply,
    StartReply,
)
from mageflow.core.status import RunStatus
from tests.core import invariants

__all__ = ["DONE", "World", "failed", "failure_of", "loads"]

T = TypeVar("T")

Outcome = Succeeded | Failed | Stopped | HandedBack

DONE = Succeeded(Raw(b"null"))
ROUTE = "here"
DAY = 24 * 3600.0


def failed(message: str = "no", *, retry: bool = True, after: float | None = None) -> Failed:
    """What a body came to that raised."""
    return Failed(failure=Failure(type="ValueError", message=message), retry=retry, after=after)


def failure_of(run: RunRecord) -> str:
    """The type of what a run failed with."""
    assert run.failure is not None
    return run.failure.type


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


class World:
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
        self._serial = 0

    # Committing

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

    # Signatures

    def sign(
        self,
        task: str,
        *,
        success: Sequence[str] = (),
        error: Sequence[str] = (),
        done: Sequence[str] = (),
        options: Options | None = None,
        form: Form = Form.TASK,
        roster: Roster | None = None,
        ttl: tuple[float, float] = (DAY, 3 * 3600.0),
        **kwargs: Any,
    ) -> str:
        """Keep a signature of `task`; give its key."""
        self._serial += 1
        record = SignatureRecord(
            key=f"{SIGNATURE}{self._serial:010d}{task}",
            created_at=0.0,
            task=task,
            route=ROUTE,
            form=form,
            roster=roster,
            kwargs=kwargs,
            on_success=tuple(success),
            on_error=tuple(error),
            on_done=tuple(done),
            options=options or Options(),
            active_ttl=ttl[0],
            done_ttl=ttl[1],
        )
        reply = self.commit(SignatureReply, PutSignature(record=record, token=self.token()))
        assert not reply.missing, f"there is no {reply.missing}"
        return record.key

    def chain(self, *steps: str, **given: Any) -> str:
        """Keep a chain of these signatures; give its key. `given` is what `sign` takes."""
        return self._compose(Form.CHAIN, steps, Roster(count=len(steps), window=1, stop_after=1), **given)

    def swarm(
        self,
        *members: str,
        window: int = 30,
        stop_after: int | None = None,
        closed: bool = True,
        auto_close: bool = False,
        **given: Any,
    ) -> str:
        """Keep a swarm of these signatures; give its key. `given` is what `sign` takes."""
        roster = Roster(count=len(members), window=window, stop_after=stop_after, closed=closed, auto_close=auto_close)
        return self._compose(Form.SWARM, members, roster, **given)

    def _compose(self, form: Form, members: Sequence[str], roster: Roster, **given: Any) -> str:
        key = self.sign(form.value, form=form, roster=roster, **given)
        pages = members_keys(key, 0, len(members))
        for number, page in enumerate(pages):
            begin = number * MEMBERS_A_RECORD
            listed = tuple(Member(signature=each) for each in members[begin : begin + MEMBERS_A_RECORD])
            record = MembersRecord(key=page, created_at=0.0, owner=key, members=listed)
            reply = self.commit(MembersReply, PutMembers(records=(record,), active_ttl=DAY, token=self.token()))
            assert not reply.missing, f"there is no {reply.missing}"
        return key

    def add(self, swarm: str, *members: str) -> MembersReply:
        listed = tuple(Member(signature=each) for each in members)
        token = self.token()
        event = AddMembers(key=swarm, members=listed, note=f"note:{token}", defaults=self.defaults, token=token)
        return self.commit(MembersReply, event)

    def close(self, swarm: str) -> SignatureReply:
        return self.commit(SignatureReply, CloseMembers(key=swarm, defaults=self.defaults, token=self.token()))

    def resize(self, key: str, window: int) -> SignatureReply:
        event = Resize(key=key, window=window, defaults=self.defaults, token=self.token())
        return self.commit(SignatureReply, event)

    def members(self, run: str) -> dict[int, RunRecord]:
        """Give the members' runs of a chain or swarm, by place."""
        return {each.place: each for each in self.runs() if each.parent == run and each.place is not None}

    def signature(self, key: str) -> SignatureRecord:
        record = self.records[key]
        assert isinstance(record, SignatureRecord)
        return record

    def edit(self, key: str, *, drop: Sequence[str] = (), clear: bool = False, **put: Any) -> SignatureReply:
        event = EditKwargs(key=key, put=put, drop=tuple(drop), clear=clear, token=self.token())
        return self.commit(SignatureReply, event)

    def append(self, key: str, slot: Slot, *callbacks: str) -> SignatureReply:
        token = self.token()
        event = AppendCallbacks(key=key, slot=slot, callbacks=callbacks, note=f"note:{token}", token=token)
        return self.commit(SignatureReply, event)

    def remove(self, key: str, *callbacks: str) -> SignatureReply:
        return self.commit(SignatureReply, RemoveSignature(key=key, callbacks=callbacks, token=self.token()))

    def control_signature(self, key: str, control: Control) -> None:
        """Hold, let go or cancel a signature and the live runs that it has."""
        if control is not Control.CANCEL:
            event = SetSignatureControl(key=key, control=control, token=self.token())
            self.commit(SignatureReply, event)
        for run in [run for run in self.runs() if run.signature == key and index_of(run).live]:
            self.control(run.key, control)

    # Runs

    def start(
        self,
        signature: str,
        sent: bytes | None = None,
        *,
        run: str | None = None,
        options: Options | None = None,
        origin: Origin = Origin.MESSAGE,
    ) -> str:
        """Start a signature that is there; give the run's id."""
        reply = self.try_start(signature, sent, run=run, options=options, origin=origin)
        assert reply.run is not None, f"there is no {signature}"
        return reply.run.key

    def try_start(
        self,
        signature: str,
        sent: bytes | None = None,
        *,
        run: str | None = None,
        options: Options | None = None,
        origin: Origin = Origin.MESSAGE,
    ) -> StartReply:
        self._serial += 1
        event = Start(
            run=run or f"{RUN}{self._serial:010d}",
            signature=signature,
            origin=origin,
            sent=Raw(sent) if sent is not None else None,
            options=options or Options(),
            defaults=self.defaults,
            token=self.token(),
        )
        return self.commit(StartReply, event)

    def claim(self, run: str, worker: str = "w1", *, defaults: Mapping[str, Options] | None = None) -> ClaimReply:
        known = self.defaults if defaults is None else defaults
        return self.commit(ClaimReply, Claim(run=run, worker=worker, defaults=known, token=self.token()))

    def end(
        self,
        run: str,
        outcome: Outcome,
        *,
        worker: str | None = None,
        attempt: int | None = None,
        message: bytes | None = b"{}",
        keeps: Keeps | None = None,
    ) -> EndReply:
        """End an attempt; by default the one that runs."""
        held = self.run(run)
        event = End(
            run=run,
            worker=worker or held.worker or "nobody",
            attempt=held.attempt if attempt is None else attempt,
            outcome=outcome,
            message=Raw(message) if message is not None else None,
            keeps=keeps,
            defaults=self.defaults,
            token=self.token(),
        )
        return self.commit(EndReply, event)

    def finish(self, run: str, outcome: Outcome = DONE) -> RunRecord:
        """Claim a run and end it."""
        reply = self.claim(run)
        assert reply.verdict == "claimed", f"{run} cannot be claimed: {reply.verdict}"
        self.end(run, outcome)
        return self.run(run)

    def take_back(self, run: str, worker: str | None = None, *, max_losses: int = 3) -> EndReply:
        event = TakeBack(
            run=run,
            worker=worker or self.run(run).worker or "nobody",
            max_losses=max_losses,
            defaults=self.defaults,
            token=self.token(),
        )
        return self.commit(EndReply, event)

    def strand(self, run: str, patience: float = DAY) -> EndReply:
        return self.commit(EndReply, Strand(run=run, patience=patience, defaults=self.defaults, token=self.token()))

    def peek(self, run: str) -> ClaimReply:
        return self.commit(ClaimReply, Peek(run=run, token=self.token()))

    def refuse(self, run: str, message: str = "too large") -> EndReply:
        failure = Failure(type="UndeliverableError", message=message)
        return self.commit(EndReply, Refuse(run=run, failure=failure, defaults=self.defaults, token=self.token()))

    def lapse(self, run: str) -> EndReply:
        return self.commit(EndReply, Lapse(run=run, defaults=self.defaults, token=self.token()))

    def reroute(self, run: str, *, given: bool = False) -> EndReply:
        return self.commit(EndReply, Reroute(run=run, given=given, token=self.token()))

    def retry(self, run: str) -> StartReply:
        return self.commit(StartReply, RetryRun(run=run, new=retry_id(run), token=self.token()))

    def control(self, run: str, control: Control) -> ControlReply:
        event = SetControl(run=run, control=control, defaults=self.defaults, token=self.token())
        return self.commit(ControlReply, event)

    def suspend(self, run: str) -> ControlReply:
        return self.control(run, Control.SUSPEND)

    def interrupt(self, run: str) -> ControlReply:
        return self.control(run, Control.INTERRUPT)

    def resume(self, run: str) -> ControlReply:
        return self.control(run, Control.NONE)

    def cancel(self, run: str) -> ControlReply:
        return self.control(run, Control.CANCEL)

    # Continuations

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
