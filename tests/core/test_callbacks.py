"""The end of a run makes the runs of its callbacks, each once, in the same commit or in bounded ones that follow."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mageflow.core.decision import MAX_RECORDS
from mageflow.core.edits import Slot
from mageflow.core.events import Succeeded
from mageflow.core.ids import callback_id
from mageflow.core.options import Options
from mageflow.core.records import Origin, RowAction, advance_key, index_of
from mageflow.core.replies import EndReply, StartReply, Verdict
from mageflow.core.runs import LONGEST_LINE
from mageflow.core.status import RunStatus
from tests.core.harness import DAY, DONE, Outcome, World, failed


def signed(world: World) -> str:
    """Sign a task with two callbacks of each kind."""
    return world.sign(
        "t",
        success=[world.sign("success 1"), world.sign("success 2")],
        error=[world.sign("error 1"), world.sign("error 2")],
        done=[world.sign("done 1"), world.sign("done 2")],
    )


@pytest.mark.parametrize(
    ("outcome", "called"),
    [
        (DONE, ["success 1", "success 2", "done 1", "done 2"]),
        (failed(), ["error 1", "error 2", "done 1", "done 2"]),
    ],
    ids=["success", "failure"],
)
def test_an_end_calls_its_callbacks_in_order_and_then_those_that_are_always_called(
    outcome: Outcome, called: list[str]
) -> None:
    world = World()
    run = world.start(signed(world))
    world.finish(run, outcome)
    assert world.tasks_called(run) == called
    assert world.due() == [callback.key for callback in world.callbacks(run)]


def test_a_cancellation_calls_the_done_callbacks_only() -> None:
    world = World()
    run = world.start(signed(world))
    world.cancel(run)
    assert world.tasks_called(run) == ["done 1", "done 2"]


def test_callbacks_wait_for_the_last_attempt() -> None:
    world = World()
    run = world.start(world.sign("t", error=[world.sign("told")], options=Options(retries=1)))
    world.finish(run, failed())
    assert world.tasks_called(run) == []
    world.finish(run, failed())
    assert world.tasks_called(run) == ["told"]


def test_a_callback_knows_where_it_comes_from() -> None:
    world = World()
    run = world.start(signed(world))
    world.finish(run)
    success, _, done, _ = world.callbacks(run)
    assert (success.origin, done.origin) == (Origin.RESULT, Origin.OUTCOME)
    assert (success.cause, success.root, success.lineage) == (run, run, (run,))
    other = world.start(signed(world))
    world.finish(other, failed())
    assert [callback.origin for callback in world.callbacks(other)][:2] == [Origin.FAILURE, Origin.FAILURE]


def test_the_claim_of_a_callback_brings_the_run_that_called_it() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("next")]))
    world.finish(run, Succeeded(Raw(b'"receipt"')))
    reply = world.claim(world.callbacks(run)[0].key)
    assert reply.offer is not None
    assert reply.offer.answer is not None
    assert reply.offer.answer.result == Raw(b'"receipt"')


def test_a_callback_has_callbacks_of_its_own_and_one_root() -> None:
    world = World()
    third = world.sign("third")
    run = world.start(world.sign("first", success=[world.sign("second", error=[third])]))
    world.finish(run)
    [second] = world.callbacks(run)
    world.finish(second.key, failed())
    [called] = world.callbacks(second.key)
    assert (called.task, called.root, called.cause) == ("third", run, second.key)
    assert called.lineage == (run,), "a lineage does not grow along a line of callbacks"


def test_a_flow_that_has_begun_is_queued_before_one_that_was_started_after_it() -> None:
    world = World()
    following = world.sign("second", success=[world.sign("third")])
    old = world.start(world.sign("first", success=[following]))
    world.turn(1.0)
    young = world.start(world.sign("other"))
    world.turn(1.0)
    world.finish(old)
    [second] = world.callbacks(old)
    assert world.due() == [second.key, young]
    world.turn(1.0)
    world.finish(second.key)
    [third] = world.callbacks(second.key)
    assert world.due() == [third.key, young]
    assert third.due_at == world.now, "it did not wait that long itself"


def test_a_delayed_callback_is_due_at_its_own_time() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("later", options=Options(delay=5.0))]))
    world.turn(1.0)
    world.finish(run)
    [later] = world.callbacks(run)
    assert world.rows[later.key].due_at == later.due_at == world.now + 5.0


def test_callbacks_are_isolated_from_each_other() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("bad"), world.sign("good")]))
    world.finish(run)
    bad, good = world.callbacks(run)
    world.finish(bad.key, failed())
    world.finish(good.key)
    assert world.status(run) is world.status(good.key) is RunStatus.SUCCEEDED


def test_one_signature_may_be_called_twice_by_one_end_and_by_many() -> None:
    world = World()
    log = world.sign("log")
    key = world.sign("t", success=[log, log], done=[log])
    runs = [world.start(key) for _ in range(3)]
    for run in runs:
        world.finish(run)
    made = [callback.key for run in runs for callback in world.callbacks(run)]
    assert len(made) == len(set(made)) == 9


def test_a_callbacks_id_is_derived_so_it_exists_once() -> None:
    world = World()
    run = world.start(signed(world))
    world.finish(run)
    assert world.again(EndReply).accepted
    assert [callback.key for callback in world.callbacks(run)] == [
        callback_id(run, slot, place) for slot in (Slot.SUCCESS, Slot.DONE) for place in (0, 1)
    ]


def test_ids_differ_by_cause_list_and_place_and_stand_beside_their_cause() -> None:
    cause = "run_0123456789abcdef"
    ids = {callback_id(each, slot, place) for each in (cause, cause + "x") for slot in Slot for place in range(5)}
    assert len(ids) == 2 * 3 * 5
    assert all(each.startswith("run_0123456789") for each in ids)
    assert callback_id(cause, "done", 1) == callback_id(cause, "done", 1)


def test_the_options_of_a_callback_are_its_signatures_over_its_tasks() -> None:
    world = World({"next": Options(retries=5, priority=3)})
    following = world.sign("next", options=Options(delay=9.0, retries=1))
    run = world.start(world.sign("t", success=[following], options=Options(priority=2, execution_timeout=1.0)))
    world.finish(run)
    [callback] = world.callbacks(run)
    assert callback.options == Options(delay=9.0, retries=1, priority=3)
    assert (callback.status, callback.due_at) == (RunStatus.SCHEDULED, world.now + 9.0)


def test_a_removed_callback_leaves_a_failed_run_that_says_so_and_spares_the_others() -> None:
    world = World()
    gone, other = world.sign("gone"), world.sign("other")
    run = world.start(world.sign("t", success=[gone, other], ttl=(60.0, 7.0)))
    world.remove(gone)
    world.finish(run)
    left, called = world.callbacks(run)
    assert (left.status, left.signature, left.expires_at) == (RunStatus.FAILED, gone, world.now + 7.0)
    assert left.failure is not None
    assert left.failure.type == "SignatureNotFoundError"
    assert gone in left.failure.message
    assert called.task == "other"
    assert world.claim(left.key).verdict is Verdict.ENDED


def test_being_called_keeps_a_signature() -> None:
    world = World()
    log = world.sign("log", ttl=(100.0, 1.0), options=Options(delay=30.0))
    run = world.start(world.sign("t", success=[log]))
    world.turn(50.0)
    world.finish(run)
    assert world.signature(log).expires_at == world.now + 30.0 + 100.0


def test_a_signature_is_not_written_at_every_use() -> None:
    world = World()
    key = world.sign("t", ttl=(1000.0, 1.0))
    before = world.signature(key)
    world.turn(99.0)
    world.start(key)
    assert world.signature(key) == before
    world.turn(2.0)
    world.start(key)
    assert world.signature(key).expires_at == world.now + 1000.0


# More than one commit may hold


def test_1200_callbacks_are_made_in_bounded_commits() -> None:
    world = World()
    log = world.sign("log")
    others = [world.sign(f"other {place}") for place in range(600)]
    run = world.start(world.sign("t", success=[*others, *([log] * 400)], done=[log] * 200))
    world.finish(run)
    ended = world.run(run)
    assert ended.status is RunStatus.SUCCEEDED, "the end itself does not wait"
    assert ended.cursor is not None
    assert index_of(ended).live, "it is not purged while callbacks are to be made"
    row = world.rows[advance_key(run)]
    assert (row.run, row.action, row.due_at) == (run, RowAction.ADVANCE, world.now)

    assert 2 <= world.advance(run) <= 5
    world.check_all()
    made = world.callbacks(run)
    assert len(made) == 1200
    assert [callback.task for callback in made] == [f"other {place}" for place in range(600)] + ["log"] * 600
    assert world.run(run).cursor is None
    assert advance_key(run) not in world.rows
    assert max(len(decision.writes) for _, decision in world.story) <= MAX_RECORDS
    assert world.advance(run) == 1, "there is nothing left to do"


def test_several_workers_that_advance_at_once_make_each_callback_once() -> None:
    world = World()
    log = world.sign("log")
    run = world.start(world.sign("t", success=[log] * 1000))
    world.finish(run)
    workers = [world.advancing(run) for _ in range(3)]
    while workers:
        workers = [worker for worker in workers if next(worker, run) is None]
    world.check_all()
    assert len(world.callbacks(run)) == 1000


@pytest.mark.parametrize("last", [400, 401])
def test_the_last_callback_is_made_at_the_edge_of_a_commit(last: int) -> None:
    world = World()
    log = world.sign("log")
    run = world.start(world.sign("t", done=[log] * last))
    world.finish(run)
    assert (world.run(run).cursor is None) == (last == 400)
    world.advance_all()
    assert len(world.callbacks(run)) == last


def test_callbacks_that_are_made_later_know_the_options_and_controls_of_then() -> None:
    world = World()
    log = world.sign("log")
    run = world.start(world.sign("t", success=[log] * 900))
    world.finish(run)
    world.suspend(run)
    world.advance(run)
    assert {callback.status for callback in world.callbacks(run)} == {RunStatus.SUSPENDED}
    world.resume(run)
    world.advance(run)
    assert {callback.status for callback in world.callbacks(run)} == {RunStatus.QUEUED}
    world.check_all()


def test_a_signature_that_is_removed_between_two_commits_still_leaves_runs_that_say_so() -> None:
    world = World()
    log = world.sign("log")
    run = world.start(world.sign("t", success=[log] * 500))
    world.finish(run)
    world.remove(log)
    world.advance(run)
    world.check_all()
    statuses = [callback.status for callback in world.callbacks(run)]
    assert statuses == [RunStatus.QUEUED] * 400 + [RunStatus.FAILED] * 100


def test_callbacks_of_a_run_that_is_tried_again_are_called_again() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("next")], done=[world.sign("done")]), b"1")
    world.finish(run, failed())
    assert world.tasks_called(run) == ["done"]
    again = world.retry(run).run
    assert again is not None
    world.finish(again.key)
    assert world.tasks_called(again.key) == ["next", "done"]
    assert world.again(StartReply, world.story[-3][0]).run is not None


def test_a_run_keeps_what_it_needs_until_it_has_ended() -> None:
    world = World()
    run = world.start(world.sign("t", success=[world.sign("next", ttl=(DAY, 1.0))]))
    world.finish(run)
    [callback] = world.callbacks(run)
    index = index_of(callback)
    assert (index.live, index.signature, index.root, index.cause) == (True, callback.signature, run, run)
    world.finish(callback.key)
    assert not index_of(world.run(callback.key)).live


def test_a_flow_that_calls_itself_lets_younger_ones_pass_after_a_while() -> None:
    """Its age counts for so many callbacks in a line; then it goes to the end, as if it had been started anew."""
    world = World()
    loop = world.sign("loop")
    world.append(loop, Slot.SUCCESS, loop)
    run = world.start(loop)
    world.turn(1.0)
    young = world.start(world.sign("young"))
    for _ in range(LONGEST_LINE + 1):
        world.turn(0.01)
        assert world.due()[0] == run, "a flow that has begun is finished before a younger one begins"
        world.finish(run)
        [callback] = world.callbacks(run)
        run = callback.key
    assert world.due() == [young, run]
    world.finish(young)
    world.finish(run)
    [callback] = world.callbacks(run)
    assert callback.since == world.run(run).due_at, "and has an age of its own again"
