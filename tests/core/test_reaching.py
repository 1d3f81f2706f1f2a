"""Suspend, interrupt, resume and cancel, on what a run caused: all of it, in bounded commits."""

from __future__ import annotations

import pytest

from mageflow.core.decision import MAX_RECORDS
from mageflow.core.events import HandedBack, Sweep
from mageflow.core.records import Control
from mageflow.core.replies import ControlReply, Verdict
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, World
from tests.core.states import HOLDS, queued, statuses, with_callbacks


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
