"""What a worker goes on with: a run that the end of an attempt makes due is its own by the same commit."""

from __future__ import annotations

import pytest

from mageflow.core.events import HandedBack, Keeps
from mageflow.core.options import Options
from mageflow.core.records import Control, RunRecord, replace
from mageflow.core.replies import EndReply, Verdict
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, ROUTE, World, failed

ALL = Keeps((ROUTE,), ("t", "next", "other"))


def claimed(world: World, signature: str) -> str:
    """Start a run and have the worker claim it."""
    run = world.start(signature)
    world.claim(run)
    return run


def caused(world: World, run: str) -> dict[str, RunRecord]:
    """Give the callbacks' runs of a run, by task."""
    return {each.task: each for each in world.runs() if each.cause == run}


def test_a_callback_is_claimed_by_the_commit_that_ends_its_cause() -> None:
    world = World()
    run = claimed(world, world.sign("t", success=[world.sign("next", a=1)]))
    reply = world.end(run, DONE, keeps=ALL)
    made = caused(world, run)["next"]
    assert reply.kept is not None
    assert (reply.kept.verdict, reply.kept.run) == (Verdict.CLAIMED, replace(made, rev=0, token=""))
    assert reply.kept.offer is not None
    assert (made.status, made.worker, made.attempt) == (RunStatus.RUNNING, "w1", 1)
    assert world.rows == {}
    world.end(made.key, DONE)
    world.check_all()


def test_what_is_kept_is_what_a_claim_would_have_given() -> None:
    kept, claims = World(), World()
    replies = []
    for world in (kept, claims):
        run = claimed(world, world.sign("t", success=[world.sign("next", a=1)]))
        reply = world.end(run, DONE, keeps=ALL if world is kept else None)
        replies.append(reply.kept if world is kept else world.claim(caused(world, run)["next"].key))
    mine, theirs = replies
    assert mine is not None
    assert theirs is not None
    assert mine.offer is not None
    assert theirs.offer is not None
    assert (mine.offer.origin, mine.offer.layers) == (theirs.offer.origin, theirs.offer.layers)
    assert (mine.verdict, mine.ahead, mine.swarm) == (theirs.verdict, theirs.ahead, theirs.swarm)


def test_the_steps_of_a_chain_go_on_in_one_worker() -> None:
    world = World()
    run = world.start(world.chain(world.sign("t"), world.sign("next"), world.sign("other")))
    first = world.members(run)[0].key
    world.claim(first)
    for place in (1, 2):
        reply = world.end(first, DONE, keeps=ALL)
        assert reply.kept is not None
        assert reply.kept.run is not None
        first = reply.kept.run.key
        assert world.members(run)[place].status is RunStatus.RUNNING
    assert world.end(first, DONE, keeps=ALL).kept is None
    assert world.run(run).status is RunStatus.SUCCEEDED


def test_one_is_kept_and_the_others_are_due_the_most_urgent_first() -> None:
    world = World()
    urgent = world.sign("other", options=Options(priority=3))
    run = claimed(world, world.sign("t", success=[world.sign("next"), urgent, world.sign("next")]))
    reply = world.end(run, DONE, keeps=ALL)
    assert reply.kept is not None
    assert reply.kept.run is not None
    assert reply.kept.run.task == "other"
    assert sorted(row.task for row in world.rows.values()) == ["next", "next"]


@pytest.mark.parametrize(
    "keeps",
    [None, Keeps(("elsewhere",), ("next",)), Keeps((ROUTE,), ("t", "other")), Keeps((), ()), Keeps((ROUTE,), ())],
)
def test_what_cannot_be_brought_here_is_due(keeps: Keeps | None) -> None:
    world = World()
    run = claimed(world, world.sign("t", success=[world.sign("next")]))
    assert world.end(run, DONE, keeps=keeps).kept is None
    assert caused(world, run)["next"].status is RunStatus.QUEUED
    assert len(world.rows) == 1


def test_what_is_due_later_is_not_kept() -> None:
    world = World()
    run = claimed(world, world.sign("t", success=[world.sign("next", options=Options(delay=5.0))]))
    assert world.end(run, DONE, keeps=ALL).kept is None
    assert caused(world, run)["next"].status is RunStatus.SCHEDULED


@pytest.mark.parametrize("outcome", [failed(after=0.0), HandedBack()])
def test_an_attempt_that_comes_to_nothing_is_left_to_others(outcome: object) -> None:
    world = World({"t": Options(retries=2)})
    run = claimed(world, world.sign("t"))
    assert isinstance(outcome, HandedBack | type(failed()))
    assert world.end(run, outcome, keeps=ALL).kept is None
    assert world.run(run).status in (RunStatus.QUEUED, RunStatus.SCHEDULED)
    assert len(world.rows) == 1


def test_a_held_callback_is_not_kept() -> None:
    world = World()
    following = world.sign("next")
    run = claimed(world, world.sign("t", success=[following]))
    world.control_signature(following, Control.SUSPEND)
    assert world.end(run, DONE, keeps=ALL).kept is None
    assert caused(world, run)["next"].status is RunStatus.SUSPENDED


def test_a_late_end_keeps_nothing() -> None:
    world = World()
    run = claimed(world, world.sign("t", success=[world.sign("next")]))
    world.take_back(run)
    world.claim(run, "w2")
    reply = world.end(run, DONE, worker="w1", attempt=1, keeps=ALL)
    assert not reply.accepted
    assert reply.kept is None


def test_a_lost_reply_claims_nothing_twice() -> None:
    world = World()
    run = claimed(world, world.sign("t", success=[world.sign("next")]))
    world.end(run, DONE, keeps=ALL)
    again = world.again(EndReply)
    assert again.accepted
    assert again.kept is None
    made = caused(world, run)["next"]
    assert (made.status, made.attempt) == (RunStatus.RUNNING, 1)


def test_a_members_end_keeps_the_one_that_takes_its_place() -> None:
    world = World()
    swarm = world.swarm(*(world.sign("t") for _ in range(5)), window=2)
    run = world.start(swarm)
    first = world.members(run)[0].key
    world.claim(first)
    reply = world.end(first, DONE, keeps=ALL)
    assert reply.kept is not None
    assert reply.kept.run is not None
    assert reply.kept.run.place == 2
    assert [row.run for row in world.rows.values()] == [world.members(run)[1].key]
