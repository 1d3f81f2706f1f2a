"""What was committed so far, and whether it may be: the invariants, checked at every commit and every body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mageflow.core.decision import Decision
from mageflow.core.events import ClaimReply, Verdict
from mageflow.core.ids import callback_id, retry_id
from mageflow.core.records import (
    Control,
    Origin,
    OutboxRow,
    Record,
    RunRecord,
    SignatureRecord,
    WorkerRecord,
    advance_key,
)
from mageflow.core.status import TRANSITIONS, WAITING, RunStatus
from mageflow.ports.clock import Clock
from mageflow.ports.engine import Delivered, Reported
from mageflow.testing.simulate.process import Process, Processes

__all__ = ["Body", "Ledger", "covers"]

_SOON = 1e-3 + 1e-6
_GONE = ("SignatureNotFoundError", "RunNotFoundError")


@dataclass(slots=True, eq=False)
class Body:
    """One call of a task's function."""

    run: str
    attempt: int
    worker: str
    process: Process
    message: Mapping[str, Any]
    over: bool = False
    came_to: str = ""
    """`value`, `error` (may be tried again), `final` (may not), `stopped`."""
    value: Any = None


def covers(whole: Any, part: Any) -> bool:
    """Whether `part` is in `whole`, dict in dict."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and covers(whole[key], value) for key, value in part.items())
    return bool(whole == part)


class Ledger:
    """A copy of all records and rows, kept up by the decisions that were committed."""

    def __init__(self, among: Processes, clock: Clock, lease: float) -> None:
        self._among = among
        self._history = among.history
        self._clock = clock
        self._lease = lease
        self.runs: dict[str, RunRecord] = {}
        self.signatures: dict[str, SignatureRecord] = {}
        self.workers: dict[str, Process] = {}
        self.rows: dict[str, OutboxRow] = {}
        self.bodies: dict[tuple[str, int], Body] = {}
        self._claims: dict[tuple[str, int], tuple[str, Mapping[str, Any]]] = {}
        self._caused: dict[str, list[str]] = {}
        self._beats: dict[str, float] = {}
        self._lapsed: set[str] = set()
        self._tries: dict[str, float] = {}

    # Workers

    def try_beat(self, worker: str) -> None:
        """A worker is about to beat."""
        self._tries[worker] = self._among.loop.time()

    def beat(self, worker: str) -> None:
        """A worker beat: if that took longer than the lease, it counts as dead from then on."""
        now = self._among.uptime()
        if now - self._beats.get(worker, now) > self._lease:
            self._lapsed.add(worker)
        self._beats[worker] = now

    def is_sound(self, worker: str | None) -> bool:
        """Whether nobody may take anything from this worker."""
        process = self.workers.get(worker or "")
        if worker is None or process is None or not process.alive or process.leaving or worker in self._lapsed:
            return False
        return self._among.uptime() - self._beats[worker] <= self._lease

    # Commits

    def commit(self, process: Process, decision: Decision) -> None:
        """Take over what was committed, then check it."""
        for key in decision.settled:
            self.rows.pop(key, None)
        for row in decision.rows:
            self.rows[row.key] = row
        for record in decision.deletes:
            self._remove(process, record)
        runs: list[tuple[RunRecord | None, RunRecord]] = []
        for record in decision.writes:
            if isinstance(record, RunRecord):
                runs.append((self.runs.get(record.key), record))
                self.runs[record.key] = record
            elif isinstance(record, SignatureRecord):
                self.signatures[record.key] = record
            elif isinstance(record, WorkerRecord):
                self.workers[record.key] = process
                self._beats[record.key] = self._among.uptime()
        for before, after in runs:
            self._tell(process, before, after)
            if before is None:
                self._check_new(after)
        for before, after in runs:
            self._check_run(process, before, after)
        claimed = decision.reply
        if isinstance(claimed, ClaimReply) and claimed.verdict is Verdict.CLAIMED and claimed.run is not None:
            bound = claimed.signature.kwargs if claimed.signature is not None else {}
            self._claims[claimed.run.key, claimed.run.attempt] = (claimed.run.worker or "", bound)
        for key in decision.settled:
            run = self.runs.get(key)
            if run is not None:
                self._check_rows(run)

    def _remove(self, process: Process, record: Record) -> None:
        if isinstance(record, SignatureRecord):
            self.signatures.pop(record.key, None)
        elif isinstance(record, WorkerRecord):
            self._hold(
                process is self.workers.get(record.key) or not self.is_sound(record.key),
                "nobody buries a worker that beats",
                f"{process.name} buried {self._name(record.key)}",
            )
            self.workers.pop(record.key, None)

    def _check_run(self, process: Process, before: RunRecord | None, after: RunRecord) -> None:
        if before is not None:
            self._check_change(before, after)
            if after.attempt != before.attempt:
                self._check_claim(process, before, after)
            elif before.status is RunStatus.RUNNING and after.status is not RunStatus.RUNNING:
                if after.losses != before.losses:
                    self._check_loss(process, before, after)
                else:
                    self._check_end(process, before, after)
        if after.status.is_terminal:
            self._check_terminal(before, after)
        self._check_rows(after)

    def _check_new(self, run: RunRecord) -> None:
        if run.cause is None:
            return
        cause = self.runs[run.cause]
        siblings = self._caused.setdefault(cause.key, [])
        expected = self._expected(cause)
        again = any(run.key == retry_id(sibling) for sibling in siblings)
        self._hold(
            again or expected.get(run.key) == (run.origin, run.signature),
            "only the callbacks of an outcome exist, each under its derived id",
            f"{self._name(run.key)} ({run.origin}) was caused by {self._name(cause.key)}, {cause.status}",
        )
        siblings.append(run.key)

    def _check_change(self, before: RunRecord, after: RunRecord) -> None:
        name = self._name(after.key)
        self._hold(
            after.status is before.status or after.status in TRANSITIONS[before.status],
            "the transition table holds",
            f"{name}: {before.status} to {after.status}",
        )
        if before.status.is_terminal:
            fields = ("status", "result", "failure", "message", "ended_at", "attempt", "failures")
            changed = [field for field in fields if getattr(before, field) != getattr(after, field)]
            self._hold(not changed, "a terminal state stays", f"{name}: {', '.join(changed)} changed")
        self._hold(before.message is None or before.message == after.message, "a message stays as it was frozen", name)

    def _check_claim(self, process: Process, before: RunRecord, after: RunRecord) -> None:
        name = self._name(after.key)
        now = self._clock.now()
        self._history.counts["claims"] += 1
        self._hold(
            before.status in WAITING and after.status is RunStatus.RUNNING and after.attempt == before.attempt + 1,
            "only a waiting run is claimed",
            f"{name}: {before.status} to {after.status}, attempt {before.attempt} to {after.attempt}",
        )
        early = before.due_at > now + _SOON and before.status is not RunStatus.UNROUTABLE
        self._hold(not early, "no run begins before its time", f"{name}: {before.due_at - now:.3f} s too early")
        limit = before.options.schedule_timeout
        late = limit is not None and before.message is None and now - before.due_at > limit + _SOON
        self._hold(not late, "no run begins after its schedule_timeout", name)
        control = self._control(after)
        self._hold(control is Control.NONE, "a claim obeys the controls of the lineage", f"{name}: {control}")
        owner = self.workers.get(after.worker or "", process)
        self._hold(owner is process, "a worker claims for itself", f"{name}: {process.name} for {owner.name}")

    def _check_loss(self, process: Process, before: RunRecord, after: RunRecord) -> None:
        self._history.counts["taken back"] += 1
        self._hold(
            not self.is_sound(before.worker),
            "a run is only taken from a worker that is dead, frozen, cut off or gone",
            f"{process.name} took {self._name(after.key)} from {self._name(before.worker or '')}",
        )
        holder = self.workers.get(before.worker or "")
        body = self.bodies.get((after.key, before.attempt))
        if holder is None or body is None or body.over or not holder.alive or holder.frozen:
            return
        since = self._among.loop.time() - max(holder.thawed_at, self._tries.get(before.worker or "", 0.0))
        self._hold(
            since <= self._lease,
            "a worker beats as long as a body of it executes",
            f"{holder.name} has not tried for {since:.2f} s, and {self._name(after.key)} was taken from it",
        )

    def _check_end(self, process: Process, before: RunRecord, after: RunRecord) -> None:
        name = f"{self._name(after.key)}, attempt {before.attempt}"
        body = self.bodies.get((after.key, before.attempt))
        holder = self.workers.get(before.worker or "", process)
        self._hold(holder is process, "only its holder ends an attempt", f"{name}: {process.name}, not {holder.name}")
        if body is not None:
            self._hold(
                body.process is process and body.over, "an attempt ends when its body has", f"{name} by {process.name}"
            )
            self._hold(
                after.message is not None and covers(body.message, _plain(after.message)),
                "the message is kept as the body saw it",
                f"{name}: the body saw {body.message}, kept is {after.message!r}",
            )
        if self._control(after) is not Control.CANCEL:
            self._check_outcome(name, body, before, after)

    def _check_outcome(self, name: str, body: Body | None, before: RunRecord, after: RunRecord) -> None:
        came_to = body.came_to if body is not None else "nothing"
        failure = after.failure if after.failures != before.failures else None
        shown = f"{name}: the body came to {came_to}, the run is {after.status}, {after.failures} failures"
        if after.status is RunStatus.SUCCEEDED:
            fits = body is not None and came_to == "value" and _plain(after.result) == body.value
            self._hold(fits, "a result is what the attempt's body returned", shown)
            return
        if failure is None:
            gone = body is None and after.failure is not None and after.failure.type in _GONE
            self._hold(
                came_to in ("stopped", "nothing") and (gone or after.status is not RunStatus.FAILED),
                "an attempt counts for nothing only where its body was stopped",
                shown,
            )
            return
        timeout = failure.type == "ExecutionTimeout" and after.options.execution_timeout is not None
        self._hold(
            timeout or came_to in ("error", "final") or (body is None and failure.type == "InvalidMessageError"),
            "only what failed has failed",
            f"{shown} ({failure.type}: {failure.message})",
        )
        self._hold(failure.attempt == before.attempt, "a failure names its attempt", shown)
        tries = timeout or came_to == "error"
        left = tries and after.failures <= (after.options.retries or 0)
        self._hold((after.status is RunStatus.FAILED) is not left, "retries are counted right", shown)
        if left:
            self._check_pause(shown, after)

    def _check_pause(self, shown: str, run: RunRecord) -> None:
        options = run.options
        pause = options.backoff_factor**run.failures if options.backoff_factor is not None else 0.0
        if options.backoff_max_seconds is not None:
            pause = min(pause, options.backoff_max_seconds)
        waits = run.due_at - self._clock.now()
        self._hold(0.75 * pause - 1e-5 <= waits <= pause + 1e-5, "a retry waits for its backoff", f"{shown}, {waits} s")

    def _check_terminal(self, before: RunRecord | None, after: RunRecord) -> None:
        name = self._name(after.key)
        if before is not None and not before.status.is_terminal:
            self._history.counts[after.status.value] += 1
            cancelled = after.status is RunStatus.CANCELLED
            self._hold(
                cancelled is (self._control(after) is Control.CANCEL),
                "what is cancelled ends as cancelled, and nothing else does",
                f"{name} is {after.status}, and its lineage says {self._control(after)!r}",
            )
            self._hold(
                after.status is not RunStatus.SUCCEEDED or before.status is RunStatus.RUNNING,
                "only a running run succeeds",
                f"{name} was {before.status}",
            )
        if after.cursor is None or not after.cursor.callbacks:
            absent = self._expected(after).keys() - self._caused.get(after.key, ())
            missing = ", ".join(self._name(key) for key in sorted(absent))
            self._hold(not absent, "each callback of an outcome exists with it", f"{name}: {missing} of its callbacks")

    def _check_rows(self, run: RunRecord) -> None:
        row = self.rows.get(run.key)
        name = f"{self._name(run.key)}, {run.status}"
        if run.status in WAITING:
            due = row is not None and (row.due_at, row.route, row.task) == (run.due_at, run.route, run.task)
            self._hold(due, "nothing due is missing from the outbox", f"{name}: {row}")
        else:
            self._hold(row is None, "the outbox has only what is due", name)
        advance = advance_key(run.key) in self.rows
        self._hold(advance is (run.cursor is not None), "each continuation is in the outbox", f"{name}: {run.cursor}")

    def _control(self, run: RunRecord) -> Control:
        """Give the strongest control in reach, found in another way than the core does."""
        reach = [run, *(self.runs[key] for key in run.lineage if key in self.runs)]
        return max((each.control for each in reach), key=lambda control: list(Control).index(control))

    def _expected(self, run: RunRecord) -> dict[str, tuple[Origin, str]]:
        lists = {
            RunStatus.SUCCEEDED: [("success", Origin.RESULT, run.on_success)],
            RunStatus.FAILED: [("error", Origin.FAILURE, run.on_error)],
            RunStatus.CANCELLED: [],
        }
        if run.status not in lists:
            return {}
        slots = [*lists[run.status], ("done", Origin.OUTCOME, run.on_done)]
        return {
            callback_id(run.key, slot, place): (origin, key)
            for slot, origin, keys in slots
            for place, key in enumerate(keys)
        }

    # Bodies

    def begin(self, process: Process, run_id: str, attempt: int, message: Mapping[str, Any]) -> Body:
        """A body begins."""
        worker, bound = self._claims[run_id, attempt]
        name = f"{self._name(run_id)}, attempt {attempt}, in {process.name}"
        self._history.count(process.name, "body", name)
        run = self.runs[run_id]
        self._hold((run_id, attempt) not in self.bodies, "an attempt has one body", name)
        body = Body(run_id, attempt, worker, process, message)
        for number in range(1, attempt):
            other = self.bodies.get((run_id, number))
            together = other is not None and not other.over and other.process.alive and not other.process.frozen
            if together and other is not None and self.is_sound(other.worker):
                self._hold(False, "two bodies of a run never execute at once", f"{name}, and in {other.process.name}")
        self.bodies[run_id, attempt] = body
        held = run.status is RunStatus.RUNNING and (run.worker, run.attempt) == (worker, attempt)
        self._hold(
            held or not self.is_sound(worker), "a body begins only while its run is held", f"{name}: {run.status}"
        )
        self._check_message(name, run, message, bound)
        return body

    def _check_message(self, name: str, run: RunRecord, message: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        frozen = _plain(run.message)
        if frozen is not None:
            self._hold(covers(message, frozen), "all attempts see one message", f"{name}: {message}, not {frozen}")
            return
        self._hold(covers(message, bound), "bound values stand in the message", f"{name}: {message}, bound: {bound}")
        cause = self.runs.get(run.cause or "")
        if cause is None:
            return
        if run.origin is Origin.RESULT:
            fits = message.get("results") == _plain(cause.result)
        elif run.origin is Origin.FAILURE:
            was = _plain(cause.message) or (_plain(cause.sent) if cause.origin is Origin.MESSAGE else {}) or {}
            fits = covers(message, {key: was[key] for key in was if key not in bound and key != "failure"})
            fits = fits and (run.task != "alarm" or message["failure"]["run_id"] == cause.key)
        else:
            outcome = message["outcome" if run.task == "report" else "results"]
            told = (outcome.get("run_id"), outcome.get("status"), outcome.get("attempts"))
            fits = told == (cause.key, cause.status.value, cause.attempt)
        self._hold(fits, "a callback hears of its cause", f"{name} ({run.origin}): {message}")

    def end(self, body: Body, came_to: str, value: Any = None) -> None:
        """A body has ended."""
        body.over, body.came_to, body.value = True, came_to, value
        self._history.tell(body.process.name, f"{self._name(body.run)}, attempt {body.attempt}, came to {came_to}")

    def delivered(self, process: Process, run_id: str, delivered: Delivered) -> None:
        """An engine was told what became of a delivery."""
        run = self.runs.get(run_id)
        self._history.counts[f"reported {delivered.reported.value}"] += 1
        if run is not None and delivered.reported in (Reported.SUCCEEDED, Reported.ENDED):
            told = run.status is RunStatus.SUCCEEDED or (
                run.status.is_terminal and delivered.reported is Reported.ENDED
            )
            self._hold(
                told, "an engine hears the truth", f"{self._name(run_id)} is {run.status}, told {delivered.reported}"
            )

    # The end

    def open(self) -> list[str]:
        """Say what has not come to its end."""
        runs = (run for run in self.runs.values() if not run.status.is_terminal or run.cursor is not None)
        waiting = [
            f"{self._name(run.key)} ({run.key}) of {run.task!r} is {run.status}, control {run.control.value or 'none'}, held by "
            f"{self._name(run.worker or '-')}, attempt {run.attempt}, due {run.due_at - self._clock.now():+.1f} s, "
            f"cause {self._name(run.cause or '-')}, cursor {run.cursor}, in the outbox: {run.key in self.rows}"
            for run in runs
        ]
        return waiting + [f"the row {self._name(key)} is still there" for key in self.rows if not waiting]

    def _name(self, key: str) -> str:
        return self._history.name(key)

    def _tell(self, process: Process, before: RunRecord | None, after: RunRecord) -> None:
        was = before.status.value if before is not None else "new"
        control = f", {after.control.value}" if after.control is not Control.NONE else ""
        held = f" by {self._name(after.worker or '')}, attempt {after.attempt}" if after.attempt else ""
        cause = f", because of {self._name(after.cause)}" if before is None and after.cause else ""
        self._history.tell(process.name, f"{self._name(after.key)}: {was} > {after.status.value}{control}{held}{cause}")

    def _hold(self, holds: bool, invariant: str, detail: str) -> None:
        if not holds:
            raise self._history.fail(invariant, detail)


def _plain(raw: Any) -> Any:
    return msgspec.json.decode(raw) if raw is not None else None
