"""Stories of chains and swarms; some were bugs that random trees found."""

from __future__ import annotations

from msgspec import Raw

from mageflow.core.edits import AddMembers
from mageflow.core.events import Stopped, Succeeded
from mageflow.core.members import Member
from mageflow.core.options import Options
from mageflow.core.records import RunRecord
from mageflow.core.replies import MembersReply
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, World, failed


def tried(world: World, run: str) -> str:
    """Try a run again; give the new one."""
    reply = world.retry(run)
    assert reply.run is not None
    return reply.run.key


def counts(run: RunRecord) -> tuple[int, int, int]:
    assert run.tally is not None
    return run.tally.succeeded, run.tally.failed, run.tally.cancelled


def test_a_chain_goes_step_by_step_and_ends_with_its_last() -> None:
    world = World()
    bell = world.sign("bell")
    run = world.start(world.chain(world.sign("one"), world.sign("two"), success=[bell]))

    assert list(world.members(run)) == [0]
    world.finish(world.members(run)[0].key)
    assert list(world.members(run)) == [0, 1]
    assert world.callbacks(run) == [*world.members(run).values()], "members, and no callback yet"
    world.finish(world.members(run)[1].key)

    assert world.status(run) is RunStatus.SUCCEEDED
    assert world.tasks_called(run)[-1] == "bell"
    world.check_all()


def test_a_swarm_fills_its_window_and_joins_once() -> None:
    world = World()
    bell = world.sign("bell")
    task = world.sign("task")
    run = world.start(world.swarm(task, task, task, window=2, success=[bell]))

    assert list(world.members(run)) == [0, 1]
    world.finish(world.members(run)[1].key)
    assert list(world.members(run)) == [0, 1, 2]
    world.finish(world.members(run)[2].key)
    assert world.status(run) is RunStatus.RUNNING
    world.finish(world.members(run)[0].key)

    assert world.status(run) is RunStatus.SUCCEEDED
    assert world.tasks_called(run).count("bell") == 1
    world.check_all()


def test_a_narrower_window_waits_until_members_have_ended() -> None:
    world = World()
    task = world.sign("task")
    run = world.start(world.swarm(*[task] * 5, window=3))
    world.resize(run, 1)

    world.finish(world.members(run)[0].key)
    world.finish(world.members(run)[1].key)
    assert len(world.members(run)) == 3
    world.finish(world.members(run)[2].key)
    assert len(world.members(run)) == 4


def test_a_swarm_that_stops_in_a_retry_keeps_the_members_that_had_succeeded() -> None:
    """They stand in it too, and so are counted: told off is what never began, in no life."""
    world = World()
    task = world.sign("task")
    swarm = world.swarm(task, task, task, window=3, stop_after=1)
    first = world.start(swarm)
    world.resize(first, 1)
    world.finish(world.members(first)[2].key)
    world.claim(world.members(first)[1].key)
    world.finish(world.members(first)[0].key, failed(retry=False))
    world.end(world.members(first)[1].key, failed(retry=False))
    world.advance_all()
    assert counts(world.run(first)) == (1, 2, 0)

    second = tried(world, first)
    world.finish(world.members(second)[0].key, failed(retry=False))
    world.advance_all()

    assert world.status(second) is RunStatus.FAILED
    assert counts(world.run(second)) == (1, 1, 1)


def test_a_swarm_closed_after_its_last_member_ended_joins_then() -> None:
    world = World()
    swarm = world.swarm(closed=False)
    run = world.start(swarm)
    world.add(swarm, world.sign("task"))
    world.finish(world.members(run)[0].key)
    assert world.status(run) is RunStatus.RUNNING

    world.close(swarm)

    assert world.status(run) is RunStatus.SUCCEEDED
    world.check_all()


def test_an_addition_whose_reply_was_lost_is_made_once() -> None:
    world = World()
    swarm = world.swarm(closed=False)
    run = world.start(swarm)
    reply = world.add(swarm, world.sign("task"))
    lost = world.story[-1][0]
    again = world.again(type(reply))

    assert again.refusal is None
    assert list(world.members(run)) == [0]

    for _ in range(40):
        world.add(swarm, world.sign("task"))
    world.again(type(reply), lost)
    roster = world.signature(swarm).roster
    assert roster is not None
    assert roster.count == 41, "whatever others have added meanwhile"


def test_an_open_swarm_cancelled_before_it_began_ends_when_it_is_tried_again_closed() -> None:
    world = World()
    swarm = world.swarm(world.sign("task"), closed=False, options=Options(delay=5))
    first = world.start(swarm)
    world.cancel(first)
    world.close(swarm)

    second = tried(world, first)
    world.finish(world.members(second)[0].key)

    assert world.status(second) is RunStatus.SUCCEEDED, "nobody can close it any more"


def test_the_done_callbacks_of_a_cancelled_step_are_not_cancelled_with_its_chain() -> None:
    world = World()
    bell = world.sign("bell")
    run = world.start(world.chain(world.sign("one", done=[bell]), world.sign("two"), done=[bell]))
    step = world.members(run)[0].key
    world.cancel(step)
    world.advance_all()

    assert world.status(run) is RunStatus.CANCELLED
    assert list(world.members(run)) == [0]
    (of_step,) = world.callbacks(step)
    (of_chain,) = (each for each in world.callbacks(run) if each.place is None)
    assert world.finish(of_step.key).status is RunStatus.SUCCEEDED
    assert world.finish(of_chain.key).status is RunStatus.SUCCEEDED
    world.check_all()


def test_the_done_callbacks_of_a_step_cancelled_in_a_held_chain_wait_for_its_resume() -> None:
    world = World()
    bell = world.sign("bell")
    run = world.start(world.chain(world.sign("one", done=[bell]), world.sign("two")))
    step = world.members(run)[0].key
    world.suspend(run)
    world.advance_all()
    world.cancel(step)
    (callback,) = world.callbacks(step)
    assert callback.status is RunStatus.SUSPENDED

    world.resume(run)
    world.advance_all()

    assert world.finish(callback.key).status is RunStatus.SUCCEEDED


def test_a_cancel_that_still_goes_round_spares_the_done_callbacks_of_what_it_cancelled() -> None:
    world = World()
    bell = world.sign("bell")
    run = world.start(world.swarm(world.sign("task"), done=[bell]))
    member = world.members(run)[0].key
    world.claim(member)
    world.cancel(run)
    world.end(member, Stopped())
    assert world.status(run) is RunStatus.CANCELLED
    (callback,) = (each for each in world.callbacks(run) if each.place is None)

    world.advance_all()

    assert world.finish(callback.key).status is RunStatus.SUCCEEDED


def test_a_run_tried_again_gets_the_members_that_were_added_since() -> None:
    world = World()
    task = world.sign("task")
    swarm = world.swarm(task, closed=False, options=Options(delay=5))
    first = world.start(swarm)
    world.cancel(first)
    world.add(swarm, task)

    second = tried(world, first)

    assert list(world.members(second)) == [0, 1]


def test_an_open_swarm_that_is_removed_ends_with_the_members_it_has() -> None:
    world = World()
    swarm = world.swarm(world.sign("task"), closed=False)
    run = world.start(swarm)
    member = world.members(run)[0].key
    world.claim(member)
    world.remove(swarm)
    assert world.status(run) is RunStatus.RUNNING

    world.end(member, DONE)

    assert world.status(run) is RunStatus.SUCCEEDED, "nobody can close it any more"


def test_who_hears_of_a_step_whose_signature_is_gone_hears_what_it_would_have_begun_with() -> None:
    world = World()
    second, bell = world.sign("second"), world.sign("bell")
    run = world.start(world.chain(world.sign("first"), second, error=[bell]))
    first = world.members(run)[0].key
    world.remove(second)

    world.finish(first, Succeeded(Raw(b"7")))

    assert world.status(run) is RunStatus.FAILED
    (callback,) = (each for each in world.callbacks(run) if each.place is None)
    offer = world.claim(callback.key).offer
    assert offer is not None
    assert offer.received is not None
    assert offer.received.answer is not None
    assert offer.received.answer.key == first


def test_what_was_sent_to_a_member_whose_signature_is_gone_stays_known() -> None:
    world = World()
    gone = world.sign("gone")
    swarm = world.swarm(closed=False)
    own = (Member(signature=gone, sent=Raw(b'{"own": 1}')),)
    assert (
        world.commit(MembersReply, AddMembers(key=swarm, members=own, note="note:1", token=world.token())).refusal
        is None
    )
    world.remove(gone)

    run = world.start(swarm)

    member = world.members(run)[0]
    assert (member.status, member.sent) == (RunStatus.FAILED, Raw(b'{"own": 1}'))
