"""Stories of the lists of members: what is removed, retried and closed."""

from __future__ import annotations

from msgspec import Raw

from mageflow.core.edits import AddMembers, CloseMembers, KeepCallbacks
from mageflow.core.events import Start
from mageflow.core.members import Form, Member, Tally
from mageflow.core.records import RunRecord, index_of, replace
from mageflow.core.replies import ControlReply, MembersReply, Refusal, SignatureReply, StartReply
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, ROUTE, World


def test_the_members_of_a_swarm_whose_signature_is_gone_are_executed_with_what_it_bound() -> None:
    world = World()
    swarm = world.swarm(world.sign("first"), world.sign("second"), window=1, colour="red")
    run = world.start(swarm, b'{"sent": 1}')
    keep = KeepCallbacks(run=run, kwargs=world.signature(swarm).kwargs, token=world.token())
    world.commit(ControlReply, keep)
    world.remove(swarm)
    (first,) = world.callbacks(run)
    world.finish(first.key)
    (second,) = world.due()
    offer = world.claim(second).offer
    assert offer is not None
    assert (offer.sent, offer.layers[-1]) == (Raw(b'{"sent": 1}'), {"colour": "red"})
    world.end(second, DONE)
    assert world.status(run) is RunStatus.SUCCEEDED


def test_an_open_swarm_that_is_removed_is_closed_so_its_run_ends_with_its_members() -> None:
    world = World()
    swarm = world.swarm(world.sign("only"), closed=False)
    run = world.start(swarm)
    world.remove(swarm)
    (only,) = world.due()
    assert world.status(run) is RunStatus.RUNNING
    world.finish(only)
    assert world.status(run) is RunStatus.SUCCEEDED


def test_an_open_swarm_without_members_that_is_removed_ends_at_once() -> None:
    world = World()
    swarm = world.swarm(closed=False)
    run = world.start(swarm)
    world.remove(swarm)
    assert world.status(run) is RunStatus.SUCCEEDED


def test_what_is_bound_for_one_run_stands_over_what_its_signature_binds() -> None:
    world = World()
    member = world.sign("member", colour="blue", size=1)
    swarm = world.swarm(member, colour="red")
    world.commit(StartReply, Start(run="run_x", signature=swarm, kwargs={"size": 2}, token=world.token()))
    (made,) = world.callbacks("run_x")
    offer = world.claim(made.key).offer
    assert offer is not None
    merged: dict[str, object] = {}
    for layer in offer.layers:
        assert not isinstance(layer, Raw)
        merged |= layer
    assert merged == {"colour": "red", "size": 2}


def test_a_run_that_tries_another_one_again_keeps_it_also_when_it_has_ended() -> None:
    tried = RunRecord(
        key="run_2",
        created_at=0.0,
        signature="sig_1",
        task="swarm",
        route=ROUTE,
        status=RunStatus.SUCCEEDED,
        due_at=0.0,
        form=Form.SWARM,
        tally=Tally(total=1, window=1, made=1, succeeded=1, earlier="run_1"),
        done_ttl=1.0,
    )
    assert index_of(tried).names == ("run_1",)


def test_a_swarm_within_itself_fails_there_and_is_not_made_again() -> None:
    world = World()
    swarm = world.swarm(closed=False)
    around = world.chain(swarm, world.sign("after"))
    add = AddMembers(key=swarm, members=(Member(signature=around),), note="note:1", token=world.token())
    world.commit(MembersReply, add)
    world.commit(SignatureReply, CloseMembers(key=swarm, token=world.token()))
    run = world.start(swarm)
    assert [(each.task, each.status) for each in world.runs()] == [
        ("swarm", RunStatus.SUCCEEDED),
        ("chain", RunStatus.FAILED),
        ("swarm", RunStatus.FAILED),
    ]
    failure = world.runs()[2].failure
    assert failure is not None
    assert failure.type == "EndlessNestingError"
    assert world.run(run).tally == Tally(total=1, window=30, made=1, failed=1)


def test_an_addition_of_which_more_is_to_come_is_refused_as_a_whole() -> None:
    world = World()
    swarm = world.swarm(closed=False)
    record = world.signature(swarm)
    assert record.roster is not None
    world.records[swarm] = replace(record, roster=replace(record.roster, most=3))
    one = Member(signature=world.sign("one"))
    refused = AddMembers(key=swarm, members=(one, one), more=2, note="note:2", token=world.token())
    assert world.commit(MembersReply, refused).refusal is Refusal.FULL
    taken = AddMembers(key=swarm, members=(one, one), more=1, note="note:3", token=world.token())
    assert world.commit(MembersReply, taken).refusal is None
