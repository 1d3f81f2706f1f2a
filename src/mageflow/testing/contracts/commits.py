"""One commit: all or nothing, on the revisions it was decided on, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from mageflow.core.decision import Decision, Need, Records
from mageflow.core.events import Succeeded
from mageflow.core.records import (
    Record,
    RunRecord,
    SignatureRecord,
    TaskRecord,
    replace,
)
from mageflow.core.status import RunStatus
from mageflow.errors import StoreConflictError
from mageflow.ports.store import Store
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import DAY, Actor, outbox_row, put, writing

__all__ = ["CommitContract"]


class BodyError(Exception):
    """What a `decide` raises in these tests."""


def task(key: str, *, rev: int = 0, route: str = "r", expires_at: float | None = None) -> TaskRecord:
    return TaskRecord(key=key, rev=rev, created_at=1.0, route=route, expires_at=expires_at)


class CommitContract:
    """Of `load` and `transact`."""

    async def test_loads_none_for_what_is_not_there(self, store: Store) -> None:
        """A key that the store does not have is None; no keys are no records."""
        assert await store.load(["run_nowhere"]) == {"run_nowhere": None}
        assert await store.load([]) == {}

    async def test_gives_back_what_was_written(self, store: Store) -> None:
        """Every field of every kind of record survives, with its revision and token."""
        run = RunRecord(
            key="run_a",
            created_at=1.5,
            signature="sig_a",
            task="t",
            route="r",
            status=RunStatus.RUNNING,
            due_at=2.25,
            sent=Raw(b'{"a":[1,2.5,null]}'),
            message=Raw(b"null"),
            worker="wrk_a",
            attempt=2,
            lineage=("run_x", "run_y"),
            done_ttl=5.0,
        )
        signature = SignatureRecord(
            key="sig_a",
            created_at=1.0,
            expires_at=9e9,
            task="t",
            route="r",
            kwargs={"x": {"y": [1, None, "z"]}},
            on_success=("sig_a", "sig_b"),
            active_ttl=1.0,
            done_ttl=1.0,
        )
        await put(store, run, signature, task("task:t"), token="first")
        found = await store.load(["run_a", "sig_a", "task:t"])
        assert found == {
            "run_a": replace(run, rev=1, token="first"),
            "sig_a": replace(signature, rev=1, token="first"),
            "task:t": replace(task("task:t"), rev=1, token="first"),
        }

    async def test_shares_nothing_between_readers(self, store: Store) -> None:
        """What one reader does to the values of a record is not seen by the next."""
        actor = Actor(store)
        await actor.sign(kwargs={"list": [1]})
        first = await actor.record("sig_a")
        assert isinstance(first, SignatureRecord)
        first.kwargs["list"].append(2)
        second = await actor.record("sig_a")
        assert isinstance(second, SignatureRecord)
        assert second.kwargs == {"list": [1]}

    async def test_decides_at_the_stores_time(self, store: Store, clock: ManualClock) -> None:
        """`now` is the store's, the same for every call about one event."""
        times: list[float] = []

        def decide(records: Records, now: float) -> Decision | Need:
            times.append(now)
            return Need(("more",)) if "more" not in records else Decision()

        await store.transact([], decide, token="t")
        assert times == [await store.now()] * 2 == [clock.now()] * 2

    async def test_loads_what_is_needed_too(self, store: Store) -> None:
        """`Need` brings more records; the next call has all of them, and so on to any depth."""
        await put(store, task("a"), task("b"), task("c"))
        calls: list[list[str]] = []

        def decide(records: Records, now: float) -> Decision | Need:
            calls.append(sorted(records))
            wanted = {1: ("b", "x"), 3: ("c",)}.get(len(records))
            return Need(wanted) if wanted else Decision(reply=dict(records))

        decision = await store.transact(["a"], decide, token="t")
        assert calls == [["a"], ["a", "b", "x"], ["a", "b", "c", "x"]]
        assert {key for key, record in decision.reply.items() if record is None} == {"x"}

    async def test_returns_the_decision_as_decided(self, store: Store) -> None:
        """The returned decision is the committed one; the store's records are one revision on."""
        decision = await store.transact([], writing(task("a"), reply="hello"), token="t")
        assert decision.reply == "hello"
        assert decision.writes == (task("a"),)
        assert (await store.load(["a"]))["a"] == replace(task("a"), rev=1, token="t")

    async def test_a_decide_that_raises_writes_nothing(self, store: Store) -> None:
        """Its exception reaches the caller as it is, and the store goes on."""

        def decide(records: Records, now: float) -> Decision:
            raise BodyError("on purpose")

        with pytest.raises(BodyError, match="on purpose"):
            await store.transact(["a"], decide, token="t")
        await put(store, task("a"))
        assert (await store.load(["a"]))["a"] is not None

    async def test_a_decide_that_raises_leaves_its_neighbours_alone(self, store: Store) -> None:
        """Of a hundred commits at once, those that can be decided are committed."""

        def failing(records: Records, now: float) -> Decision:
            raise BodyError

        outcomes = await asyncio.gather(
            *(
                store.transact([f"k{n}"], failing if n % 3 == 0 else writing(task(f"k{n}")), token=f"t{n}")
                for n in range(100)
            ),
            return_exceptions=True,
        )
        assert [isinstance(outcome, BodyError) for outcome in outcomes] == [n % 3 == 0 for n in range(100)]
        found = await store.load([f"k{n}" for n in range(100)])
        assert [found[f"k{n}"] is None for n in range(100)] == [n % 3 == 0 for n in range(100)]

    async def test_a_commit_that_conflicts_writes_none_of_it(self, store: Store) -> None:
        """Records, deletes, touches and rows of a refused decision leave no trace."""
        await put(
            store, task("a"), task("gone"), task("touched", expires_at=5.0), rows=(outbox_row("old", due_at=0.0),)
        )
        decide = writing(
            task("a", rev=7),
            task("new"),
            deletes=(task("gone", rev=1),),
            touches=(("touched", 50.0),),
            settled=("old",),
            rows=(outbox_row("fresh", due_at=0.0),),
        )
        with pytest.raises(StoreConflictError):
            await store.transact(["a"], decide, token="t")
        found = await store.load(["a", "new", "gone", "touched"])
        assert {key: record and (record.rev, record.expires_at) for key, record in found.items()} == {
            "a": (1, None),
            "new": None,
            "gone": (1, None),
            "touched": (1, 5.0),
        }
        assert [row.key for row in await store.strays(["r"], [], 10)] == ["old"]

    async def test_decides_again_on_another_revision(self, store: Store) -> None:
        """A write of a revision that is not the store's is decided again, and then committed."""
        await put(store, task("a"))
        calls = 0

        def decide(records: Records, now: float) -> Decision:
            nonlocal calls
            calls += 1
            record = records["a"]
            assert record is not None
            return Decision(writes=(replace(record, rev=record.rev + (calls == 1), expires_at=8.0),))

        await store.transact(["a"], decide, token="t")
        assert calls == 2
        assert (await store.load(["a"]))["a"] == replace(task("a", rev=2, expires_at=8.0), token="t")

    async def test_gives_up_where_revisions_never_fit(self, store: Store) -> None:
        """`StoreConflictError`, not an endless loop."""
        with pytest.raises(StoreConflictError):
            await store.transact([], writing(task("a", rev=3)), token="t")
        assert await store.load(["a"]) == {"a": None}

    async def test_puts_only_what_is_absent(self, store: Store) -> None:
        """A revision of 0 means that the record must not exist, whether or not it was loaded."""
        await put(store, task("a", route="first"))
        for keys in (["a"], []):
            with pytest.raises(StoreConflictError):
                await store.transact(keys, writing(task("a", route="second")), token="t")
        assert (await store.load(["a"]))["a"] == TaskRecord(key="a", rev=1, token="put", created_at=1.0, route="first")

    async def test_puts_again_what_was_removed(self, store: Store) -> None:
        """After its removal a record may be put anew, and begins with its first revision."""
        await put(store, task("a"))
        await store.transact(["a"], writing(deletes=(task("a", rev=1),)), token="t")
        assert await store.load(["a"]) == {"a": None}
        await put(store, task("a", route="again"), token="u")
        assert (await store.load(["a"]))["a"] == TaskRecord(key="a", rev=1, token="u", created_at=1.0, route="again")

    async def test_changes_every_field(self, store: Store) -> None:
        """A write replaces the record, the fields that never change for a run included."""
        await put(store, task("a"))
        changed = TaskRecord(key="a", rev=1, created_at=77.0, route="elsewhere", expires_at=5.0)
        await store.transact(["a"], writing(changed), token="t")
        assert (await store.load(["a"]))["a"] == replace(changed, rev=2, token="t")

    async def test_deletes_only_the_revision_that_was_loaded(self, store: Store) -> None:
        """A record that has changed since is not removed."""
        await put(store, task("a"))
        with pytest.raises(StoreConflictError):
            await store.transact(["a"], writing(deletes=(task("a", rev=2),)), token="t")
        assert (await store.load(["a"]))["a"] is not None

    async def test_touches_make_an_expiry_later_and_never_earlier(self, store: Store) -> None:
        """No revision is checked or changed; a record without an expiry, or none at all, stays so."""
        await put(store, task("a", expires_at=100.0), task("eternal"))
        for moment in (200.0, 150.0):
            touches = (("a", moment), ("eternal", moment), ("nowhere", moment))
            await store.transact([], writing(touches=touches), token="t")
        found = await store.load(["a", "eternal", "nowhere"])
        assert found == {
            "a": TaskRecord(key="a", rev=1, token="put", created_at=1.0, route="r", expires_at=200.0),
            "eternal": TaskRecord(key="eternal", rev=1, token="put", created_at=1.0, route="r"),
            "nowhere": None,
        }

    async def test_a_touched_expiry_is_what_the_next_decision_sees(self, store: Store) -> None:
        """So that a signature started a thousand times is not touched a thousand times."""
        await put(store, task("a", expires_at=100.0))
        seen: list[Record | None] = []

        def decide(records: Records, now: float) -> Decision:
            seen.append(records["a"])
            return Decision()

        await store.transact(["a"], decide, token="t")
        await store.transact([], writing(touches=(("a", 300.0),)), token="t")
        await store.transact(["a"], decide, token="t")
        assert [record.expires_at for record in seen if record is not None] == [100.0, 300.0]

    async def test_settles_before_it_puts(self, store: Store) -> None:
        """A row that is settled and put in one commit is there afterwards; one of the same key is replaced."""
        await put(store, rows=(outbox_row("a", due_at=1.0),))
        await store.transact([], writing(settled=("a",), rows=(outbox_row("a", due_at=2.0),)), token="t")
        await store.transact([], writing(settled=("nowhere",), rows=(outbox_row("b", due_at=3.0),)), token="t")
        await store.transact([], writing(rows=(outbox_row("b", due_at=4.0),)), token="t")
        assert [(row.key, row.due_at) for row in await store.strays(["r"], [], 10)] == [("a", 2.0), ("b", 4.0)]

    async def test_events_in_one_batch_see_each_other(self, store: Store) -> None:
        """Fifty increments at once are fifty increments."""
        await put(store, TaskRecord(key="a", created_at=0.0, route="r"))

        def increment(records: Records, now: float) -> Decision:
            record = records["a"]
            assert record is not None
            return Decision(writes=(replace(record, created_at=record.created_at + 1),))

        await asyncio.gather(*(store.transact(["a"], increment, token=f"t{n}") for n in range(50)))
        record = (await store.load(["a"]))["a"]
        assert record is not None
        assert (record.rev, record.created_at) == (51, 50.0)

    async def test_keeps_large_records(self, store: Store) -> None:
        """A result of 5 MB goes in and comes out, beside small ones."""
        actor = Actor(store)
        await actor.sign()
        await actor.start()
        (run,) = await actor.claimed()
        large = "x" * 5_000_000
        await asyncio.gather(actor.end(run, outcome=_result(large)), put(store, task("small")))
        ended = await actor.run(run.key)
        assert ended.result is not None
        assert len(bytes(ended.result)) == len(large) + 2

    async def test_loads_and_writes_many_records_at_once(self, store: Store) -> None:
        """A thousand keys in one load, five hundred records in one commit."""
        keys = [f"k{n}" for n in range(1_000)]
        for begin in (0, 500):
            await put(store, *(task(key) for key in keys[begin : begin + 500]))
        found = await store.load([*keys, "nowhere"])
        assert [key for key, record in found.items() if record is None] == ["nowhere"]
        assert len(found) == 1_001

    @pytest.mark.parametrize("text", ["grüße", "日本", "👩‍🚀", "a\x00b", "'; --", 'q"\\', "new\nline", "\x7f\u2028"])
    async def test_keeps_any_text(self, store: Store, text: str) -> None:
        """In keys, names of tasks and routes, and values: every script, NUL and quotes."""
        actor = Actor(store)
        key = f"sig_{text}"
        await actor.sign(key, task=text, route=text, kwargs={text: text})
        run = await actor.start(key, run=f"run_{text}")
        assert await actor.keys(task=text, signature=key) == [run.key]
        (claimed,) = await actor.claimed(routes=[text], tasks=[text])
        assert claimed.key == f"run_{text}"
        signature = await actor.record(key)
        assert isinstance(signature, SignatureRecord)
        assert signature.kwargs == {text: text}
        assert (signature.expires_at or 0.0) - await store.now() == DAY


def _result(text: str) -> Any:
    return Succeeded(Raw(b'"' + text.encode() + b'"'))
