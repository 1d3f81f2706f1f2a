"""Signatures that are held and cancelled, and the runs that they have or come to have."""

from __future__ import annotations

import pytest

from mageflow.core.options import Options
from mageflow.core.records import Control
from mageflow.core.status import RunStatus
from tests.core.harness import World, failed
from tests.core.states import HOLDS


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
