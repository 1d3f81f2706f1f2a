"""A run's attempts: started, claimed, ended, tried again, lost with its worker, or known to no worker at all."""

from __future__ import annotations

import math

import pytest
from msgspec import Raw

from mageflow.core.events import (
    Failed,
    HandedBack,
    Slot,
    Stopped,
    Succeeded,
)
from mageflow.core.ids import idempotent_id
from mageflow.core.options import LONGEST_PAUSE, Options
from mageflow.core.records import Control, Origin, RowAction, RunRecord
from mageflow.core.replies import (
    ClaimReply,
    EndReply,
    Offer,
    StartReply,
    Verdict,
)
from mageflow.core.status import RunStatus
from tests.core.harness import DAY, DONE, Outcome, World, failed


def failure_of(run: RunRecord) -> str:
    assert run.failure is not None
    return run.failure.type


# Start


def test_a_started_run_is_queued_with_what_its_signature_says() -> None:
    world = World({"t": Options(retries=3, priority=2)})
    other = world.sign("other")
    key = world.sign("t", success=[other], error=[other], done=[other], options=Options(priority=3), ttl=(60.0, 7.0))
    run = world.run(world.start(key, b'{"a":1}', options=Options(execution_timeout=9.0)))
    assert (run.status, run.due_at, run.task, run.signature) == (RunStatus.QUEUED, world.now, "t", key)
    assert run.sent == Raw(b'{"a":1}')
    assert run.options == Options(retries=3, priority=3, execution_timeout=9.0)
    assert run.on_success == run.on_error == run.on_done == (other,)
    assert (run.done_ttl, run.root, run.cause, run.lineage) == (7.0, None, None, ())
    assert world.rows[run.key].priority == 3


@pytest.mark.parametrize(
    ("options", "status", "wait"),
    [
        (Options(delay=5.0), RunStatus.SCHEDULED, 5.0),
        (Options(delay=0.0), RunStatus.QUEUED, 0.0),
        (Options(eta=1_000_060.0), RunStatus.SCHEDULED, 60.0),
        (Options(eta=999_940.0), RunStatus.QUEUED, -60.0),
    ],
)
def test_a_run_waits_for_its_time(options: Options, status: RunStatus, wait: float) -> None:
    world = World()
    run = world.run(world.start(world.sign("t"), options=options))
    assert (run.status, run.due_at - world.now) == (status, wait)


def test_a_signature_that_is_gone_starts_nothing() -> None:
    world = World()
    assert world.try_start("sig_gone") == StartReply()
    assert not world.runs()


def test_a_start_whose_reply_was_lost_says_that_it_made_the_run() -> None:
    world = World()
    run = world.start(world.sign("t"))
    reply = world.again(StartReply)
    assert reply.created
    assert reply.run == world.run(run)


def test_one_idempotency_key_has_one_run_whatever_became_of_it() -> None:
    world = World()
    key = world.sign("t")
    once = world.start(key, b"1", run=idempotent_id("t", "order 7"))
    again = world.try_start(key, b"2", run=idempotent_id("t", "order 7"))
    assert (again.created, again.run) == (False, world.run(once))
    world.finish(once)
    again = world.try_start(key, b"3", run=idempotent_id("t", "order 7"))
    assert again.run is not None
    assert (again.created, again.run.status, again.run.sent) == (False, RunStatus.SUCCEEDED, Raw(b"1"))
    assert idempotent_id("t", "order 7") != idempotent_id("t", "order 8") != idempotent_id("other", "order 8")


# Claim


def test_a_claim_holds_the_run_and_brings_what_its_message_is_made_of() -> None:
    world = World()
    key = world.sign("t", to="ada")
    run = world.start(key)
    reply = world.claim(run, "w1")
    assert reply.verdict is Verdict.CLAIMED
    assert reply.offer == Offer(origin=Origin.MESSAGE, layers=({"to": "ada"},))
    held = world.run(run)
    assert (held.status, held.worker, held.attempt, held.started_at) == (RunStatus.RUNNING, "w1", 1, world.now)
    assert run not in world.rows


def test_of_two_workers_one_gets_the_run() -> None:
    world = World()
    run = world.start(world.sign("t"))
    assert world.claim(run, "w1").verdict is Verdict.CLAIMED
    assert world.claim(run, "w2").verdict is Verdict.HELD
    assert world.claim(run, "w1").verdict is Verdict.HELD
    assert world.run(run).attempt == 1


def test_a_claim_whose_reply_was_lost_is_still_the_workers() -> None:
    world = World()
    key = world.sign("t")
    run = world.start(key)
    first = world.claim(run)
    repeated = world.again(ClaimReply)
    assert repeated.verdict is Verdict.CLAIMED
    assert repeated.run == world.run(run)
    assert repeated.offer == first.offer
    assert world.run(run).attempt == 1


def test_a_repeated_claim_stands_although_the_clock_went_back_or_far_ahead() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(schedule_timeout=1.0)))
    world.claim(run)
    claim = world.story[-1][0]
    world.turn(-5.0)
    assert world.again(ClaimReply, claim).verdict is Verdict.CLAIMED
    world.turn(50.0)
    assert world.again(ClaimReply, claim).verdict is Verdict.CLAIMED


def test_a_repeated_claim_whose_signature_was_removed_meanwhile_fails_the_run() -> None:
    world = World()
    told = world.sign("told")
    key = world.sign("t", error=[told])
    run = world.start(key)
    world.claim(run)
    claim = world.story[-1][0]
    world.remove(key)
    assert world.again(ClaimReply, claim).verdict is Verdict.ENDED
    assert failure_of(world.run(run)) == "SignatureNotFoundError"
    assert world.tasks_called(run) == ["told"]


def test_a_claim_before_the_time_leaves_the_row() -> None:
    world = World()
    run = world.start(world.sign("t"), options=Options(delay=5.0))
    world.turn(4.0)
    assert world.claim(run).verdict is Verdict.EARLY
    assert run in world.rows
    world.turn(0.9995)  # an engine's clock may be a little ahead
    assert world.claim(run).verdict is Verdict.CLAIMED


def test_a_claim_of_nothing_removes_its_row() -> None:
    world = World()
    assert world.claim("run_gone").verdict is Verdict.ABSENT
    assert world.story[-1][1].settled == ("run_gone",)


def test_a_claim_of_an_ended_run_gives_what_it_came_to() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.finish(run, Succeeded(Raw(b"42")))
    reply = world.claim(run, "w2")
    assert reply.verdict is Verdict.ENDED
    assert reply.run is not None
    assert reply.run.result == Raw(b"42")


def test_the_first_claim_takes_what_the_signature_says_by_then() -> None:
    world = World()
    late, key = world.sign("late"), world.sign("t")
    run = world.start(key)
    world.append(key, Slot.SUCCESS, late)
    world.edit(key, to="ada")
    reply = world.claim(run)
    assert reply.offer is not None
    assert reply.offer.layers == ({"to": "ada"},)
    world.end(run, DONE)
    assert world.tasks_called(run) == ["late"]


def test_a_later_attempt_sees_what_the_first_one_saw() -> None:
    world = World()
    key = world.sign("t", options=Options(retries=1))
    run = world.start(key)
    world.claim(run)
    world.end(run, failed(), message=b'{"to":"ada"}')
    world.edit(key, to="bob")
    reply = world.claim(run)
    assert reply.offer is None
    assert reply.run is not None
    assert reply.run.message == Raw(b'{"to":"ada"}')


def test_the_executing_process_knows_the_tasks_options_better_than_the_starter() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(priority=2)))
    world.claim(run, defaults={"t": Options(retries=1, priority=3)})
    assert world.run(run).options == Options(retries=1, priority=2)
    world.end(run, failed())
    assert world.status(run) is RunStatus.QUEUED


# Too late, or no longer possible


def test_a_run_that_nobody_began_in_time_fails() -> None:
    world = World()
    told = world.sign("told")
    run = world.start(world.sign("t", error=[told], options=Options(delay=60.0, schedule_timeout=10.0)))
    world.turn(70.5)
    assert world.claim(run).verdict is Verdict.ENDED
    ended = world.run(run)
    assert failure_of(ended) == "ScheduleTimeout"
    assert ended.failure is not None
    assert "schedule_timeout of 10 s" in ended.failure.message
    assert world.tasks_called(run) == ["told"]


def test_a_schedule_timeout_that_only_the_executing_process_knows_holds_too() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.turn(11.0)
    reply = world.claim(run, defaults={"t": Options(schedule_timeout=10.0)})
    assert reply.verdict is Verdict.ENDED
    assert failure_of(world.run(run)) == "ScheduleTimeout"


def test_a_schedule_timeout_is_over_once_the_run_has_begun() -> None:
    world = World()
    options = Options(schedule_timeout=10.0, retries=1)
    run = world.start(world.sign("t", options=options))
    world.turn(9.0)
    world.claim(run)
    world.end(run, failed(after=30.0))
    world.turn(500.0)
    assert world.claim(run).verdict is Verdict.CLAIMED


def test_a_run_that_nobody_claims_ends_when_its_time_is_over() -> None:
    world = World()
    told = world.sign("told")
    run = world.start(world.sign("t", error=[told], options=Options(delay=60.0, schedule_timeout=10.0)))
    world.turn(69.5)
    assert not world.lapse(run).accepted
    assert world.status(run) is RunStatus.SCHEDULED
    world.turn(0.5)
    assert [row.run for row in world.rows.values() if row.action is RowAction.LAPSE and row.due_at <= world.now] == [
        run
    ]
    assert world.lapse(run).accepted
    assert failure_of(world.run(run)) == "ScheduleTimeout"
    assert world.tasks_called(run) == ["told"]
    assert not world.lapse(run).accepted


def test_a_stranded_run_has_no_longer_than_others_to_be_begun() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(schedule_timeout=10.0)))
    world.strand(run)
    world.turn(6.0)
    world.strand(run)
    world.turn(3.0)
    world.reroute(run)
    world.turn(1.0)
    assert world.lapse(run).accepted
    assert failure_of(world.run(run)) == "ScheduleTimeout"


def test_the_time_for_which_a_run_is_held_does_not_count() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(schedule_timeout=10.0)))
    world.turn(9.0)
    world.suspend(run)
    world.turn(500.0)
    assert not world.lapse(run).accepted
    world.resume(run)
    world.turn(9.0)
    assert not world.lapse(run).accepted
    world.turn(1.0)
    assert world.lapse(run).accepted


def test_a_run_that_somebody_above_holds_does_not_lapse() -> None:
    """The hold has not been carried to it yet."""
    world = World()
    late = world.sign("late", options=Options(schedule_timeout=10.0))
    run = world.start(world.sign("t", success=[late]))
    world.finish(run)
    [callback] = world.callbacks(run)
    world.suspend(run)
    world.turn(11.0)
    world.lapse(callback.key)
    assert world.status(callback.key) is RunStatus.SUSPENDED
    world.cancel(run)
    world.advance_all()
    assert world.status(callback.key) is RunStatus.CANCELLED


def test_a_run_whose_signature_was_removed_fails_and_its_error_callbacks_fire() -> None:
    world = World()
    told = world.sign("told")
    key = world.sign("t", error=[told])
    run = world.start(key)
    world.remove(key)
    assert world.claim(run).verdict is Verdict.ENDED
    ended = world.run(run)
    assert ended.failure is not None
    assert key in ended.failure.message
    assert world.tasks_called(run) == ["told"]


def test_a_callback_whose_cause_is_gone_fails() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("next")]))
    world.finish(run)
    [callback] = world.callbacks(run)
    del world.records[run]
    assert world.claim(callback.key).verdict is Verdict.ENDED
    assert failure_of(world.run(callback.key)) == "RunNotFoundError"


# End


def test_a_success_keeps_result_and_message_and_says_when_it_may_go() -> None:
    world = World()
    run = world.start(world.sign("t", ttl=(60.0, 7.0), options=Options(retries=1)))
    world.finish(run, failed())
    world.claim(run)
    world.turn(2.0)
    reply = world.end(run, Succeeded(Raw(b'"ok"')), message=b'{"other":1}')
    assert reply.accepted
    ended = world.run(run)
    assert (ended.status, ended.result, ended.message) == (RunStatus.SUCCEEDED, Raw(b'"ok"'), Raw(b"{}"))
    assert (ended.failure, ended.ended_at, ended.expires_at) == (None, world.now, world.now + 7.0)


def test_retries_are_attempts_after_the_first() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(retries=3)))
    for attempt in (1, 2, 3):
        assert world.finish(run, failed(f"no {attempt}")).status is RunStatus.QUEUED
    ended = world.finish(run, failed("no 4"))
    assert (ended.status, ended.attempt, ended.failures) == (RunStatus.FAILED, 4, 4)
    assert ended.failure is not None
    assert ended.failure.message == "no 4"


def test_without_retries_one_failure_is_the_end() -> None:
    world = World()
    assert world.finish(world.start(world.sign("t")), failed()).status is RunStatus.FAILED


def test_what_can_never_succeed_is_not_tried_again() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(retries=3)))
    assert world.finish(run, failed(retry=False)).status is RunStatus.FAILED


def test_the_next_attempt_waits_for_its_backoff() -> None:
    world = World()
    world.jitter = 0.5
    run = world.start(world.sign("t", options=Options(retries=2, backoff_factor=4.0)))
    first = world.finish(run, failed())
    assert (first.status, first.due_at - world.now) == (RunStatus.SCHEDULED, 3.5)
    world.turn(3.5)
    second = world.finish(run, failed())
    assert second.due_at - world.now == 14.0


@pytest.mark.parametrize(
    ("after", "wait"), [(20.0, 20.0), (0.0, 0.0), (-3.0, 0.0), (math.inf, LONGEST_PAUSE), (math.nan, 0.0)]
)
def test_a_failure_may_say_when_to_try_again(after: float, wait: float) -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(retries=1, backoff_factor=2.0)))
    assert world.finish(run, failed(after=after)).due_at - world.now == wait


def test_an_end_without_a_message_leaves_it_to_the_next_attempt() -> None:
    world = World()
    key = world.sign("t", options=Options(retries=1))
    run = world.start(key)
    world.claim(run)
    world.end(run, failed(), message=None)
    assert world.claim(run).offer == Offer(origin=Origin.MESSAGE)


def test_work_that_was_handed_back_counts_for_nothing() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run)
    world.end(run, HandedBack())
    again = world.run(run)
    assert (again.status, again.failures, again.losses, again.due_at) == (RunStatus.QUEUED, 0, 0, world.now)
    assert world.finish(run).status is RunStatus.SUCCEEDED


def test_an_end_whose_reply_was_lost_is_accepted_again() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run)
    world.end(run, DONE)
    assert world.again(EndReply).accepted


OUTCOMES: list[Outcome] = [DONE, failed(), Stopped(), HandedBack()]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_a_worker_that_wakes_too_late_is_refused(outcome: Outcome) -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run, "w1")
    world.take_back(run)
    assert not world.end(run, outcome, worker="w1", attempt=1).accepted
    world.claim(run, "w2")
    assert not world.end(run, outcome, worker="w1", attempt=1).accepted
    assert not world.end(run, outcome, worker="w1", attempt=2).accepted
    assert not world.end(run, outcome, worker="w2", attempt=1).accepted
    world.end(run, Succeeded(Raw(b"2")))
    assert not world.end(run, outcome, worker="w1", attempt=1).accepted
    assert world.run(run).result == Raw(b"2")


def test_the_end_of_a_run_that_is_gone_is_refused() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run)
    world.end(run, DONE)
    event = world.story[-1][0]
    del world.records[run]
    assert world.again(EndReply, event) == EndReply(run=None, accepted=False)


# A worker dies


def test_a_dead_workers_run_is_tried_again() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run, "w1")
    assert world.take_back(run, "w1").accepted
    assert world.again(EndReply).accepted
    again = world.run(run)
    assert (again.status, again.losses, again.failures) == (RunStatus.QUEUED, 1, 0)
    assert world.claim(run, "w2").verdict is Verdict.CLAIMED


def test_what_a_worker_does_not_hold_is_not_taken_from_it() -> None:
    world = World()
    run = world.start(world.sign("t"))
    assert not world.take_back(run, "w1").accepted
    world.claim(run, "w2")
    assert not world.take_back(run, "w1").accepted
    world.end(run, DONE)
    assert not world.take_back(run, "w2").accepted
    assert world.status(run) is RunStatus.SUCCEEDED


def test_a_run_that_workers_keep_dying_of_fails() -> None:
    world = World()
    run = world.start(world.sign("t", error=[world.sign("told")]))
    for loss in (1, 2, 3):
        world.claim(run, f"w{loss}")
        world.take_back(run, max_losses=2)
    ended = world.run(run)
    assert (ended.status, ended.losses) == (RunStatus.FAILED, 3)
    assert failure_of(ended) == "WorkerLostError"
    assert world.tasks_called(run) == ["told"]


@pytest.mark.parametrize(
    ("control", "status"),
    [
        (Control.SUSPEND, RunStatus.SUSPENDED),
        (Control.INTERRUPT, RunStatus.INTERRUPTED),
        (Control.CANCEL, RunStatus.CANCELLED),
    ],
)
def test_a_dead_worker_cannot_confirm_a_control_so_taking_back_does(control: Control, status: RunStatus) -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run)
    world.control(run, control)
    world.take_back(run)
    assert world.status(run) is status


# Nobody knows the task


def test_a_run_that_nobody_can_execute_waits_and_says_since_when() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.turn(1.0)
    assert world.strand(run, patience=60.0).accepted
    assert world.again(EndReply).accepted
    stranded = world.run(run)
    assert (stranded.status, stranded.unroutable_at) == (RunStatus.UNROUTABLE, world.now)
    assert stranded.due_at == world.now + 5.0


def test_it_is_looked_at_less_and_less_often_and_the_wait_is_not_prolonged() -> None:
    world = World()
    run = world.start(world.sign("t"))
    since = world.now
    looks: list[float] = []
    while world.status(run) is not RunStatus.FAILED:
        looks.append(world.now - since)
        assert world.strand(run, patience=60.0).accepted
        if world.status(run) is RunStatus.UNROUTABLE:
            assert world.run(run).unroutable_at == since
            world.now = world.run(run).due_at
    assert looks == [0.0, 5.0, 10.0, 20.0, 40.0, 60.0]
    assert failure_of(world.run(run)) == "UnknownTaskError"


def test_a_stray_that_was_executed_since_it_was_seen_keeps_its_time() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(retries=1)))
    retried = world.finish(run, failed(after=5.0))
    assert not world.strand(run).accepted
    assert world.run(run) == retried


def test_no_patience_fails_the_run_at_once() -> None:
    world = World()
    run = world.start(world.sign("t", error=[world.sign("told")]))
    world.strand(run, patience=0.0)
    assert world.status(run) is RunStatus.FAILED
    assert world.tasks_called(run) == ["told"]


def test_a_worker_that_knows_the_task_gets_the_run() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.strand(run)
    world.turn(100.0)
    assert world.reroute(run).accepted
    assert not world.reroute(run).accepted
    again = world.run(run)
    assert (again.status, again.due_at, again.unroutable_at) == (RunStatus.QUEUED, world.now, None)
    assert world.finish(run).status is RunStatus.SUCCEEDED


def test_a_row_that_was_given_to_who_cannot_submit_it_is_there_for_somebody_else() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(schedule_timeout=10.0)))
    before = world.run(run)
    del world.rows[run]
    world.turn(6.0)
    assert world.reroute(run, given=True).accepted
    assert world.due() == [run]
    assert world.run(run).begin_by == before.begin_by, "its schedule_timeout goes on"
    assert world.finish(run).status is RunStatus.SUCCEEDED
    assert not world.reroute(run, given=True).accepted
    assert not world.reroute("run_gone", given=True).accepted


def test_a_delivery_to_a_worker_that_knows_the_task_is_not_early() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.strand(run)
    assert world.claim(run).verdict is Verdict.CLAIMED


@pytest.mark.parametrize("hold", [Control.SUSPEND, Control.INTERRUPT])
def test_a_stranded_run_that_was_held_is_due_as_soon_as_it_is_let_go(hold: Control) -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.strand(run, patience=DAY)
    world.control(run, hold)
    world.turn(1.0)
    world.resume(run)
    assert world.status(run) is RunStatus.QUEUED
    assert world.due() == [run]


def test_strays_that_are_gone_or_held_are_left_alone() -> None:
    world = World()
    assert not world.strand("run_gone").accepted
    run = world.start(world.sign("t"))
    world.claim(run)
    assert not world.strand(run).accepted
    assert not world.reroute("run_gone").accepted


# Tried again by somebody


def test_an_ended_run_is_tried_again_with_the_message_that_it_received() -> None:
    world = World()
    key = world.sign("t", error=[world.sign("told")], options=Options(delay=9.0, retries=1, priority=2))
    run = world.start(key, b"1", options=Options(delay=0.0, idempotency_key="k"))
    world.claim(run)
    world.end(run, failed(retry=False), message=b'{"x":1}')
    world.remove(key)
    reply = world.retry(run)
    assert reply.created
    assert world.again(StartReply).created
    assert reply.run is not None
    again = world.run(reply.run.key)
    assert (again.status, again.attempt, again.failures, again.failure) == (RunStatus.QUEUED, 0, 0, None)
    assert (again.message, again.options) == (Raw(b'{"x":1}'), Options(retries=1, priority=2))
    assert world.claim(again.key).verdict is Verdict.CLAIMED
    assert not world.retry(run).created


@pytest.mark.parametrize("live", ["queued", "running", "gone"])
def test_only_what_has_ended_is_tried_again(live: str) -> None:
    world = World()
    run = world.start(world.sign("t")) if live != "gone" else "run_gone"
    if live == "running":
        world.claim(run)
    assert world.retry(run) == StartReply()


def test_a_run_that_received_no_message_is_tried_again_only_while_its_signature_is_there() -> None:
    world = World()
    gone = world.sign("gone")
    key = world.sign("t", success=[gone])
    run = world.start(key)
    world.remove(gone)
    world.finish(run)
    [callback] = world.callbacks(run)
    assert callback.status is RunStatus.FAILED
    assert world.retry(callback.key) == StartReply()
    other = world.start(key)
    world.cancel(other)
    assert world.retry(other).created
    third = world.start(key)
    world.cancel(third)
    world.remove(key)
    assert world.retry(third) == StartReply()


def test_a_callback_that_is_tried_again_stays_under_the_controls_of_what_called_it() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("a", success=[world.sign("b")])]))
    world.finish(run)
    [a] = world.callbacks(run)
    world.finish(a.key)
    [b] = world.callbacks(a.key)
    world.finish(b.key, failed())
    again = world.retry(b.key).run
    assert again is not None
    world.suspend(run)
    world.advance(run)
    assert world.status(again.key) is RunStatus.SUSPENDED
    held = world.retry(again.key).run or world.retry(a.key).run
    assert held is not None
    assert world.status(held.key) is RunStatus.SUSPENDED
    world.resume(run)
    world.advance(run)
    assert world.status(again.key) is world.status(held.key) is RunStatus.QUEUED


def test_what_was_cancelled_can_be_tried_again() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("a")]))
    world.finish(run)
    [a] = world.callbacks(run)
    world.cancel(run)
    world.advance(run)
    assert world.status(a.key) is RunStatus.CANCELLED
    again = world.retry(a.key).run
    assert again is not None
    assert world.claim(again.key).verdict is Verdict.CLAIMED
    root = world.start(world.sign("t"))
    world.cancel(root)
    again = world.retry(root).run
    assert again is not None
    assert world.claim(again.key).verdict is Verdict.CLAIMED


def test_where_a_message_comes_from_stays_known() -> None:
    world = World()
    run = world.start(world.sign("t"), b"7", origin=Origin.VALUE)
    assert world.run(run).origin is Origin.VALUE
    world.finish(run, failed())
    again = world.retry(run).run
    assert again is not None
    assert (again.origin, again.sent) == (Origin.VALUE, Raw(b"7"))


def test_a_failure_is_kept_with_its_figures() -> None:
    world = World()
    run = world.start(world.sign("t"))
    outcome = failed("no")
    assert isinstance(outcome, Failed)
    assert world.finish(run, outcome).failure == outcome.failure
