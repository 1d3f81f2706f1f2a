"""Signatures are kept, changed and removed; processes and the names of tasks are made known and withdrawn."""

from __future__ import annotations

import pytest

from mageflow.core.edits import AppendCallbacks, PutSignature, Slot
from mageflow.core.events import Announce, Withdraw
from mageflow.core.options import Options
from mageflow.core.presence import TASK_NAME_TTL
from mageflow.core.records import (
    Control,
    Index,
    SignatureRecord,
    TaskRecord,
    WorkerRecord,
    index_of,
    replace,
    task_key,
)
from mageflow.core.replies import SignatureReply
from mageflow.core.status import RunStatus
from tests.core.harness import DAY, World, failed


def blueprint(key: str, *, success: tuple[str, ...] = (), done: tuple[str, ...] = ()) -> SignatureRecord:
    return SignatureRecord(
        key=key,
        created_at=0.0,
        task="t",
        route="r",
        on_success=success,
        on_done=done,
        active_ttl=100.0,
        done_ttl=1.0,
    )


# Put


def test_a_new_signature_is_kept_for_its_time() -> None:
    world = World()
    world.commit(SignatureReply, PutSignature(record=blueprint("sig_1"), token="a"))
    kept = world.signature("sig_1")
    assert (kept.rev, kept.token, kept.created_at, kept.expires_at) == (1, "a", world.now, world.now + 100.0)


def test_a_signature_whose_callbacks_are_gone_is_not_kept() -> None:
    world = World()
    there = world.sign("there")
    record = blueprint("sig_1", success=("sig_gone", there), done=("sig_lost", "sig_gone"))
    reply = world.commit(SignatureReply, PutSignature(record=record, token="a"))
    assert reply == SignatureReply(missing=("sig_gone", "sig_lost"))
    assert "sig_1" not in world.records


def test_a_put_whose_reply_was_lost_gives_what_is_there_whatever_happened_since() -> None:
    world = World()
    callback = world.sign("callback")
    event = PutSignature(record=blueprint("sig_1", success=(callback,)), token="a")
    world.commit(SignatureReply, event)
    world.edit("sig_1", a=1)
    world.remove(callback)
    assert world.again(SignatureReply, event) == SignatureReply(signature=world.signature("sig_1"))


def test_a_signature_may_call_itself() -> None:
    world = World()
    world.commit(SignatureReply, PutSignature(record=blueprint("sig_1", done=("sig_1",)), token="a"))
    assert index_of(world.signature("sig_1")).names == ()
    run = world.start("sig_1")
    world.finish(run)
    assert [callback.signature for callback in world.callbacks(run)] == ["sig_1"]


def test_naming_a_callback_keeps_it_as_long() -> None:
    world = World()
    callback = world.sign("callback", ttl=(100.0, 1.0))
    world.turn(60.0)
    key = world.sign("t", error=[callback])
    assert world.signature(callback).expires_at == world.now + 100.0
    assert index_of(world.signature(key)).names == (callback,)


# Edit


def test_an_edit_replaces_adds_and_drops_key_by_key() -> None:
    world = World()
    key = world.sign("t", a=1, b={"x": 1}, c=3)
    world.turn(50.0)
    reply = world.edit(key, drop=["c", "unknown"], b={"y": 2}, d=4)
    assert reply.signature is not None
    assert reply.signature.kwargs == world.signature(key).kwargs == {"a": 1, "b": {"y": 2}, "d": 4}
    assert world.signature(key).expires_at == world.now + DAY


def test_what_is_put_last_stands_last_so_that_it_wins_over_another_spelling() -> None:
    world = World()
    key = world.sign("t", user_id=1, userId=2)
    world.edit(key, user_id=3)
    assert list(world.signature(key).kwargs.items()) == [("userId", 2), ("user_id", 3)]


def test_an_edit_can_clear_what_was_bound() -> None:
    world = World()
    key = world.sign("t", a=1, b=2)
    world.edit(key, clear=True, c=3)
    assert world.signature(key).kwargs == {"c": 3}
    world.edit(key, clear=True)
    assert world.signature(key).kwargs == {}


def test_an_edit_whose_reply_was_lost_is_not_made_twice() -> None:
    world = World()
    key = world.sign("t", a=1)
    world.edit(key, a=2)
    before = world.signature(key)
    assert world.again(SignatureReply).signature == before
    assert world.signature(key) == before


def test_an_edit_of_what_is_gone_says_so() -> None:
    world = World()
    assert world.edit("sig_gone", a=1) == SignatureReply()
    assert world.append("sig_gone", Slot.DONE) == SignatureReply()


def test_an_edit_leaves_runs_that_have_begun_alone() -> None:
    world = World()
    key = world.sign("t", a=1)
    run = world.start(key)
    claimed = world.claim(run)
    world.edit(key, a=2)
    assert claimed.offer is not None
    assert claimed.offer.layers == ({"a": 1},)


# Append


@pytest.mark.parametrize("slot", list(Slot))
def test_callbacks_are_added_at_the_end_and_may_stand_there_twice(slot: Slot) -> None:
    world = World()
    a, b = world.sign("a"), world.sign("b")
    key = world.sign("t", success=[a], error=[a], done=[a])
    world.append(key, slot, b, a)
    kept = world.signature(key)
    lists = {Slot.SUCCESS: kept.on_success, Slot.ERROR: kept.on_error, Slot.DONE: kept.on_done}
    assert lists.pop(slot) == (a, b, a)
    assert set(lists.values()) == {(a,)}


def test_an_append_whose_reply_was_lost_is_not_made_twice() -> None:
    world = World()
    a = world.sign("a")
    key = world.sign("t")
    world.append(key, Slot.DONE, a)
    world.again(SignatureReply)
    assert world.signature(key).on_done == (a,)


def test_an_append_whose_reply_was_lost_is_made_once_whatever_others_have_written_meanwhile() -> None:
    world = World()
    a, b = world.sign("a"), world.sign("b")
    key = world.sign("t")
    world.append(key, Slot.DONE, a)
    lost = world.story[-1][0]
    world.edit(key, n=1)
    world.append(key, Slot.DONE, b)
    assert world.again(SignatureReply, lost).signature == world.signature(key)
    assert world.signature(key).on_done == (a, b)


def test_what_does_not_exist_is_not_appended() -> None:
    world = World()
    a = world.sign("a")
    key = world.sign("t")
    reply = world.append(key, Slot.ERROR, a, "sig_gone")
    assert reply.missing == ("sig_gone",)
    assert world.signature(key).on_error == ()


# Remove


def test_a_signature_goes_with_the_callbacks_that_only_it_uses() -> None:
    world = World()
    mine, shared = world.sign("mine"), world.sign("shared")
    key = world.sign("t", success=[mine], error=[shared])
    reply = world.remove(key, mine)
    assert reply.signature is not None
    assert reply.signature.key == key
    assert set(world.records) == {shared}
    assert world.again(SignatureReply) == SignatureReply()


@pytest.mark.parametrize("moment", ["queued", "held", "running", "retried", "ended"])
def test_a_signature_may_go_at_any_moment_and_no_run_is_lost(moment: str) -> None:
    world = World()
    told = world.sign("told")
    key = world.sign("t", error=[told], done=[told], options=Options(retries=1))
    run = world.start(key)
    if moment == "held":
        world.suspend(run)
    if moment in ("running", "retried", "ended"):
        world.claim(run)
    if moment == "retried":
        world.take_back(run)
    if moment == "ended":
        world.end(run, failed())
        world.claim(run)
        world.end(run, failed())
    world.remove(key)
    world.resume(run)
    if moment in ("queued", "held", "retried"):
        world.claim(run)
    if moment == "running":
        world.end(run, failed())
        world.claim(run)
        world.end(run, failed())
    assert world.status(run) is RunStatus.FAILED
    assert world.tasks_called(run) == ["told", "told"]


# Hold


def test_holding_a_signature_is_kept_and_repeated_without_a_write() -> None:
    world = World()
    key = world.sign("t")
    world.control_signature(key, Control.SUSPEND)
    before = world.signature(key)
    assert before.control is Control.SUSPEND
    world.control_signature(key, Control.SUSPEND)
    assert world.signature(key) == before


# Processes


def worker(key: str = "wrk_1") -> WorkerRecord:
    return WorkerRecord(key=key, created_at=0.0, name="w", host="h", pid=1, tasks=("t",), routes=("r",))


def test_a_worker_is_there_until_it_withdraws() -> None:
    world = World()
    world.commit(type(None), Announce(records=(worker(),), token="a"))
    kept = world.records["wrk_1"]
    assert (kept.rev, kept.created_at, kept.expires_at) == (1, world.now, None)
    world.commit(type(None), Withdraw(worker="wrk_1", token="b"))
    assert not world.records
    world.again(type(None))


def test_a_worker_may_announce_itself_again() -> None:
    world = World()
    world.commit(type(None), Announce(records=(worker(),), token="a"))
    world.commit(type(None), Announce(records=(replace(worker(), tasks=("t", "u")),), token="b"))
    kept = world.records["wrk_1"]
    assert isinstance(kept, WorkerRecord)
    assert (kept.tasks, kept.rev) == (("t", "u"), 2)


def test_the_name_of_a_task_is_remembered_and_written_once_a_day() -> None:
    world = World()
    name = TaskRecord(key=task_key("t"), created_at=0.0, route="r")
    world.commit(type(None), Announce(records=(name,), token="a"))
    kept = world.records["task:t"]
    assert kept.expires_at == world.now + TASK_NAME_TTL
    world.turn(DAY - 1.0)
    world.commit(type(None), Announce(records=(name,), token="b"))
    assert world.records["task:t"] == kept
    world.turn(2.0)
    world.commit(type(None), Announce(records=(name,), token="c"))
    assert world.records["task:t"].expires_at == world.now + TASK_NAME_TTL


def test_a_task_that_moved_to_another_route_is_written_at_once() -> None:
    world = World()
    name = TaskRecord(key=task_key("t"), created_at=0.0, route="r")
    world.commit(type(None), Announce(records=(name,), token="a"))
    world.commit(type(None), Announce(records=(replace(name, route="s"),), token="b"))
    kept = world.records["task:t"]
    assert isinstance(kept, TaskRecord)
    assert kept.route == "s"


def test_what_says_that_something_was_added_is_kept_as_long_as_a_repetition_may_come() -> None:
    world = World()
    key, a = world.sign("t"), world.sign("a")

    def note_of(ttl: float | None) -> Index:
        token = world.token()
        event = AppendCallbacks(
            key=key, slot=Slot.DONE, callbacks=(a,), note=f"note:{token}", note_ttl=ttl, token=token
        )
        world.commit(SignatureReply, event)
        note = world.records[f"note:{token}"]
        assert note is not None
        assert note.expires_at == world.now + (ttl or 0.0)
        return index_of(note)

    assert note_of(60.0).parent is None
    assert note_of(None).parent == key
