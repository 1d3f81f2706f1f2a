"""What an engine needs to know before a run is claimed, and what becomes of a run that it will never deliver."""

from __future__ import annotations

import pytest

from mageflow.core.options import Options
from mageflow.core.records import Control
from mageflow.core.replies import Verdict
from mageflow.core.status import RunStatus
from tests.core.harness import World


def test_a_peek_gives_what_the_claim_will_give_and_changes_nothing() -> None:
    world = World()
    run = world.start(world.sign("t", bound=1))
    records, rows = dict(world.records), dict(world.rows)
    peeked = world.peek(run)
    assert (world.records, world.rows) == (records, rows)
    claimed = world.claim(run)
    assert (peeked.verdict, peeked.offer, peeked.swarm) == (claimed.verdict, claimed.offer, claimed.swarm)


def test_a_peek_says_what_stands_in_the_way_of_a_claim() -> None:
    world = World()
    assert world.peek("run_none").verdict is Verdict.ABSENT
    early = world.start(world.sign("t", options=Options(delay=5.0)))
    assert world.peek(early).verdict is Verdict.EARLY
    held = world.start(world.sign("t"))
    world.claim(held)
    assert world.peek(held).verdict is Verdict.HELD
    key = world.sign("t")
    orphan = world.start(key)
    world.remove(key)
    assert world.peek(orphan).verdict is Verdict.ENDED


def test_a_run_that_no_engine_delivers_fails_and_its_error_callbacks_fire() -> None:
    world = World()
    run = world.start(world.sign("t", error=[world.sign("told")]))
    assert world.refuse(run, "the message has 5 MiB").accepted
    ended = world.run(run)
    assert ended.status is RunStatus.FAILED
    assert ended.failure is not None
    assert ended.failure.message == "the message has 5 MiB"
    assert world.tasks_called(run) == ["told"]
    assert not world.refuse(run).accepted


def test_a_refusal_that_comes_too_late_changes_nothing() -> None:
    world = World()
    run = world.start(world.sign("t"))
    world.claim(run)
    assert not world.refuse(run).accepted
    assert world.status(run) is RunStatus.RUNNING


@pytest.mark.parametrize(
    ("control", "status"), [(Control.CANCEL, RunStatus.CANCELLED), (Control.SUSPEND, RunStatus.SUSPENDED)]
)
def test_a_control_that_has_not_reached_the_run_yet_counts_more_than_a_refusal(
    control: Control, status: RunStatus
) -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("next")]))
    world.finish(run)
    [callback] = world.callbacks(run)
    world.control(run, control)
    world.refuse(callback.key)
    assert world.status(callback.key) is status
