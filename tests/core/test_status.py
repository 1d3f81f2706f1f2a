"""The transition table says what a run may become, and nothing else."""

from __future__ import annotations

import pytest

from mageflow.core.records import RunRecord
from mageflow.core.runs import move
from mageflow.core.status import LIVE, TERMINAL, TRANSITIONS, WAITING, RunStatus
from tests.core.invariants import MAY_FOLLOW


def run_that_is(status: RunStatus) -> RunRecord:
    return RunRecord(
        key="run_1",
        created_at=0.0,
        signature="sig_1",
        task="t",
        route="r",
        status=status,
        due_at=0.0,
        done_ttl=1.0,
    )


def test_every_status_is_live_or_terminal() -> None:
    assert set(RunStatus) == LIVE | TERMINAL
    assert not LIVE & TERMINAL
    assert WAITING < LIVE
    assert {status for status in RunStatus if status.is_terminal} == TERMINAL


def test_the_names_are_the_ones_users_read() -> None:
    assert " ".join(RunStatus) == (
        "scheduled queued unroutable running suspended interrupted succeeded failed cancelled"
    )


def test_the_table_knows_every_status() -> None:
    assert set(TRANSITIONS) == set(RunStatus)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_nothing_follows_an_end(status: RunStatus) -> None:
    assert TRANSITIONS[status] == frozenset()


@pytest.mark.parametrize("status", sorted(LIVE))
def test_whatever_lives_can_be_cancelled_and_can_fail(status: RunStatus) -> None:
    assert {RunStatus.CANCELLED, RunStatus.FAILED} <= TRANSITIONS[status]


@pytest.mark.parametrize("status", sorted(LIVE - {RunStatus.RUNNING}))
def test_only_a_running_run_is_interrupted(status: RunStatus) -> None:
    assert RunStatus.INTERRUPTED not in TRANSITIONS[status]
    assert RunStatus.INTERRUPTED in TRANSITIONS[RunStatus.RUNNING]


@pytest.mark.parametrize("status", sorted(RunStatus))
def test_only_what_waits_begins_to_run(status: RunStatus) -> None:
    assert (RunStatus.RUNNING in TRANSITIONS[status]) == (status in WAITING)


@pytest.mark.parametrize("status", sorted(RunStatus))
def test_the_table_allows_each_change_that_an_event_makes(status: RunStatus) -> None:
    assert MAY_FOLLOW[status] - {status} <= TRANSITIONS[status]


@pytest.mark.parametrize("before", sorted(RunStatus))
@pytest.mark.parametrize("after", sorted(RunStatus))
def test_a_move_outside_the_table_is_refused(before: RunStatus, after: RunStatus) -> None:
    run = run_that_is(before)
    if after in TRANSITIONS[before]:
        move(run, after)
        return
    with pytest.raises(AssertionError, match=f"run run_1 cannot go from {before} to {after}"):
        move(run, after)
