"""Suspend, interrupt, resume and cancel: in every state, in any order, repeated, and on what a run caused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
from msgspec import Raw

from mageflow.core.decision import MAX_RECORDS
from mageflow.core.events import (
    HandedBack,
    Stopped,
    Succeeded,
    Sweep,
)
from mageflow.core.options import Options
from mageflow.core.records import Control
from mageflow.core.replies import ControlReply, Verdict
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, World, failed

HOLDS = (Control.SUSPEND, Control.INTERRUPT)


def queued(world: World) -> str:
    return world.start(world.sign("t", done=[world.sign("done")], options=Options(retries=1)))


def scheduled(world: World) -> str:
    return world.start(world.sign("t", done=[world.sign("done")]), options=Options(delay=60.0))


def unroutable(world: World) -> str:
    run = queued(world)
    world.strand(run)
    return run


def running(world: World) -> str:
    run = queued(world)
    world.claim(run)
    return run


def suspended(world: World) -> str:
    run = queued(world)
    world.suspend(run)
    return run


def interrupted(world: World) -> str:
    run = running(world)
    world.interrupt(run)
    world.end(run, Stopped())
    return run


def ended(world: World) -> str:
    run = running(world)
    world.end(run, DONE)
    return run


WAITS = (queued, scheduled, unroutable)
LIVES = (*WAITS, running, suspended, interrupted)
Make = Callable[[World], str]


def with_callbacks(world: World, count: int, *, done: int = 0) -> str:
    """End a run that calls `count` others."""
    after = world.sign("after")
    each = world.sign("each", done=[after] * done)
    run = world.start(world.sign("t", success=[each] * count))
    world.finish(run)
    world.advance_all()
    return run


def statuses(world: World, run: str) -> set[RunStatus]:
    return {callback.status for callback in world.callbacks(run)}


# One run


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("make", WAITS)
def test_what_has_not_begun_is_held_and_let_go(make: Make, hold: Control) -> None:
    world = World()
    run = make(world)
    before = world.run(run)
    world.control(run, hold)
    assert world.status(run) is RunStatus.SUSPENDED
    assert world.claim(run).verdict is Verdict.PARKED
    world.resume(run)
    assert world.status(run) is (RunStatus.SCHEDULED if make is scheduled else RunStatus.QUEUED)
    if make is scheduled:
        assert world.run(run).due_at == before.due_at
    world.turn(60.0)
    assert world.finish(run).status is RunStatus.SUCCEEDED


def test_a_hold_that_outlasts_the_delay_delays_no_further() -> None:
    world = World()
    run = scheduled(world)
    world.suspend(run)
    world.turn(100.0)
    world.resume(run)
    assert (world.status(run), world.run(run).due_at) == (RunStatus.QUEUED, world.now)


def test_the_time_in_suspension_is_no_waiting_for_a_worker() -> None:
    world = World()
    run = world.start(world.sign("t", options=Options(schedule_timeout=10.0)))
    world.suspend(run)
    world.turn(100.0)
    world.resume(run)
    assert world.claim(run).verdict is Verdict.CLAIMED


@pytest.mark.parametrize("hold", HOLDS)
def test_a_failure_while_held_waits_for_its_next_attempt_held(hold: Control) -> None:
    world = World()
    run = running(world)
    world.control(run, hold)
    world.end(run, failed(after=30.0))
    assert world.status(run) is RunStatus.SUSPENDED
    world.resume(run)
    assert (world.status(run), world.run(run).due_at) == (RunStatus.SCHEDULED, world.now + 30.0)


def test_suspend_lets_a_body_go_on_and_holds_what_it_calls() -> None:
    world = World()
    run = running(world)
    world.suspend(run)
    assert world.status(run) is RunStatus.RUNNING
    world.end(run, DONE)
    assert world.status(run) is RunStatus.SUCCEEDED
    assert statuses(world, run) == {RunStatus.SUSPENDED}
    world.resume(run)
    world.advance(run)
    assert statuses(world, run) == {RunStatus.QUEUED}


def test_an_interrupted_body_runs_again_after_resume_and_only_once_it_has_stopped() -> None:
    world = World()
    run = running(world)
    world.interrupt(run)
    assert world.status(run) is RunStatus.RUNNING, "until the worker confirms it, two bodies could run"
    assert world.claim(run, "w2").verdict is Verdict.HELD
    world.end(run, Stopped())
    assert world.status(run) is RunStatus.INTERRUPTED
    assert world.claim(run, "w2").verdict is Verdict.PARKED
    world.resume(run)
    assert world.claim(run, "w2").verdict is Verdict.CLAIMED
    assert world.run(run).failures == 0


def test_a_body_that_was_resumed_before_it_stopped_is_queued_again() -> None:
    world = World()
    run = running(world)
    world.interrupt(run)
    world.resume(run)
    world.end(run, Stopped())
    assert world.status(run) is RunStatus.QUEUED


def test_a_body_that_ends_in_spite_of_an_interrupt_has_ended() -> None:
    world = World()
    run = running(world)
    world.interrupt(run)
    world.end(run, DONE)
    assert world.status(run) is RunStatus.SUCCEEDED


def test_a_worker_that_leaves_hands_back_what_is_held() -> None:
    world = World()
    run = running(world)
    world.suspend(run)
    world.end(run, HandedBack())
    assert world.status(run) is RunStatus.SUSPENDED


@pytest.mark.parametrize("make", LIVES)
def test_whatever_lives_can_be_cancelled(make: Make) -> None:
    world = World()
    run = make(world)
    world.cancel(run)
    if make is running:
        assert world.status(run) is RunStatus.RUNNING, "its worker stops it first"
        world.end(run, Stopped())
    assert world.status(run) is RunStatus.CANCELLED
    assert world.tasks_called(run) == ["done"]
    assert statuses(world, run) == {RunStatus.QUEUED}, "they are there to hear of the cancel"


@pytest.mark.parametrize("outcome", [Succeeded(Raw(b"1")), failed(), failed(retry=False), Stopped(), HandedBack()])
def test_whatever_a_cancelled_body_comes_to_it_was_cancelled(outcome: Succeeded) -> None:
    world = World()
    run = running(world)
    world.cancel(run)
    world.end(run, outcome)
    assert world.status(run) is RunStatus.CANCELLED
    assert world.run(run).result is None


@pytest.mark.parametrize("make", [*LIVES, ended])
@pytest.mark.parametrize("control", list(Control))
def test_a_control_that_is_repeated_changes_nothing(make: Make, control: Control) -> None:
    world = World()
    run = make(world)
    world.control(run, control)
    before = dict(world.records)
    world.control(run, control)
    world.again(ControlReply)
    assert world.records == before


@pytest.mark.parametrize("make", LIVES)
@pytest.mark.parametrize("order", list(permutations([Control.SUSPEND, Control.INTERRUPT, Control.SUSPEND])))
def test_the_strongest_hold_stands_in_any_order_and_one_resume_lifts_it(make: Make, order: tuple[Control, ...]) -> None:
    world = World()
    run = make(world)
    for control in order:
        world.control(run, control)
    assert world.run(run).control is Control.INTERRUPT
    if make is running:
        world.end(run, Stopped())
    world.resume(run)
    world.turn(60.0)
    assert world.finish(run).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("control", [Control.NONE, *HOLDS])
@pytest.mark.parametrize("make", LIVES)
def test_nothing_lifts_a_cancel(make: Make, control: Control) -> None:
    world = World()
    run = make(world)
    world.cancel(run)
    world.control(run, control)
    assert world.run(run).control is Control.CANCEL
    if make is running:
        world.end(run, Stopped())
    assert world.status(run) is RunStatus.CANCELLED


@pytest.mark.parametrize("control", list(Control))
def test_a_control_of_a_run_that_is_gone_or_has_ended_without_callbacks_says_so(control: Control) -> None:
    world = World()
    assert world.control("run_gone", control) == ControlReply(run=None)
    run = world.start(world.sign("t"))
    before = world.finish(run)
    assert world.control(run, control).run == before
    assert world.run(run) == before


# What a run caused


@pytest.mark.parametrize("hold", HOLDS)
def test_an_ended_run_holds_and_lets_go_what_it_called(hold: Control) -> None:
    world = World()
    run = with_callbacks(world, 3)
    world.control(run, hold)
    assert world.claim(world.callbacks(run)[0].key).verdict is Verdict.PARKED, "before any sweep came by"
    world.advance(run)
    assert statuses(world, run) == {RunStatus.SUSPENDED}
    world.resume(run)
    world.advance(run)
    assert statuses(world, run) == {RunStatus.QUEUED}
    world.check_all()


def test_a_cancel_reaches_callbacks_in_every_state() -> None:
    world = World()
    run = with_callbacks(world, 5, done=1)
    waits, runs, delayed, stranded, held = (callback.key for callback in world.callbacks(run))
    world.claim(runs)
    world.claim(delayed)
    world.end(delayed, HandedBack())
    world.strand(stranded)
    world.suspend(held)
    world.cancel(run)
    world.advance(run)
    assert [world.status(key) for key in (waits, delayed, stranded, held)] == [RunStatus.CANCELLED] * 4
    assert world.status(runs) is RunStatus.RUNNING
    world.end(runs, DONE)
    assert world.status(runs) is RunStatus.CANCELLED
    heard = [callback for key in (waits, runs, held) for callback in world.callbacks(key)]
    assert [callback.status for callback in heard] == [RunStatus.QUEUED] * 3, "done callbacks hear of the cancel"
    for callback in heard:
        assert world.finish(callback.key).status is RunStatus.SUCCEEDED


def test_a_cancel_from_above_beats_every_hold_below_it() -> None:
    world = World()
    third = world.sign("third", done=[world.sign("told")])
    root = world.start(world.sign("first", success=[world.sign("second", success=[third])]))
    world.finish(root)
    [second] = world.callbacks(root)
    world.claim(second.key)
    world.suspend(second.key)
    world.end(second.key, DONE)
    [held] = world.callbacks(second.key)
    world.cancel(root)
    world.advance(root)
    assert world.status(held.key) is RunStatus.CANCELLED
    assert statuses(world, held.key) == {RunStatus.QUEUED}


def test_a_cancel_leaves_the_holds_above_it_in_force() -> None:
    world = World()
    third = world.sign("third", done=[world.sign("told")])
    root = world.start(world.sign("first", success=[third]))
    world.finish(root)
    [called] = world.callbacks(root)
    world.suspend(root)
    world.advance(root)
    world.cancel(called.key)
    assert statuses(world, called.key) == {RunStatus.SUSPENDED}
    world.resume(root)
    world.advance(root)
    assert statuses(world, called.key) == {RunStatus.QUEUED}


def test_done_callbacks_of_what_was_cancelled_can_be_held_by_themselves() -> None:
    world = World()
    run = queued(world)
    world.cancel(run)
    [done] = world.callbacks(run)
    world.suspend(done.key)
    assert world.claim(done.key).verdict is Verdict.PARKED
    world.resume(done.key)
    assert world.finish(done.key).status is RunStatus.SUCCEEDED


def test_a_callback_obeys_every_run_above_it() -> None:
    world = World()
    last = world.sign("third")
    root = world.start(world.sign("first", success=[world.sign("second", success=[last])]))
    world.finish(root)
    [second] = world.callbacks(root)
    world.claim(second.key)
    world.suspend(second.key)
    world.end(second.key, DONE)
    [third] = world.callbacks(second.key)
    assert third.status is RunStatus.SUSPENDED
    world.suspend(root)
    world.advance(root)
    world.resume(second.key)
    world.advance(second.key)
    assert world.status(third.key) is RunStatus.SUSPENDED, "the root holds it still"
    assert world.resume(third.key).run == world.run(third.key)
    world.resume(root)
    world.advance(root)
    assert world.status(third.key) is RunStatus.QUEUED


def test_an_ended_callback_reaches_what_it_called_although_it_is_not_in_its_lineage() -> None:
    world = World()
    last = world.sign("third")
    root = world.start(world.sign("first", success=[world.sign("second", success=[last])]))
    world.finish(root)
    [second] = world.callbacks(root)
    world.finish(second.key)
    [third] = world.callbacks(second.key)
    assert second.key not in third.lineage
    world.suspend(second.key)
    world.advance(second.key)
    assert world.status(third.key) is RunStatus.SUSPENDED
    world.resume(second.key)
    world.advance(second.key)
    assert world.finish(third.key).status is RunStatus.SUCCEEDED


def test_a_run_that_has_only_begun_passes_its_hold_on_to_its_callbacks_by_its_end() -> None:
    world = World()
    root = world.start(world.sign("first", success=[world.sign("second", success=[world.sign("third")])]))
    world.finish(root)
    [second] = world.callbacks(root)
    world.claim(second.key)
    world.suspend(root)
    world.advance(root)
    world.end(second.key, DONE)
    assert statuses(world, second.key) == {RunStatus.SUSPENDED}


# Many runs


def test_a_sweep_over_more_than_one_commit_holds_is_done_in_bounded_ones() -> None:
    world = World()
    run = with_callbacks(world, 250, done=6)
    begin = len(world.story)
    world.cancel(run)
    world.advance_all()
    world.check_all()
    assert statuses(world, run) == {RunStatus.CANCELLED}
    assert sum(isinstance(event, Sweep) for event, _ in world.story[begin:]) >= 4
    assert max(len(decision.writes) for _, decision in world.story) <= MAX_RECORDS
    done = [callback for each in world.callbacks(run) for callback in world.callbacks(each.key)]
    assert len(done) == 250 * 6
    assert {callback.status for callback in done} == {RunStatus.QUEUED}


def test_a_cancel_with_more_than_500_done_callbacks_of_its_own() -> None:
    world = World()
    done = world.sign("done")
    run = world.start(world.sign("t", done=[done] * 1000))
    world.cancel(run)
    assert world.status(run) is RunStatus.CANCELLED
    world.advance(run)
    world.check_all()
    assert len(world.callbacks(run)) == 1000
    assert statuses(world, run) == {RunStatus.QUEUED}


def test_a_control_that_changes_under_a_sweep_begins_it_anew() -> None:
    world = World()
    run = with_callbacks(world, 6)
    world.suspend(run)
    sweeping = world.advancing(run, page=2)
    next(sweeping)
    next(sweeping)
    world.resume(run)
    for _ in sweeping:
        pass
    assert statuses(world, run) == {RunStatus.QUEUED}
    assert world.run(run).cursor is None


def test_a_sweep_that_was_overtaken_by_hold_and_release_does_not_end_the_newer_one() -> None:
    world = World()
    run = with_callbacks(world, 6)
    world.suspend(run)
    world.advance(run)
    world.resume(run)
    slow = world.advancing(run, page=2)
    for _ in range(3):
        next(slow)  # it has let go of four, and the last two are next
    assert len(world.due()) == 4
    world.suspend(run)
    world.advance(run)
    world.resume(run)  # the same control as the one that the slow worker set out with
    for _ in slow:
        pass
    world.advance_all()
    assert statuses(world, run) == {RunStatus.QUEUED}


def test_a_sweep_spares_runs_of_the_same_tree_that_are_not_below_it() -> None:
    world = World()
    leaf = world.sign("leaf")
    root = world.start(world.sign("t", success=[world.sign("a", success=[leaf]), world.sign("b", success=[leaf])]))
    world.finish(root)
    a, b = (callback.key for callback in world.callbacks(root))
    world.finish(a)
    world.finish(b)
    world.cancel(a)
    world.advance(a)
    assert statuses(world, a) == {RunStatus.CANCELLED}
    assert statuses(world, b) == {RunStatus.QUEUED}


def test_continuations_of_what_is_gone_leave_no_row() -> None:
    world = World()
    run = with_callbacks(world, 3)
    world.suspend(run)
    del world.records[run]
    world.advance(run)
    assert not [row for row in world.rows.values() if row.run == run]
    sweep = Sweep(run=run, sweep=1, page=(), last=True, token="late")
    assert world.commit(ControlReply, sweep) == ControlReply(run=None)


# Signatures


@pytest.mark.parametrize("hold", HOLDS)
def test_a_held_signature_holds_its_runs_and_those_that_are_still_to_be_made(hold: Control) -> None:
    world = World()
    key = world.sign("t")
    there = world.start(key)
    world.control_signature(key, hold)
    later = world.start(key)
    caller = world.start(world.sign("caller", success=[key]))
    world.finish(caller)
    [called] = world.callbacks(caller)
    assert {world.status(run) for run in (there, later, called.key)} == {RunStatus.SUSPENDED}
    world.control_signature(key, Control.NONE)
    for run in (there, later, called.key):
        assert world.finish(run).status is RunStatus.SUCCEEDED


def test_a_run_that_its_signature_holds_can_be_let_go_or_cancelled_by_itself() -> None:
    world = World()
    key = world.sign("t")
    world.control_signature(key, Control.SUSPEND)
    one, other = world.start(key), world.start(key)
    world.resume(one)
    assert world.finish(one).status is RunStatus.SUCCEEDED
    world.cancel(other)
    assert world.status(other) is RunStatus.CANCELLED


def test_a_signature_is_cancelled_by_its_live_runs() -> None:
    world = World()
    key = world.sign("t")
    runs = [world.start(key), world.start(key, options=Options(delay=5.0))]
    world.control_signature(key, Control.CANCEL)
    assert {world.status(run) for run in runs} == {RunStatus.CANCELLED}
    assert world.finish(world.start(key)).status is RunStatus.SUCCEEDED


def test_the_ranks_of_controls() -> None:
    ordered: list[Control] = sorted(Control, key=lambda control: control.rank)
    assert ordered == [Control.NONE, Control.SUSPEND, Control.INTERRUPT, Control.CANCEL]


@pytest.mark.parametrize("hold", HOLDS)
def test_what_is_tried_again_of_a_held_signature_waits_as_what_is_started_does(hold: Control) -> None:
    world = World()
    task = world.sign("t")
    first = world.start(task)
    world.finish(first, failed(retry=False))
    world.control_signature(task, hold)

    again = world.retry(first).run

    assert again is not None
    assert world.status(again.key) is RunStatus.SUSPENDED
    world.control_signature(task, Control.NONE)
    assert world.finish(again.key).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("hold", HOLDS)
def test_a_member_of_a_held_signature_waits_where_its_chain_is_tried_again(hold: Control) -> None:
    world = World()
    second = world.sign("second")
    chain = world.chain(world.sign("first"), second)
    first = world.start(chain)
    world.finish(world.members(first)[0].key)
    world.finish(world.members(first)[1].key, failed(retry=False))
    world.control_signature(second, hold)

    again = world.retry(first).run

    assert again is not None
    step = world.members(again.key)[1].key
    assert world.status(step) is RunStatus.SUSPENDED
    world.control_signature(second, Control.NONE)
    assert world.finish(step).status is RunStatus.SUCCEEDED
    assert world.status(again.key) is RunStatus.SUCCEEDED
