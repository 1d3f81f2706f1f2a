"""Mistakes that could be made in core and runtime, planted one at a time: the simulator finds each of them.

A planted rule does what somebody might write who forgot the point of the real one; the rest of the code stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mageflow.core import attempt, lifecycle, runs
from mageflow.core.decide import _RULES  # pyright: ignore[reportPrivateUsage]
from mageflow.core.decision import Decision, Need, Records
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
from mageflow.core.status import WAITING, RunStatus
from mageflow.runtime import advance
from mageflow.runtime.holding import Holding
from mageflow.runtime.recovery import Recovery
from mageflow.runtime.relay import Relay
from mageflow.runtime.transact import Transactor
from mageflow.testing.simulate import SimulationFailed, simulate

SEEDS = 60
"""How many seeds may pass before a mistake is found; most are found by the first few."""

Patch = pytest.MonkeyPatch
Rule = Callable[[Records, Any, float, float], Decision | Need]


def with_run(records: Records, event: Any, **changes: object) -> Records:
    run = records.get(event.run)
    return {**records, event.run: replace(run, **changes)} if isinstance(run, RunRecord) else records


def status_in(records: Records, event: Any) -> RunStatus | None:
    run = records.get(event.run)
    return run.status if isinstance(run, RunRecord) else None


def without_rows(decide: Callable[..., Any], unwanted: Callable[[RunRecord], bool]) -> Callable[..., Any]:
    """Give `decide` with the outbox rows of some of its runs forgotten."""

    def forgetful(*args: Any, **options: Any) -> Any:
        decision = decide(*args, **options)
        if isinstance(decision, Need):
            return decision
        forgotten = {run.key for run in decision.writes if isinstance(run, RunRecord) and unwanted(run)}
        return replace(decision, rows=tuple(row for row in decision.rows if row.key not in forgotten))

    return forgetful


def an_end_does_not_look_at_its_attempt(patch: Patch) -> None:
    def end(records: Records, event: End, now: float, jitter: float) -> Decision | Need:
        run = records.get(event.run)
        assert isinstance(run, RunRecord)
        return attempt.end(records, replace(event, worker=run.worker, attempt=run.attempt), now, jitter)

    patch.setitem(_RULES, End, end)


def the_end_of_a_woken_sleeper_is_accepted(patch: Patch) -> None:
    def end(records: Records, event: End, now: float, jitter: float) -> Decision | Need:
        if status_in(records, event) in WAITING:
            records = with_run(records, event, status=RunStatus.RUNNING, worker=event.worker, attempt=event.attempt)
        return attempt.end(records, event, now, jitter)

    patch.setitem(_RULES, End, end)


def a_retry_forgets_its_row(patch: Patch) -> None:
    patch.setattr(attempt, "wait", without_rows(runs.wait, lambda run: run.failures > 0))


def error_callbacks_have_no_rows(patch: Patch) -> None:
    make = without_rows(runs.make_callbacks, lambda run: run.origin is Origin.FAILURE)
    patch.setattr(runs, "make_callbacks", make)


def callbacks_have_ids_of_chance(patch: Patch) -> None:
    numbers = itertools.count()

    def callback_id(cause: str, slot: str, place: int) -> str:
        return f"run_chance{next(numbers)}"

    patch.setattr(runs, "callback_id", callback_id)


def a_run_is_taken_back_from_whoever_has_it(patch: Patch) -> None:
    def take_back(records: Records, event: TakeBack, now: float, jitter: float) -> Decision | Need:
        run = records.get(event.run)
        worker = run.worker if isinstance(run, RunRecord) else None
        return attempt.take_back(records, replace(event, worker=worker or event.worker), now, jitter)

    patch.setitem(_RULES, TakeBack, take_back)


def a_cancel_fires_success_callbacks(patch: Patch) -> None:
    def callbacks_of(run: RunRecord) -> list[Any]:
        cancelled = run.status is RunStatus.CANCELLED
        return real(replace(run, status=RunStatus.SUCCEEDED) if cancelled else run)

    real = runs.callbacks_of
    patch.setattr(runs, "callbacks_of", callbacks_of)
    patch.setattr(lifecycle, "callbacks_of", callbacks_of)


def a_resume_forgets_the_row(patch: Patch) -> None:
    patch.setattr(lifecycle, "wait", without_rows(runs.wait, lambda run: run.status in WAITING))


def an_early_delivery_is_accepted(patch: Patch) -> None:
    def claim(records: Records, event: Claim, now: float, jitter: float) -> Decision | Need:
        run = records.get(event.run)
        due_at = run.due_at if isinstance(run, RunRecord) else now
        return attempt.claim(records, event, max(now, due_at), jitter)

    patch.setitem(_RULES, Claim, claim)


def a_commit_is_repeated_under_a_new_token(patch: Patch) -> None:
    async def repeat(self: Transactor, keys: Any, step: Any, token: str) -> Decision:
        class Forgetful:
            async def transact(self, keys: Any, step: Any, *, token: str) -> Decision:
                return await store.transact(keys, step, token=transactor.token())

        transactor, store = self, self.store
        patched = Transactor(Forgetful(), self.entropy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return await real(patched, keys, step, token)

    real = Transactor._repeat  # pyright: ignore[reportPrivateUsage]
    patch.setattr(Transactor, "_repeat", repeat)


def the_message_is_not_kept(patch: Patch) -> None:
    def end(records: Records, event: End, now: float, jitter: float) -> Decision | Need:
        return attempt.end(records, replace(event, message=None), now, jitter)

    patch.setitem(_RULES, End, end)


def the_message_is_assembled_at_each_attempt(patch: Patch) -> None:
    def claim(records: Records, event: Claim, now: float, jitter: float) -> Decision | Need:
        return attempt.claim(with_run(records, event, message=None), event, now, jitter)

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
    def own(records: Records, own: Control, lineage: Any) -> Control:
        return own

    patch.setattr(attempt, "control_of", own)


def an_ended_run_is_claimed_again(patch: Patch) -> None:
    def claim(records: Records, event: Claim, now: float, jitter: float) -> Decision | Need:
        status = status_in(records, event)
        if status is not None and status.is_terminal:
            records = with_run(records, event, status=RunStatus.QUEUED)
        return attempt.claim(records, event, now, jitter)

    patch.setitem(_RULES, Claim, claim)


def retries_are_counted_by_attempts(patch: Patch) -> None:
    def end(records: Records, event: End, now: float, jitter: float) -> Decision | Need:
        if isinstance(event.outcome, Failed):
            records = with_run(records, event, failures=event.attempt - 1)
        return attempt.end(records, event, now, jitter)

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
    a_commit_is_repeated_under_a_new_token,
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
