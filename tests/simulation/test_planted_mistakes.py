"""Mistakes that could be made in core and runtime, planted one at a time: the simulator finds each of them.

A planted rule does what somebody might write who forgot the point of the real one; the rest of the code stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mageflow.core import attempt, blueprint, flow, lifecycle, runs
from mageflow.core.decide import _RULES  # pyright: ignore[reportPrivateUsage]
from mageflow.core.decision import Decision
from mageflow.core.events import (
    Claim,
    End,
    Failed,
    Sweep,
    TakeBack,
)
from mageflow.core.records import (
    Control,
    Origin,
    OutboxRow,
    RunRecord,
    replace,
)
from mageflow.core.replies import ClaimReply, EndReply
from mageflow.core.status import WAITING, RunStatus
from mageflow.core.work import Work
from mageflow.runtime import advance
from mageflow.runtime.holding import Holding
from mageflow.runtime.recovery import Recovery
from mageflow.runtime.relay import Relay
from mageflow.testing.simulate import SimulationFailed, simulate

SEEDS = 60
"""How many seeds may pass before a mistake is found; most are found by the first few."""

Patch = pytest.MonkeyPatch


def see_otherwise(work: Work, run: RunRecord, **changes: object) -> None:
    """Let the rules read a run as it is not; it is written only where a rule writes it."""
    work._records = {**work._records, run.key: replace(run, **changes)}  # pyright: ignore[reportPrivateUsage]


def without_rows(rule: Callable[..., Any], unwanted: Callable[[RunRecord], bool]) -> Callable[..., Any]:
    """Give `rule` with the outbox rows of some runs forgotten."""

    def forgetful(work: Work, *args: Any, **options: Any) -> Any:
        reply = rule(work, *args, **options)
        rows = work._rows  # pyright: ignore[reportPrivateUsage]
        for key in [key for key in rows if (run := work.run(rows[key].run)) and key == run.key and unwanted(run)]:
            del rows[key]
        return reply

    return forgetful


def an_end_does_not_look_at_its_attempt(patch: Patch) -> None:
    def end(work: Work, event: End) -> EndReply:
        run = work.run(event.run)
        assert run is not None
        return attempt.end(work, replace(event, worker=run.worker, attempt=run.attempt))

    patch.setitem(_RULES, End, end)


def the_end_of_a_woken_sleeper_is_accepted(patch: Patch) -> None:
    def end(work: Work, event: End) -> EndReply:
        run = work.run(event.run)
        if run is not None and run.status in WAITING:
            see_otherwise(work, run, status=RunStatus.RUNNING, worker=event.worker, attempt=event.attempt)
        return attempt.end(work, event)

    patch.setitem(_RULES, End, end)


def a_retry_forgets_its_row(patch: Patch) -> None:
    patch.setattr(attempt, "wait", without_rows(runs.wait, lambda run: run.failures > 0))


def error_callbacks_have_no_rows(patch: Patch) -> None:
    real = flow._make_callbacks  # pyright: ignore[reportPrivateUsage]
    patch.setattr(flow, "_make_callbacks", without_rows(real, lambda run: run.origin is Origin.FAILURE))


def callbacks_have_ids_of_chance(patch: Patch) -> None:
    numbers = itertools.count()

    def callback_id(cause: str, slot: str, place: int) -> str:
        return f"run_chance{next(numbers)}"

    patch.setattr(flow, "callback_id", callback_id)


def a_run_is_taken_back_from_whoever_has_it(patch: Patch) -> None:
    def take_back(work: Work, event: TakeBack) -> EndReply:
        run = work.run(event.run)
        worker = run.worker if run is not None else None
        return attempt.take_back(work, replace(event, worker=worker or event.worker))

    patch.setitem(_RULES, TakeBack, take_back)


def a_cancel_fires_success_callbacks(patch: Patch) -> None:
    def callbacks_of(run: RunRecord) -> list[Any]:
        cancelled = run.status is RunStatus.CANCELLED
        return real(replace(run, status=RunStatus.SUCCEEDED) if cancelled else run)

    real = runs.callbacks_of
    patch.setattr(flow, "callbacks_of", callbacks_of)
    patch.setattr(lifecycle, "callbacks_of", callbacks_of)


def a_resume_forgets_the_row(patch: Patch) -> None:
    patch.setattr(lifecycle, "wait", without_rows(runs.wait, lambda run: run.status in WAITING))


def an_early_delivery_is_accepted(patch: Patch) -> None:
    def claim(work: Work, event: Claim) -> ClaimReply:
        run = work.run(event.run)
        if run is not None:
            work.now = max(work.now, run.due_at)
        return attempt.claim(work, event)

    patch.setitem(_RULES, Claim, claim)


def what_was_appended_is_not_noted(patch: Patch) -> None:
    def remind(work: Work, key: str, about: str, ttl: float | None) -> None:
        return

    patch.setattr(blueprint, "remind", remind)


def the_message_is_not_kept(patch: Patch) -> None:
    def end(work: Work, event: End) -> EndReply:
        return attempt.end(work, replace(event, message=None))

    patch.setitem(_RULES, End, end)


def the_message_is_assembled_at_each_attempt(patch: Patch) -> None:
    def claim(work: Work, event: Claim) -> ClaimReply:
        run = work.run(event.run)
        if run is not None:
            see_otherwise(work, run, message=None)
        return attempt.claim(work, event)

    patch.setitem(_RULES, Claim, claim)


def nothing_is_taken_back(patch: Patch) -> None:
    async def take_back(self: Recovery, worker: str) -> int:
        return 0

    patch.setattr(Recovery, "_take_back", take_back)


def a_worker_is_dead_at_first_sight(patch: Patch) -> None:
    def dead(self: Recovery, beats: Mapping[str, int], begun: float) -> set[str]:
        return set(beats) - {self.me.key}

    patch.setattr(Recovery, "_dead", dead)


def a_row_is_dropped_when_it_is_submitted(patch: Patch) -> None:
    async def submit(self: Relay, rows: list[OutboxRow]) -> None:
        await real(self, rows)
        settled = Decision(settled=tuple(row.key for row in rows))
        await self._tx.store.transact((), lambda records, now: settled, token="")  # pyright: ignore[reportPrivateUsage]

    real = Relay._submit  # pyright: ignore[reportPrivateUsage]
    patch.setattr(Relay, "_submit", submit)


def a_sweep_stops_after_its_first_page(patch: Patch) -> None:
    def hasty(**fields: Any) -> Sweep:
        fields["last"] = True
        return Sweep(**fields)

    patch.setattr(advance, "Sweep", hasty)


def a_claim_does_not_look_at_the_lineage(patch: Patch) -> None:
    def own(work: Work, run: RunRecord) -> Control:
        return run.control

    patch.setattr(attempt, "control_of", own)


def an_ended_run_is_claimed_again(patch: Patch) -> None:
    def claim(work: Work, event: Claim) -> ClaimReply:
        run = work.run(event.run)
        if run is not None and run.status.is_terminal:
            see_otherwise(work, run, status=RunStatus.QUEUED)
        return attempt.claim(work, event)

    patch.setitem(_RULES, Claim, claim)


def retries_are_counted_by_attempts(patch: Patch) -> None:
    def end(work: Work, event: End) -> EndReply:
        run = work.run(event.run)
        if isinstance(event.outcome, Failed) and run is not None:
            see_otherwise(work, run, failures=event.attempt - 1)
        return attempt.end(work, event)

    patch.setitem(_RULES, End, end)


def a_claim_without_a_reply_is_forgotten(patch: Patch) -> None:
    async def find_forgotten(self: Holding, store: Any, worker: str) -> list[RunRecord]:
        return []

    patch.setattr(Holding, "find_forgotten", find_forgotten)


MISTAKES = [
    an_end_does_not_look_at_its_attempt,
    the_end_of_a_woken_sleeper_is_accepted,
    a_retry_forgets_its_row,
    error_callbacks_have_no_rows,
    callbacks_have_ids_of_chance,
    a_run_is_taken_back_from_whoever_has_it,
    a_cancel_fires_success_callbacks,
    a_resume_forgets_the_row,
    an_early_delivery_is_accepted,
    what_was_appended_is_not_noted,
    the_message_is_not_kept,
    the_message_is_assembled_at_each_attempt,
    nothing_is_taken_back,
    a_worker_is_dead_at_first_sight,
    a_row_is_dropped_when_it_is_submitted,
    a_sweep_stops_after_its_first_page,
    a_claim_does_not_look_at_the_lineage,
    an_ended_run_is_claimed_again,
    retries_are_counted_by_attempts,
    a_claim_without_a_reply_is_forgotten,
]


@pytest.mark.parametrize("plant", MISTAKES, ids=lambda plant: plant.__name__)
def test_the_simulator_finds(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    for seed in range(SEEDS):
        try:
            simulate(seed)
        except SimulationFailed as error:
            print(f"seed {seed}: {error.invariant}")
            return
    pytest.fail(f"{SEEDS} seeds passed, although {plant.__name__.replace('_', ' ')}")
