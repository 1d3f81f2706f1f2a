"""The purge: what has expired goes, and what something still needs stays."""

from __future__ import annotations

from typing import Any

from mageflow.core.decision import Decision
from mageflow.core.edits import KeepCallbacks, PutMembers, RemoveSignature
from mageflow.core.events import Start
from mageflow.core.members import Form, Member, Roster
from mageflow.core.records import (
    Control,
    MembersRecord,
    RunRecord,
    SignatureRecord,
    TaskRecord,
    WorkerRecord,
    replace,
)
from mageflow.core.status import RunStatus
from mageflow.ports.store import Store
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import DAY, Actor, put

__all__ = ["ExpiryContract"]


def signature(key: str, expires_at: float, *callbacks: str) -> SignatureRecord:
    return SignatureRecord(
        key=key,
        created_at=0.0,
        expires_at=expires_at,
        task="t",
        route="r",
        on_error=callbacks,
        active_ttl=1.0,
        done_ttl=1.0,
    )


def live_run(key: str, **fields: Any) -> RunRecord:
    return RunRecord(
        key=key,
        created_at=0.0,
        signature="sig_other",
        task="t",
        route="r",
        status=RunStatus.SUSPENDED,
        due_at=0.0,
        done_ttl=1.0,
        **fields,
    )


class ExpiryContract:
    """Of `purge`."""

    async def left(self, store: Store) -> set[str]:
        """Give the keys of all records."""
        actor = Actor(store)
        return {key for kind in ("run", "signature", "task", "worker") for key in await actor.keys(kind=kind)}

    async def test_removes_what_has_expired(self, store: Store, clock: ManualClock) -> None:
        """Not what expires later or never, and nothing that is live."""
        now = await store.now()
        await put(
            store,
            signature("sig_old", now),
            signature("sig_young", now + 1),
            TaskRecord(key="task_old", created_at=0.0, route="r", expires_at=now - 1),
            TaskRecord(key="task_eternal", created_at=0.0, route="r"),
            WorkerRecord(key="wrk_a", created_at=0.0, name="a", expires_at=now - 1),
            live_run("run_live", expires_at=now - 1),
        )
        assert await store.purge(100) == 2
        assert await self.left(store) == {"sig_young", "task_eternal", "wrk_a", "run_live"}
        assert await store.load(["sig_old"]) == {"sig_old": None}
        assert await store.purge(100) == 0

    async def test_removes_no_more_than_its_limit(self, store: Store) -> None:
        """The longest expired first."""
        now = await store.now()
        await put(store, *(signature(f"sig_{n}", now - n) for n in range(5)))
        assert await store.purge(2) == 2
        assert await self.left(store) == {"sig_0", "sig_1", "sig_2"}
        assert await store.purge(2) == 2
        assert await store.purge(2) == 1

    async def test_what_was_purged_may_be_put_again(self, store: Store) -> None:
        """Nothing remembers it."""
        now = await store.now()
        await put(store, signature("sig_a", now, "sig_b"))
        assert await store.purge(10) == 1
        await put(store, signature("sig_b", now), signature("sig_a", now + 10))
        assert await store.purge(10) == 1
        assert await self.left(store) == {"sig_a"}

    async def test_ended_runs_go_when_their_time_is_over(self, store: Store, clock: ManualClock) -> None:
        """After the signature's `done_ttl`; the signature itself is kept by its own."""
        actor = Actor(store)
        await actor.sign(done_ttl=60.0)
        await actor.start()
        (run,) = await actor.claimed()
        await actor.end(run)
        clock.advance(59.0)
        assert await store.purge(10) == 0
        clock.advance(1.0)
        assert await store.purge(10) == 1
        assert await self.left(store) == {"sig_a"}

    async def test_a_live_run_keeps_its_signature(self, store: Store, clock: ManualClock) -> None:
        """Until it has ended, however long that takes."""
        actor = Actor(store)
        await actor.sign(active_ttl=10.0)
        run = await actor.start()
        await actor.control(run.key, Control.SUSPEND)
        clock.advance(10 * DAY)
        assert await store.purge(10) == 0
        await actor.control(run.key, Control.CANCEL)
        assert await store.purge(10) == 1
        assert await self.left(store) == {run.key}

    async def test_a_live_run_keeps_cause_root_and_lineage(self, store: Store) -> None:
        """And nothing else that came before it."""
        now = await store.now()
        ended = {
            key: RunRecord(
                key=key,
                created_at=0.0,
                expires_at=now - 1,
                signature="sig_gone",
                task="t",
                route="r",
                status=RunStatus.SUCCEEDED,
                due_at=0.0,
                cause=cause,
                root=None if key == "run_root" else "run_root",
                done_ttl=1.0,
            )
            for key, cause in {
                "run_root": None,
                "run_between": "run_root",
                "run_cause": "run_between",
                "run_line": "run_root",
            }.items()
        }
        live = live_run("run_live", cause="run_cause", root="run_root", lineage=("run_root", "run_line"))
        await put(store, *ended.values(), live)
        assert await store.purge(10) == 1
        assert await self.left(store) == {"run_root", "run_cause", "run_line", "run_live"}
        actor = Actor(store)
        await actor.control("run_live", Control.CANCEL)
        assert await store.purge(10) == 3
        assert await self.left(store) == {"run_live"}

    async def test_a_run_that_still_makes_callbacks_is_kept(self, store: Store) -> None:
        """It has ended, and what its end leads to has not been made yet."""
        actor = Actor(store)
        await actor.sign("sig_next")
        await actor.sign("sig_a", on_success=("sig_next",) * 450, done_ttl=1.0)
        await actor.start()
        (run,) = await actor.claimed()
        await actor.end(run)
        assert (await actor.run(run.key)).cursor is not None
        assert await actor.keys(live=True, signature="sig_a") == [run.key]

    async def test_a_kept_signature_keeps_what_it_names(self, store: Store) -> None:
        """To any depth; their expiry moves along with the one that names them."""
        now = await store.now()
        await put(
            store,
            signature("sig_a", now + 50, "sig_b"),
            signature("sig_b", now - 1, "sig_c", "sig_d"),
            signature("sig_c", now - 2),
            signature("sig_d", now + 90),
            signature("sig_x", now - 3, "sig_c"),
        )
        assert await store.purge(10) == 1
        assert await self.left(store) == {"sig_a", "sig_b", "sig_c", "sig_d"}
        found = await store.load(["sig_b", "sig_c", "sig_d"])
        assert [record and record.expires_at for record in found.values()] == [now + 50, now + 50, now + 90]

    async def test_a_moved_expiry_is_what_the_next_decision_sees(self, store: Store) -> None:
        """Whatever the store remembers of the record."""
        now = await store.now()
        await put(store, signature("sig_a", now + 50, "sig_b"), signature("sig_b", now - 1))
        assert await store.purge(10) == 0
        decision = await store.transact(["sig_b"], lambda records, _: Decision(reply=records["sig_b"]), token="t")
        assert decision.reply.expires_at == now + 50

    async def test_a_signature_kept_by_a_live_run_keeps_what_it_names(self, store: Store, clock: ManualClock) -> None:
        """Though it has expired itself: the run's end will need its callbacks."""
        actor = Actor(store)
        await actor.sign("sig_c", active_ttl=5.0)
        await actor.sign("sig_b", active_ttl=5.0, on_success=("sig_c",))
        await actor.sign("sig_a", active_ttl=5.0, on_success=("sig_b",))
        run = await actor.start()
        await actor.control(run.key, Control.SUSPEND)
        clock.advance(DAY)
        assert await store.purge(10) == 0
        await actor.control(run.key, Control.CANCEL)
        assert await store.purge(10) == 3

    async def test_a_live_run_whose_signature_was_removed_keeps_its_callbacks(
        self, store: Store, clock: ManualClock
    ) -> None:
        """And what they name; removing the signature moves their expiry, so that nothing goes in between."""
        actor = Actor(store)
        await actor.sign("sig_c", active_ttl=60.0)
        await actor.sign("sig_b", active_ttl=60.0, on_success=("sig_c",))
        await actor.sign("sig_a", on_success=("sig_b",))
        await actor.start()
        (run,) = await actor.claimed()
        clock.advance(DAY)
        await actor.commit(RemoveSignature(key="sig_a", token="remove"), "sig_a")
        assert await store.purge(10) == 0
        await actor.commit(KeepCallbacks(run=run.key, token="keep"), run.key)
        clock.advance(DAY)
        assert await store.purge(10) == 0
        await actor.end(run)
        (callback,) = await actor.claimed()
        assert (callback.signature, callback.cause) == ("sig_b", run.key)
        await actor.end(callback)
        (last,) = await actor.claimed()
        await actor.end(last)
        clock.advance(DAY)
        assert await store.purge(10) == 5

    async def test_a_member_is_kept_as_long_as_what_it_is_a_member_of(self, store: Store) -> None:
        """Whatever its own expiry says; what is above it goes first, then itself, at the latest with the next purge."""
        now = await store.now()
        ended = {"status": RunStatus.SUCCEEDED, "ended_at": now - 9}
        await put(
            store,
            replace(live_run("run_top", expires_at=now + 10), **ended),
            replace(live_run("run_inner", expires_at=now - 5, parent="run_top"), **ended),
            replace(live_run("run_member", expires_at=now - 5, parent="run_inner"), **ended),
            replace(live_run("run_alone", expires_at=now - 5, parent="run_gone"), **ended),
        )
        assert await store.purge(10) == 1
        assert await self.left(store) == {"run_top", "run_inner", "run_member"}
        await put(store, replace(live_run("run_top", rev=1, expires_at=now - 1), **ended))
        removed = sum([await store.purge(10), await store.purge(10), await store.purge(10)])
        assert (removed, await self.left(store)) == (3, set())

    async def test_a_list_of_members_is_kept_by_its_signature_and_keeps_theirs(
        self, store: Store, clock: ManualClock
    ) -> None:
        """100,000 members are many records, and none of them is refreshed by itself."""
        actor = Actor(store)
        await actor.sign("sig_member", active_ttl=60.0)
        page = MembersRecord(key="sig_a/0", created_at=0.0, owner="sig_a", members=(Member(signature="sig_member"),))
        await actor.commit(PutMembers(records=(page,), active_ttl=60.0, token="members"), "sig_member", page.key)
        await actor.sign("sig_a", form=Form.SWARM, roster=Roster(count=1, window=1), active_ttl=2 * DAY)
        clock.advance(DAY)
        assert await store.purge(10) == 0
        clock.advance(2 * DAY)
        assert await store.purge(10) == 3

    async def test_cycles_of_expired_signatures_go(self, store: Store) -> None:
        """Signatures that keep only each other, or themselves, are kept by nobody."""
        now = await store.now()
        await put(
            store,
            signature("sig_a", now - 1, "sig_b"),
            signature("sig_b", now - 1, "sig_c"),
            signature("sig_c", now - 1, "sig_a"),
            signature("sig_self", now - 1, "sig_self"),
        )
        assert await store.purge(10) == 4

    async def test_cycles_that_something_keeps_stay(self, store: Store) -> None:
        """One that is named from outside keeps the whole round."""
        now = await store.now()
        await put(
            store,
            signature("sig_a", now - 1, "sig_b"),
            signature("sig_b", now - 1, "sig_a"),
            signature("sig_keeper", now + 7, "sig_b"),
        )
        assert await store.purge(10) == 0
        found = await store.load(["sig_a", "sig_b"])
        assert [record and record.expires_at for record in found.values()] == [now + 7, now + 7]

    async def test_what_is_kept_does_not_hide_what_is_not(self, store: Store) -> None:
        """A purge gets past records that expired long ago and are still needed."""
        now = await store.now()
        await put(store, *(signature(f"sig_kept{n}", now - 100) for n in range(20)))
        await put(store, signature("sig_keeper", now + 10, *(f"sig_kept{n}" for n in range(20))))
        await put(store, signature("sig_old", now - 1))
        assert await store.purge(1) == 1
        assert await store.load(["sig_old"]) == {"sig_old": None}

    async def test_a_purged_run_leaves_room_for_its_id(self, store: Store, clock: ManualClock) -> None:
        """An id that was used, as an idempotency key's, is free again after the purge."""
        actor = Actor(store)
        await actor.sign(done_ttl=1.0)
        for n in range(2):
            start = Start(run="run_key", signature="sig_a", token=f"t{n}")
            assert (await actor.commit(start, "run_key", "sig_a")).created
            (run,) = await actor.claimed()
            await actor.end(run)
            clock.advance(1.0)
            assert await store.purge(10) == 1
