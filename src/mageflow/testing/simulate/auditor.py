"""The invariants: what must hold at every commit, and whenever a body begins or ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from mageflow.core.decision import Decision
from mageflow.core.members import Form
from mageflow.core.records import (
    Control,
    Origin,
    RunRecord,
    WorkerRecord,
    advance_key,
    lapse_key,
    replace,
)
from mageflow.core.status import OPEN_TRANSITIONS, TRANSITIONS, WAITING, RunStatus
from mageflow.ports.engine import Delivered, Reported
from mageflow.testing.simulate.composites import Composites
from mageflow.testing.simulate.ledger import Body, Ledger
from mageflow.testing.simulate.process import Process

__all__ = ["Auditor"]

_SOON = 1e-3 + 1e-6
"""Seconds by which a run may begin before its time, and what is lost of them in floating point."""
_LONGEST_PAUSE = 4.0
"""Seconds after which a commit that the store did not answer is repeated, at most."""
_GONE = ("SignatureNotFoundError", "RunNotFoundError")


class Auditor:
    """Checks each thing that happens against the ledger, which it keeps up.

    Args:
        ledger: what was committed so far.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.history = ledger.history
        self._name = ledger.name
        self._composites = Composites(ledger)

    # Commits

    def commit(self, process: Process, decision: Decision) -> None:
        """Take over what was committed, and check it."""
        for record in decision.deletes:
            if isinstance(record, WorkerRecord):
                own = process is self.ledger.workers.get(record.key)
                self._hold(
                    own or not self.ledger.is_sound(record.key),
                    "nobody buries a worker that beats",
                    f"{process.name} buried {self._name(record.key)}",
                )
        changes = self.ledger.apply(process, decision)
        for before, after in changes:
            if before is None:
                self._check_new(after)
        for before, after in changes:
            self._check_run(process, before, after)
        self._composites.check_touched(after for _, after in changes)
        for key in decision.settled:
            run = self.ledger.runs.get(key)
            if run is not None:
                self._check_rows(run)

    def _check_run(self, process: Process, before: RunRecord | None, after: RunRecord) -> None:
        if before is not None:
            self._check_change(before, after)
            if after.form is not Form.TASK:
                pass  # it has no body
            elif after.attempt != before.attempt:
                self._check_claim(process, before, after)
            elif before.status is RunStatus.RUNNING and after.status is not RunStatus.RUNNING:
                if after.losses != before.losses:
                    self._check_loss(process, before, after)
                else:
                    self._check_end(process, before, after)
        elif after.attempt:  # the worker whose end made it due has it already
            self._check_claim(process, replace(after, status=RunStatus.QUEUED, attempt=0), after)
        if after.status.is_terminal:
            self._check_terminal(before, after)
        self._check_rows(after)

    def _check_new(self, run: RunRecord) -> None:
        signature = self.ledger.signatures.get(run.signature)
        if signature is not None and signature.control in (Control.SUSPEND, Control.INTERRUPT):
            waits = run.status is RunStatus.SUSPENDED or run.status.is_terminal
            shown = f"{self._name(run.key)} of {self._name(signature.key)} is {run.status}"
            self._hold(waits, "what is made of a held signature waits", shown)
        if run.cause is None:
            return
        if run.place is not None:
            self._composites.check_new(run)
            return
        cause = self.ledger.runs[run.cause]
        expected = self.ledger.expected(cause)
        self._hold(
            self.ledger.is_retry(run) or expected.get(run.key) == (run.origin, run.signature),
            "only the callbacks of an outcome exist, each under its derived id",
            f"{self._name(run.key)} ({run.origin}) was caused by {self._name(cause.key)}, {cause.status}",
        )

    def _check_change(self, before: RunRecord, after: RunRecord) -> None:
        name = self._name(after.key)
        table = TRANSITIONS if after.form is Form.TASK else OPEN_TRANSITIONS
        self._hold(
            after.status is before.status or after.status in table[before.status],
            "the transition table holds",
            f"{name}: {before.status} to {after.status}",
        )
        if before.status.is_terminal:
            fields = ("status", "result", "failure", "message", "ended_at", "attempt", "failures", "tally", "answer")
            changed = [field for field in fields if getattr(before, field) != getattr(after, field)]
            self._hold(not changed, "a terminal state stays", f"{name}: {', '.join(changed)} changed")
        self._hold(before.message is None or before.message == after.message, "a message stays as it was frozen", name)

    def _check_claim(self, process: Process, before: RunRecord, after: RunRecord) -> None:
        name = self._name(after.key)
        now = self.ledger.now()
        self.history.counts["claims"] += 1
        self._hold(
            before.status in WAITING and after.status is RunStatus.RUNNING and after.attempt == before.attempt + 1,
            "only a waiting run is claimed",
            f"{name}: {before.status} to {after.status}, attempt {before.attempt} to {after.attempt}",
        )
        early = before.due_at > now + _SOON and before.status is not RunStatus.UNROUTABLE
        self._hold(not early, "no run begins before its time", f"{name}: {before.due_at - now:.3f} s too early")
        late = before.begin_by is not None and now > before.begin_by + _SOON
        self._hold(not late, "no run begins after its schedule_timeout", name)
        control = self.ledger.control(after)
        self._hold(control is Control.NONE, "a claim obeys the controls of the lineage", f"{name}: {control}")
        told_off = not before.attempt and self.ledger.is_told_off(after)
        self._hold(not told_off, "a member that is told off does not begin", name)
        owner = self.ledger.workers.get(after.worker or "", process)
        self._hold(owner is process, "a worker claims for itself", f"{name}: {process.name} for {owner.name}")

    def _check_loss(self, process: Process, before: RunRecord, after: RunRecord) -> None:
        self.history.counts["taken back"] += 1
        self._hold(
            not self.ledger.is_sound(before.worker),
            "a run is only taken from a worker that is dead, frozen, cut off or gone",
            f"{process.name} took {self._name(after.key)} from {self._name(before.worker or '')}",
        )
        holder = self.ledger.workers.get(before.worker or "")
        body = self.ledger.bodies.get((after.key, before.attempt))
        if holder is None or body is None or body.over or not holder.alive or holder.frozen:
            return
        able = max(holder.thawed_at, holder.reached_at() + _LONGEST_PAUSE)
        since = self.ledger.among.loop.time() - max(able, self.ledger.tries.get(before.worker or "", 0.0))
        self._hold(
            since <= self.ledger.lease,
            "a worker beats as long as a body of it executes",
            f"{holder.name} has not tried for {since:.2f} s, and {self._name(after.key)} was taken from it",
        )

    def _check_end(self, process: Process, before: RunRecord, after: RunRecord) -> None:
        name = f"{self._name(after.key)}, attempt {before.attempt}"
        body = self.ledger.bodies.get((after.key, before.attempt))
        holder = self.ledger.workers.get(before.worker or "", process)
        self._hold(holder is process, "only its holder ends an attempt", f"{name}: {process.name}, not {holder.name}")
        came_to_nothing = after.failures == before.failures and after.status is not RunStatus.SUCCEEDED
        given_up = process.leaving and came_to_nothing  # what does not end within the grace period is handed back
        if given_up:
            return
        if body is not None:
            self._hold(
                body.process is process and body.over, "an attempt ends when its body has", f"{name} by {process.name}"
            )
            self._hold(
                after.message is not None and _covers(body.message, _plain(after.message)),
                "the message is kept as the body saw it",
                f"{name}: the body saw {body.message}, kept is {after.message!r}",
            )
        if self.ledger.control(after) is not Control.CANCEL:
            self._check_outcome(name, body, before, after)

    def _check_outcome(self, name: str, body: Body | None, before: RunRecord, after: RunRecord) -> None:
        came_to = body.came_to if body is not None else "nothing"
        failure = after.failure if after.failures != before.failures else None
        shown = f"{name}: the body came to {came_to}, the run is {after.status}, {after.failures} failures"
        if after.status is RunStatus.SUCCEEDED:
            fits = body is not None and came_to == "value" and _plain(after.result) == body.value
            self._hold(fits, "a result is what the attempt's body returned", shown)
            limit = after.options.execution_timeout
            if body is not None and limit is not None and body.is_timed and body.message.get("act") != "stubborn":
                self._hold(body.took <= limit + _SOON, "a body has its execution_timeout", f"{shown}, {body.took} s")
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
        self._hold(after.failures == before.failures + 1, "retries are counted right", shown)
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
        waits = run.due_at - self.ledger.now()
        self._hold(0.75 * pause - 1e-5 <= waits <= pause + 1e-5, "a retry waits for its backoff", f"{shown}, {waits} s")

    def _check_terminal(self, before: RunRecord | None, after: RunRecord) -> None:
        name = self._name(after.key)
        lost = after.failure is not None and after.failure.type in _GONE
        cause = self.ledger.runs.get(after.cause or "", after)
        removed = not self.ledger.removed.keys().isdisjoint((after.signature, cause.signature))
        removed = removed or (after.tally is not None and after.tally.failed > 0)  # its member's failure, not its own
        removed = removed or self.ledger.is_retry(after) or self.ledger.is_retry(cause)  # of what is not kept any more
        self._hold(not lost or removed, "what a live run needs is kept", f"{name}: {after.failure}")
        if before is not None and not before.status.is_terminal:
            self.history.counts[after.status.value] += 1
            cancelled = after.status is RunStatus.CANCELLED
            asked = self.ledger.control(after) is Control.CANCEL
            stopped = self.ledger.is_stopping(after) or self.ledger.is_broken(after)
            stopped = stopped or (not after.attempt and self.ledger.is_told_off(after))
            self._hold(
                cancelled is asked or stopped,
                "what is cancelled ends as cancelled, and nothing else does",
                f"{name} is {after.status}, and its lineage says {self.ledger.control(after)!r}",
            )
            self._hold(
                after.status is not RunStatus.SUCCEEDED
                or before.status is RunStatus.RUNNING
                or after.form is not Form.TASK,
                "only a running run succeeds",
                f"{name} was {before.status}",
            )
        if after.cursor is None or not after.cursor.callbacks:
            absent = self.ledger.expected(after).keys() - self.ledger.caused.get(after.key, ())
            missing = ", ".join(self._name(key) for key in sorted(absent))
            self._hold(not absent, "each callback of an outcome exists with it", f"{name}: {missing} of its callbacks")

    def _check_rows(self, run: RunRecord) -> None:
        row = self.ledger.rows.get(run.key)
        name = f"{self._name(run.key)}, {run.status}"
        if run.status in WAITING:
            queued = min(run.due_at, run.since or run.due_at) if run.status is RunStatus.QUEUED else run.due_at
            wanted = (queued, run.route, run.task) if run.form is Form.TASK else (run.due_at, "advance", "")
            due = row is not None and (row.due_at, row.route, row.task) == wanted
            self._hold(due, "nothing due is missing from the outbox", f"{name}: {row}")
        else:
            self._hold(row is None, "the outbox has only what is due", name)
        limit = run.options.schedule_timeout
        limited = limit is not None and run.message is None and run.status in WAITING and run.form is Form.TASK
        lapse = self.ledger.rows.get(lapse_key(run.key))
        self._hold(limited is (lapse is not None), "what is to begin in time is watched", f"{name}: {lapse}")
        advance = advance_key(run.key) in self.ledger.rows
        self._hold(advance is (run.cursor is not None), "each continuation is in the outbox", f"{name}: {run.cursor}")

    # Bodies

    def begin(self, process: Process, run_id: str, attempt: int, message: Mapping[str, Any]) -> Body:
        """A body begins."""
        worker, bound = self.ledger.claims[run_id, attempt]
        name = f"{self._name(run_id)}, attempt {attempt}, in {process.name}"
        self.history.count(process.name, "body", name)
        run = self.ledger.runs[run_id]
        self._hold((run_id, attempt) not in self.ledger.bodies, "an attempt has one body", name)
        body = Body(run_id, attempt, worker, process, message, self.ledger.now())
        for number in range(1, attempt):
            other = self.ledger.bodies.get((run_id, number))
            together = other is not None and not other.over and other.process.alive and not other.process.frozen
            if together and other is not None and self.ledger.is_sound(other.worker):
                self._hold(False, "two bodies of a run never execute at once", f"{name}, and in {other.process.name}")
        self.ledger.bodies[run_id, attempt] = body
        held = run.status is RunStatus.RUNNING and (run.worker, run.attempt) == (worker, attempt)
        self._hold(
            held or not self.ledger.is_sound(worker),
            "a body begins only while its run is held",
            f"{name}: {run.status}",
        )
        if held:
            self._check_message(name, run, message, bound)
        return body

    def _check_message(self, name: str, run: RunRecord, message: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        frozen = _plain(run.message)
        if frozen is not None:
            self._hold(_covers(message, frozen), "all attempts see one message", f"{name}: {message}, not {frozen}")
            return
        self._hold(_covers(message, bound), "bound values stand in the message", f"{name}: {message}, bound: {bound}")
        cause = self.ledger.runs.get(run.cause or "")
        if cause is None:
            return
        if run.origin is Origin.RESULT:
            fits = message.get("results") == _plain(cause.result)
        elif run.origin is Origin.FAILURE:
            was: dict[str, Any] = _plain(cause.message) or {}
            changed = {"failure", *bound}
            if cause.message is None:  # it never received any: what was sent to it, and bound to it by then
                was = (_plain(cause.sent) if cause.origin is Origin.MESSAGE else None) or {}
                changed |= self.ledger.bound_to.get(cause.key, set())
            fits = _covers(message, {key: was[key] for key in was if key not in changed})
            fits = fits and (run.task != "alarm" or message["failure"]["run_id"] == cause.key)
        else:
            outcome = message["outcome" if run.task == "report" else "results"]
            told = (outcome.get("run_id"), outcome.get("status"), outcome.get("attempts"))
            fits = told == (cause.key, cause.status.value, cause.attempt)
        self._hold(fits, "a callback hears of its cause", f"{name} ({run.origin}): {message}")

    def end(self, body: Body, came_to: str, value: Any = None) -> None:
        """A body has ended."""
        body.over, body.came_to, body.value = True, came_to, value
        body.took = self.ledger.now() - body.began
        body.is_timed = body.process.thawed_at < body.began - self.ledger.epoch
        self.history.tell(body.process.name, f"{self._name(body.run)}, attempt {body.attempt}, came to {came_to}")

    def delivered(self, process: Process, run_id: str, delivered: Delivered) -> None:
        """An engine was told what became of a delivery."""
        run = self.ledger.runs.get(run_id)
        self.history.counts[f"reported {delivered.reported.value}"] += 1
        if run is not None and delivered.reported in (Reported.SUCCEEDED, Reported.ENDED):
            told = run.status is RunStatus.SUCCEEDED or (
                run.status.is_terminal and delivered.reported is Reported.ENDED
            )
            self._hold(
                told, "an engine hears the truth", f"{self._name(run_id)} is {run.status}, told {delivered.reported}"
            )

    def _hold(self, holds: bool, invariant: str, detail: str) -> None:
        if not holds:
            raise self.history.fail(invariant, detail)


def _plain(raw: Any) -> Any:
    return msgspec.json.decode(raw) if raw is not None else None


def _covers(whole: Any, part: Any) -> bool:
    """Whether `part` is in `whole`, dict in dict."""
    if isinstance(whole, dict) and isinstance(part, dict):
        inner = cast("dict[str, Any]", part)
        return all(key in whole and _covers(whole[key], value) for key, value in inner.items())
    return bool(whole == part)
