"""Suspend, interrupt, resume and cancel of one run: in every state, in any order, repeated."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec import Raw

from mageflow.core.events import HandedBack, Stopped, Succeeded
from mageflow.core.options import Options
from mageflow.core.records import Control
from mageflow.core.replies import ControlReply, Verdict
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, World, failed
from tests.core.states import HOLDS, LIVES, WAITS, Make, ended, running, scheduled, statuses


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
