"""Listing and counting records, and the beats of workers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mageflow.core.decision import Decide, Decision
from mageflow.core.records import (
    Control,
    Record,
    RunRecord,
    TaskRecord,
    replace,
)
from mageflow.core.status import RunStatus
from mageflow.errors import StoreError
from mageflow.ports.store import Filter, Store
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor, beat, failed, put

__all__ = ["ListingContract"]

PATIENCE = 30.0


async def pages(store: Store, where: Filter, limit: int) -> list[list[str]]:
    """List everything, page by page."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        page = await store.query(where, limit=limit, cursor=cursor)
        found.append([record.key for record in page.records])
        cursor = page.cursor
        if cursor is None:
            return found


def a_run(key: str, **fields: Any) -> RunRecord:
    given: dict[str, Any] = {
        "created_at": 0.0,
        "signature": "sig_a",
        "task": "t",
        "route": "r",
        "status": RunStatus.QUEUED,
        "due_at": 0.0,
        "done_ttl": 1.0,
    }
    return RunRecord(key=key, **{**given, **fields})


def deleting(record: Record) -> Decide:
    return lambda records, now: Decision(deletes=(record,))


class ListingContract:
    """Of `query`, `count`, `beat`, `describe` and `aclose`."""

    async def test_lists_the_newest_first(self, store: Store, clock: ManualClock) -> None:
        """By the time they were made, then by key."""
        await put(store, *(a_run(f"run_{n}", created_at=float(n // 2)) for n in range(6)))
        assert await pages(store, Filter(), 10) == [["run_5", "run_4", "run_3", "run_2", "run_1", "run_0"]]

    async def test_pages_hold_each_record_once(self, store: Store) -> None:
        """Also where many were made at one time, and where records are made and removed meanwhile."""
        await put(store, *(a_run(f"run_{n:02}", created_at=float(n // 5)) for n in range(23)))
        found = await pages(store, Filter(), 4)
        assert [len(page) for page in found] == [4, 4, 4, 4, 4, 3]
        assert [key for page in found for key in page] == [f"run_{n:02}" for n in reversed(range(23))]
        first = await store.query(Filter(), limit=4)
        await put(store, a_run("run_new", created_at=99.0))
        second = await store.query(Filter(), limit=4, cursor=first.cursor)
        assert [record.key for record in second.records] == found[1]

    async def test_the_last_page_says_so(self, store: Store) -> None:
        """A page that holds the last record has no cursor, even where it is full."""
        await put(store, *(a_run(f"run_{n}") for n in range(4)))
        page = await store.query(Filter(), limit=4)
        assert (len(page.records), page.cursor) == (4, None)
        assert (await store.query(Filter(kind="signature"), limit=4)).records == ()

    async def test_a_strange_cursor_is_refused(self, store: Store) -> None:
        """With the advice what to give."""
        with pytest.raises(StoreError, match="cursor"):
            await store.query(Filter(), limit=4, cursor="nonsense")

    async def test_filters_by_every_field(self, store: Store) -> None:
        """Each alone, and all that are set together."""
        runs = {
            "a": a_run("a", status=RunStatus.RUNNING, worker="w1", root="x", cause="x", due_at=5.0),
            "b": a_run("b", status=RunStatus.SUCCEEDED, worker="w1", task="u", root="x", cause="a"),
            "c": a_run("c", status=RunStatus.FAILED, signature="sig_b"),
            "d": a_run("d", status=RunStatus.SCHEDULED, due_at=10.0, task="u"),
        }
        await put(store, *runs.values())
        expected: list[tuple[dict[str, Any], str]] = [
            ({}, "dcba"),
            ({"statuses": ("failed", "running")}, "ca"),
            ({"statuses": ("queued",)}, ""),
            ({"live": True}, "da"),
            ({"live": False}, "cb"),
            ({"task": "u"}, "db"),
            ({"signature": "sig_b"}, "c"),
            ({"root": "x"}, "ba"),
            ({"cause": "a"}, "b"),
            ({"worker": "w1"}, "a"),
            ({"due_after": 5.0}, "d"),
            ({"due_before": 5.0}, "cba"),
            ({"due_after": 4.0, "due_before": 5.0}, "a"),
            ({"task": "u", "root": "x", "live": False}, "b"),
            ({"kind": "worker"}, ""),
        ]
        actor = Actor(store)
        for where, keys in expected:
            assert "".join(await actor.keys(**where)) == keys, where
            assert await store.count(Filter(**where)) == len(keys), where

    async def test_lists_who_names_a_record(self, store: Store) -> None:
        """Signatures of which it is a callback, as they are now."""
        actor = Actor(store)
        for key in ("sig_log", "sig_mail"):
            await actor.sign(key)
        await actor.sign("sig_a", on_error=("sig_log", "sig_mail"), on_done=("sig_log",))
        await actor.sign("sig_b")
        await actor.append("sig_b", "sig_log")
        assert await actor.keys(kind="signature", names="sig_log") == ["sig_b", "sig_a"]
        assert await actor.keys(kind="signature", names="sig_mail") == ["sig_a"]
        assert await actor.keys(kind="signature", names="sig_a") == []
        record = await actor.record("sig_a")
        assert record is not None
        await store.transact(["sig_a"], deleting(record), token="t")
        assert await actor.keys(kind="signature", names="sig_log") == ["sig_b"]

    async def test_a_listing_follows_the_life_of_a_run(self, store: Store) -> None:
        """A run is listed where it is now, and nowhere else."""
        actor = Actor(store)
        await actor.sign()
        run = await actor.start()
        await self._stands(actor, run.key, "queued", live=True, worker=None)
        await actor.control(run.key, Control.SUSPEND)
        await self._stands(actor, run.key, "suspended", live=True, worker=None)
        await actor.control(run.key, Control.NONE)
        (claimed,) = await actor.claimed()
        await self._stands(actor, run.key, "running", live=True, worker=actor.worker)
        await actor.end(claimed, failed())
        await self._stands(actor, run.key, "failed", live=False, worker=None)

    @staticmethod
    async def _stands(actor: Actor, run: str, status: str, *, live: bool, worker: str | None) -> None:
        for each in RunStatus:
            assert await actor.keys(statuses=(each.value,)) == ([run] if each == status else [])
        assert await actor.keys(live=live) == [run]
        assert await actor.keys(live=not live) == []
        assert await actor.keys(worker=actor.worker) == ([run] if worker else [])

    async def test_beats_count_up(self, store: Store) -> None:
        """For workers that have a record; looking at them moves none."""
        actor = Actor(store)
        await beat(store, "wrk_a")
        assert await store.beats() == {}
        await actor.work("wrk_a")
        await actor.work("wrk_b")
        await beat(store, "wrk_a")
        assert await store.beats() == {"wrk_a": 1, "wrk_b": 0}
        await beat(store, "wrk_b")
        await beat(store, "wrk_a")
        await put(store, TaskRecord(key="task:t", created_at=0.0, route="r"))
        await beat(store, "task:t")
        for _ in range(2):
            assert await store.beats() == {"wrk_a": 2, "wrk_b": 1}

    async def test_a_write_of_a_worker_keeps_its_beat(self, store: Store) -> None:
        """The beat is the store's own; it ends with the record."""
        actor = Actor(store)
        await actor.work("wrk_a")
        await beat(store, "wrk_a")
        record = await actor.record("wrk_a")
        assert record is not None
        await put(store, record)
        assert await store.beats() == {"wrk_a": 1}
        await store.transact(["wrk_a"], deleting(replace(record, rev=2)), token="t")
        assert await store.beats() == {}
        await actor.work("wrk_a")
        assert await store.beats() == {"wrk_a": 0}

    async def test_beats_from_a_thread(self, store: Store) -> None:
        """Beside the event loop: they count even while it stands still, and what was opened for them can be closed."""
        actor = Actor(store)
        await actor.work("wrk_a")
        await actor.work("wrk_b")

        def beat_twice() -> None:
            beater = store.beater("wrk_a")
            beater.beat()
            beater.beat()
            beater.close()
            beater.close()

        thread = threading.Thread(target=beat_twice, daemon=True)
        thread.start()
        thread.join(PATIENCE)  # this holds the event loop up, on purpose
        assert not thread.is_alive(), "a beat waited for the event loop"
        assert await store.beats() == {"wrk_a": 2, "wrk_b": 0}

    async def test_a_beat_from_a_thread_makes_no_worker(self, store: Store) -> None:
        """Of one whose record is gone it leaves no trace."""
        await beat(store, "wrk_a")
        await asyncio.to_thread(store.beater("wrk_b").close)  # one that never beat
        assert await store.beats() == {}

    async def test_describes_itself(self, store: Store) -> None:
        """With a place and facts that a person can read."""
        assert store.location
        assert (await store.describe())["store"]

    async def test_opens_again_after_it_was_closed(self, store: Store) -> None:
        """What was committed stays; closing twice does no harm."""
        actor = Actor(store)
        await actor.sign()
        await store.aclose()
        await store.aclose()
        await actor.start()
        assert len(await actor.claimed()) == 1
