"""What was committed so far: a copy of all records and rows, kept up by the decisions themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mageflow.core.decision import Decision
from mageflow.core.ids import callback_id, life_of, retry_id
from mageflow.core.members import Form
from mageflow.core.records import (
    Control,
    Origin,
    OutboxRow,
    RunRecord,
    SignatureRecord,
    WorkerRecord,
)
from mageflow.core.replies import ClaimReply, EndReply, Offer, Verdict
from mageflow.core.status import RunStatus
from mageflow.ports.clock import Clock
from mageflow.testing.simulate.process import Process, Processes

__all__ = ["Body", "Change", "Ledger"]


@dataclass(slots=True, eq=False)
class Body:
    """One call of a task's function."""

    run: str
    attempt: int
    worker: str
    process: Process
    message: Mapping[str, Any]
    began: float
    took: float = 0.0
    is_timed: bool = True
    """Whether `took` is its own doing, and not that of a freeze."""
    over: bool = False
    came_to: str = ""
    """`value`, `error` (may be tried again), `final` (may not), `stopped`."""
    value: Any = None


Change = tuple[RunRecord | None, RunRecord]
"""A run before and after a commit."""


class Ledger:
    """All that the store should have, and what the processes do with it.

    Args:
        among: the processes, for their time and history.
        clock: the store's time.
        lease: how long a worker's beat may stand still.
    """

    def __init__(self, among: Processes, clock: Clock, lease: float) -> None:
        self.among = among
        self.history = among.history
        self.lease = lease
        self.runs: dict[str, RunRecord] = {}
        self.signatures: dict[str, SignatureRecord] = {}
        self.removed: dict[str, SignatureRecord] = {}
        """The signatures that somebody removed, as they were; what the purge takes is not among them."""
        self.removed_at: dict[str, float] = {}
        self.workers: dict[str, Process] = {}
        """The processes of the worker records that are there."""
        self.purged: set[str] = set()
        """The runs that the store has no more."""
        self.rows: dict[str, OutboxRow] = {}
        self.bodies: dict[tuple[str, int], Body] = {}
        self.claims: dict[tuple[str, int], tuple[str, Mapping[str, Any]]] = {}
        """Who claimed an attempt, and the bound values that its message was to be assembled with."""
        self.bound_to: dict[str, set[str]] = {}
        """The names of the values that were bound to a run which never received a message, by the run."""
        self.cancelled_at: dict[str, float] = {}
        """When a run was asked to be cancelled."""
        self.caused: dict[str, list[str]] = {}
        self.tries: dict[str, float] = {}
        """When a worker last set out to beat, by the loop's time."""
        self._clock = clock
        self._beats: dict[str, float] = {}
        self._lapsed: set[str] = set()
        self._retries: set[str] = set()

    def now(self) -> float:
        return self._clock.now()

    @property
    def epoch(self) -> float:
        """The store's time when the loop's was 0."""
        return self._clock.now() - self.among.loop.time()

    def name(self, key: str | None) -> str:
        return self.history.name(key) if key is not None else "nobody"

    # Workers

    def try_beat(self, worker: str) -> None:
        """A worker is about to beat."""
        self.tries[worker] = self.among.loop.time()

    def beat(self, worker: str) -> None:
        """A worker beat: if that took longer than the lease, it counts as dead from then on."""
        now = self.among.uptime()
        if now - self._beats.get(worker, now) > self.lease:
            self._lapsed.add(worker)
        self._beats[worker] = now

    def is_sound(self, worker: str | None) -> bool:
        """Whether nobody may take anything from this worker."""
        process = self.workers.get(worker or "")
        if worker is None or process is None or not process.alive or process.leaving or worker in self._lapsed:
            return False
        return self.among.uptime() - self._beats[worker] <= self.lease

    # Commits

    def apply(self, process: Process, decision: Decision) -> list[Change]:
        """Take over what was committed; give what became of runs."""
        for key in decision.settled:
            self.rows.pop(key, None)
        for row in decision.rows:
            self.rows[row.key] = row
        for record in decision.deletes:
            if (signature := self.signatures.pop(record.key, None)) is not None:
                self.history.tell(process.name, f"has {self.name(record.key)} removed")
                self.removed[record.key] = signature
                self.removed_at[record.key] = self.now()
            if self.workers.pop(record.key, None) is not None:
                self.history.tell(process.name, f"withdraws {self.name(record.key)}")
        changes: list[Change] = []
        for record in decision.writes:
            if isinstance(record, RunRecord):
                if record.rev == 0:
                    self._forget(record.key)
                changes.append((self.runs.get(record.key), record))
                self.runs[record.key] = record
            elif isinstance(record, SignatureRecord):
                self.signatures[record.key] = record
            elif isinstance(record, WorkerRecord):
                self.history.tell(process.name, f"is {self.name(record.key)}")
                self.workers[record.key] = process
                self._beats[record.key] = self.among.uptime()
        for before, after in changes:
            self._tell(process, before, after)
            self._note_cancel(after)
            if before is None:
                self._note_new(after)
        self._note_claim(decision.reply)
        return changes

    def _note_cancel(self, run: RunRecord) -> None:
        if run.control is Control.CANCEL:
            self.cancelled_at.setdefault(run.key, self.now())

    def _note_new(self, run: RunRecord) -> None:
        self._retries.add(retry_id(run.key))
        if run.cause is not None:
            self.caused.setdefault(run.cause, []).append(run.key)

    def purge(self, keys: Iterable[str]) -> None:
        """Note what the purge took, which no decision shows."""
        for key in keys:
            self.history.count("store", "purged", self.name(key))
            if self.signatures.pop(key, None) is None:
                self.purged.add(key)

    def _forget(self, key: str) -> None:
        """A run begins: if there was one of this id, which an idempotency key gave it, the purge has taken it."""
        if self.runs.pop(key, None) is None:
            return
        self.purged.discard(key)
        for number in [hold for hold in self.claims if hold[0] == key]:
            del self.claims[number]
            self.bodies.pop(number, None)
        for caused in self.caused.pop(key, ()):
            self.history.tell("-", f"{self.name(caused)} was caused by an earlier {self.name(key)}")

    def _note_claim(self, reply: Any) -> None:
        if isinstance(reply, EndReply):
            reply = reply.kept
        if isinstance(reply, ClaimReply) and reply.verdict is Verdict.CLAIMED and reply.run is not None:
            self.claims[reply.run.key, reply.run.attempt] = (reply.run.worker or "", _bound(reply.offer))
            if reply.offer is not None and reply.offer.received is not None and reply.run.cause is not None:
                self.bound_to[reply.run.cause] = set(_bound(reply.offer.received))

    def settled(self, run: RunRecord) -> bool:
        """Whether a run and all that it caused have ended."""
        caused = (self.runs[key] for key in self.caused.get(run.key, ()))
        return run.status.is_terminal and run.cursor is None and all(map(self.settled, caused))

    def control(self, run: RunRecord) -> Control:
        """Give the strongest control in reach, found in another way than the core does."""
        reach = [run, *(self.runs[key] for key in run.lineage if key not in self.purged)]
        return max((each.control for each in reach), key=lambda control: list(Control).index(control))

    def is_stopping(self, run: RunRecord) -> bool:
        """Whether a chain or swarm has as many failures as stop it."""
        tally = run.tally
        return tally is not None and tally.stop_after is not None and tally.failed >= tally.stop_after

    def is_broken(self, run: RunRecord) -> bool:
        """Whether a step of a chain was cancelled."""
        return run.form is Form.CHAIN and run.tally is not None and run.tally.cancelled > 0

    def is_told_off(self, run: RunRecord) -> bool:
        """Whether a member that has not begun is not to begin any more."""
        parent = self.runs.get(run.parent or "")
        return parent is not None and self.is_stopping(parent)

    def members(self, run: RunRecord) -> list[RunRecord]:
        """Give the runs of the members of a chain or swarm."""
        caused = (self.runs[key] for key in self.caused.get(run.key, ()))
        return [each for each in caused if each.place is not None]

    def is_retry(self, run: RunRecord) -> bool:
        """Whether somebody wanted this run in place of an ended one with the same cause."""
        return run.key in self._retries

    def expected(self, run: RunRecord) -> dict[str, tuple[Origin, str]]:
        lists = {
            RunStatus.SUCCEEDED: [("success", Origin.RESULT, run.on_success)],
            RunStatus.FAILED: [("error", Origin.FAILURE, run.on_error)],
            RunStatus.CANCELLED: [],
        }
        slots = [*lists.get(run.status, ()), ("done", Origin.OUTCOME, run.on_done)]
        if not run.status.is_terminal:
            slots = [("error", Origin.FAILURE, run.on_error)] if self.is_stopping(run) else []
        return {
            callback_id(life_of(run.key, run.created_at), slot, place): (origin, key)
            for slot, origin, keys in slots
            for place, key in enumerate(keys)
        }

    # The end

    def open(self) -> list[str]:
        """Say what has not come to its end."""
        runs = [run for run in self.runs.values() if not run.status.is_terminal or run.cursor is not None]
        if not runs:
            return [f"the row {self.name(key)} is still there" for key in self.rows]
        return [
            f"{self.name(run.key)} of {run.task!r} is {run.status}, control {run.control.value or 'none'}, held by "
            f"{self.name(run.worker)}, attempt {run.attempt}, due {run.due_at - self.now():+.1f} s, because of "
            f"{self.name(run.cause)}, cursor {run.cursor}, {'in' if run.key in self.rows else 'not in'} the outbox"
            for run in runs
        ]

    def _tell(self, process: Process, before: RunRecord | None, after: RunRecord) -> None:
        was = before.status.value if before is not None else "new"
        control = f", {after.control.value}" if after.control is not Control.NONE else ""
        held = f" by {self.name(after.worker or '')}, attempt {after.attempt}" if after.attempt else ""
        cause = f", because of {self.name(after.cause)}" if before is None and after.cause else ""
        self.history.tell(process.name, f"{self.name(after.key)}: {was} > {after.status.value}{control}{held}{cause}")


def _bound(offer: Offer | None) -> dict[str, Any]:
    """Give the bound values that a message is assembled with."""
    layers = offer.layers if offer is not None else ()
    return {name: value for layer in layers if isinstance(layer, Mapping) for name, value in layer.items()}
