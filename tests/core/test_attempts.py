"""What comes of a run's attempts: ended, tried again, lost with their worker, or known to no worker at all."""

from __future__ import annotations

import math

import pytest
from msgspec import Raw

from mageflow.core.events import (
    Failed,
    HandedBack,
    Stopped,
    Succeeded,
)
from mageflow.core.options import LONGEST_PAUSE, Options
from mageflow.core.records import Control, Origin
from mageflow.core.replies import (
    EndReply,
    Offer,
    StartReply,
    Verdict,
)
from mageflow.core.status import RunStatus
from tests.core.harness import DAY, DONE, Outcome, World, failed, failure_of

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
