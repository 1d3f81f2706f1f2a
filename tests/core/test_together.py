"""Several events in one commit, and locks: the rules alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mageflow.core.decide import decide
from mageflow.core.decision import MAX_RECORDS, Decision, Need
from mageflow.core.edits import AppendCallbacks, EditKwargs, PutSignature, Slot
from mageflow.core.events import Event, Start, Together
from mageflow.core.notes import AcquireLock, LockReply, ReleaseLock
from mageflow.core.records import Record, RunRecord, SignatureRecord, decode, encode, replace
from mageflow.core.replies import SignatureReply, StartReply, TogetherReply


class Kept:
    """Records, as a store keeps them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.records: dict[str, Record] = {}

    def decide(self, event: Event | Together) -> Decision:
        records: dict[str, Record | None] = {}
        while isinstance(answer := decide(records, event, self.now, 0.0), Need):
            records.update((key, self.records.get(key)) for key in answer.keys)
        return answer

    def commit(self, event: Event | Together) -> Any:
        decision = self.decide(event)
        for record in decision.writes:
            stamped = replace(record, rev=record.rev + 1, token=event.token)
            self.records[record.key] = decode(encode(stamped), record.key)
        return decision.reply


def signature(key: str, *done: str) -> PutSignature:
    record = SignatureRecord(key=key, created_at=0.0, task="t", route="r", on_done=done, active_ttl=10.0, done_ttl=10.0)
    return PutSignature(record=record, token="alone")


def together(*events: Event, runs: Sequence[str | None] = ()) -> Together:
    return Together(events=events, runs=tuple(runs), token="all")


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_each_event_sees_what_those_before_it_did(kept: Kept) -> None:
    reply = kept.commit(
        together(
            signature("sig_a"),
            signature("sig_b", "sig_a"),
            EditKwargs(key="sig_b", put={"x": 1}, token="e"),
            EditKwargs(key="sig_b", put={"y": 2}, token="e"),
            Start(run="run_1", signature="sig_b", token="s"),
        )
    )
    assert isinstance(reply, TogetherReply)
    assert reply.refused is None
    assert [type(each) for each in reply.replies] == [SignatureReply] * 4 + [StartReply]
    assert set(kept.records) == {"sig_a", "sig_b", "run_1"}
    changed = kept.records["sig_b"]
    assert isinstance(changed, SignatureRecord)
    assert changed.kwargs == {"x": 1, "y": 2}
    assert changed.rev == 1


@pytest.mark.parametrize(
    "refused",
    [
        signature("sig_b", "sig_absent"),
        EditKwargs(key="sig_absent", put={"x": 1}, token="e"),
        AppendCallbacks(key="sig_a", slot=Slot.DONE, callbacks=("sig_absent",), note="note:e", token="e"),
        Start(run="run_1", signature="sig_absent", token="s"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_one_refusal_leaves_nothing_of_any(kept: Kept, refused: Event) -> None:
    decision = kept.decide(together(signature("sig_a"), refused, signature("sig_c")))
    assert decision == Decision(reply=decision.reply)
    assert decision.reply.refused == 1
    assert len(decision.reply.replies) == 2


def test_a_start_that_gives_another_run_than_was_told_is_refused(kept: Kept) -> None:
    kept.commit(signature("sig_a"))
    start = Start(run="run_1", signature="sig_a", token="s")
    assert kept.decide(together(start, runs=["run_2"])).reply.refused == 0
    assert kept.decide(together(start, runs=["run_1"])).reply.refused is None


def test_what_was_committed_already_is_not_done_again(kept: Kept) -> None:
    kept.commit(signature("sig_a"))
    event = together(AppendCallbacks(key="sig_a", slot=Slot.DONE, callbacks=("sig_a",), note="note:own", token="own"))
    kept.commit(event)
    again = kept.decide(event)
    assert again == Decision(reply=TogetherReply())


def test_more_than_a_commit_holds_is_refused(kept: Kept) -> None:
    most = [signature(f"sig_{n}") for n in range(MAX_RECORDS)]
    assert kept.decide(together(*most)).reply.refused is None
    decision = kept.decide(together(*most, signature("sig_more")))
    assert decision.reply == TogetherReply(refused=MAX_RECORDS + 1)
    assert not decision.writes


Ask = Callable[..., LockReply]


@pytest.fixture
def ask(kept: Kept) -> Ask:
    def ask(holder: str, *, renew: bool = False) -> LockReply:
        event = AcquireLock(about="sig_a", holder=holder, lease=10.0, renew=renew, token=holder)
        reply: LockReply = kept.commit(event)
        return reply

    return ask


def give_back(kept: Kept, holder: str) -> bool:
    reply: LockReply = kept.commit(ReleaseLock(about="sig_a", holder=holder, token=f"{holder} back"))
    return reply.held


def test_a_lock_goes_to_who_has_waited_longest(kept: Kept, ask: Ask) -> None:
    assert ask("a").held
    assert ask("a").held, "the reply was lost"
    assert ask("b") == LockReply(held=False, wait=10.0)
    assert not ask("c").held
    assert give_back(kept, "a")
    assert give_back(kept, "a"), "the reply was lost"
    assert not ask("c").held, "b is before it"
    assert not ask("a").held
    assert ask("b").held
    assert give_back(kept, "b")
    assert ask("c").held


def test_who_does_not_ask_again_loses_his_place(kept: Kept, ask: Ask) -> None:
    assert ask("a").held
    for holder in ("b", "c"):
        assert not ask(holder).held
    kept.now += 6
    assert not ask("c").held, "and is in the line for longer"
    kept.now += 6
    assert ask("c").held, "a and b are gone"
    assert not ask("a", renew=True).held
    assert not give_back(kept, "a")


def test_a_holder_renews_it_as_long_as_nobody_else_took_it(kept: Kept, ask: Ask) -> None:
    assert not ask("a", renew=True).held
    assert ask("a").held
    kept.now += 30
    assert ask("a", renew=True).held
    kept.now += 9
    assert not ask("b").held


def test_who_leaves_the_line_is_not_waited_for(kept: Kept, ask: Ask) -> None:
    assert ask("a").held
    assert not ask("b").held
    assert not give_back(kept, "b")
    assert give_back(kept, "a")
    assert ask("c").held


def test_a_signature_signed_again_is_the_same(kept: Kept) -> None:
    first = kept.commit(signature("sig_a"))
    kept.now += 5
    again = kept.decide(signature("sig_a"))
    assert again.reply.signature.created_at == first.signature.created_at
    assert again.touches == (("sig_a", kept.now + 10.0),)
    assert not again.writes


def test_what_a_note_says_was_added_is_not_added_again(kept: Kept) -> None:
    kept.commit(signature("sig_a"))
    append = AppendCallbacks(key="sig_a", slot=Slot.DONE, callbacks=("sig_a",), note="note:1", token="1")
    kept.commit(append)
    kept.commit(EditKwargs(key="sig_a", put={"x": 1}, token="other"))
    kept.commit(replace(append, token="2"))
    record = kept.records["sig_a"]
    assert isinstance(record, SignatureRecord)
    assert record.on_done == ("sig_a",)
    assert not [each for each in kept.records.values() if isinstance(each, RunRecord)]
