"""How a run comes to a worker: started, claimed, or too late for it."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mageflow.core.edits import Slot
from mageflow.core.events import Succeeded
from mageflow.core.ids import idempotent_id
from mageflow.core.options import Options
from mageflow.core.records import Origin, RowAction
from mageflow.core.replies import (
    ClaimReply,
    Offer,
    StartReply,
    Verdict,
)
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, World, failed, failure_of

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
