"""The outbox: what is pulled, what is given to engines, and when it is given again."""

from __future__ import annotations

import logging
from collections.abc import Collection

import pytest

from mageflow.core.decision import Decide, Decision, Records
from mageflow.core.records import Control, OutboxRow
from mageflow.core.replies import ClaimReply, Verdict
from mageflow.core.status import RunStatus
from mageflow.ports.store import OLDEST_EVERY, Store
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor, outbox_row, put, writing

__all__ = ["DeliveryContract", "PullContract"]

HOUR = 3600.0


class PullContract:
    """Of `claim` and `strays`."""

    async def test_a_pull_claims_what_is_due(self, store: Store) -> None:
        """The run is the worker's, with all that it needs to begin, and its row is gone."""
        actor = Actor(store)
        await actor.sign()
        run = await actor.start()
        (reply,) = (await actor.pull()).replies
        assert reply.verdict is Verdict.CLAIMED
        assert reply.run is not None
        assert reply.offer is not None
        assert (reply.run.key, reply.run.worker, reply.run.attempt) == (run.key, actor.worker, 1)
        assert (await actor.run(run.key)).status is RunStatus.RUNNING
        assert (await actor.pull()).replies == ()

    async def test_the_highest_priority_comes_first(self, store: Store) -> None:
        """Then the longest due, then the order in which they were put."""
        actor = Actor(store)
        await actor.sign()
        base = await store.now()
        plan = [("a", 1, 5), ("b", 3, 3), ("c", 1, 9), ("d", 2, 1), ("e", 3, 7), ("f", 1, 9), ("g", 7, 0), ("h", 0, 99)]
        for key, priority, earlier in plan:
            run = await actor.start(run=f"run_{key}")
            row = outbox_row(run.key, due_at=base - earlier, priority=priority)
            await put(store, rows=(row,))
        assert "".join(run.key[-1] for run in await actor.claimed()) == "gebdcfah"

    @staticmethod
    async def _keep_high_work_waiting(actor: Actor, low: int, high: int) -> list[str]:
        """Start low work, and more high work that is due since later; give the low ones' keys, the oldest first."""
        now = await actor.store.now()
        for key, count, priority, earlier in (("low", low, 1, 50.0), ("mid", low, 2, 20.0), ("high", high, 3, 10.0)):
            for n in range(count):
                run = await actor.start(run=f"run_{key}{n}")
                row = outbox_row(run.key, due_at=now - earlier + n / 1000, priority=priority)
                await put(actor.store, rows=(row,))
        return [f"run_low{n}" for n in range(low)]

    async def test_no_priority_starves_another(self, store: Store) -> None:
        """Every eighth row that a pull takes is the longest due, whatever its priority."""
        actor = Actor(store)
        await actor.sign()
        await self._keep_high_work_waiting(actor, 2, 30)
        taken = [run.key.removeprefix("run_") for run in await actor.claimed(20)]
        assert [place for place, key in enumerate(taken) if key.startswith("low")] == [7, 15]
        rest = [run.key.removeprefix("run_") for run in await actor.claimed(20, taken=20)]
        assert (rest[3], rest[11]) == ("mid0", "mid1"), "the share goes on where the last pull ended"
        assert [key for key in taken + rest if key.startswith("high")] == [f"high{n}" for n in range(30)]

    async def test_the_share_of_the_oldest_holds_for_pulls_of_one_row(self, store: Store) -> None:
        """It is counted through all pulls of one caller."""
        actor = Actor(store)
        await actor.sign()
        low = await self._keep_high_work_waiting(actor, 2, 20)
        keys = [run.key for taken in range(2 * OLDEST_EVERY) for run in await actor.claimed(1, taken=taken)]
        assert [keys.index(key) for key in low] == [OLDEST_EVERY - 1, 2 * OLDEST_EVERY - 1]

    async def test_the_oldest_are_taken_from_all_routes_and_tasks(self, store: Store) -> None:
        """That the caller asked for, and from no others."""
        actor = Actor(store)
        now = await store.now()
        rows = [
            outbox_row("run_high", due_at=now - 1, priority=3),
            outbox_row("run_other", due_at=now - 9, task="x"),
            outbox_row("run_elsewhere", due_at=now - 9, route="x"),
            outbox_row("run_old", due_at=now - 5, route="s", priority=2),
            outbox_row("run_late", due_at=now + 5),
        ]
        await actor.sign()
        for row in rows:
            await actor.start(run=row.run)
        await put(store, rows=tuple(rows))
        replies = (await actor.pull(1, routes=["r", "s"], taken=OLDEST_EVERY - 1)).replies
        assert [reply.run and reply.run.key for reply in replies] == ["run_old"]

    async def test_a_replaced_row_takes_its_place_anew(self, store: Store) -> None:
        """Putting a row again is putting it last among its equals."""
        actor = Actor(store)
        await actor.sign()
        for key in ("run_a", "run_b"):
            await actor.start(run=key)
        await put(store, rows=(outbox_row("run_a", due_at=await store.now()),))
        assert [run.key for run in await actor.claimed()] == ["run_b", "run_a"]

    async def test_a_pull_takes_no_more_than_its_limit(self, store: Store) -> None:
        """And the next pull goes on from there."""
        actor = Actor(store)
        await actor.sign()
        keys = [(await actor.start(run=f"run_{n}")).key for n in range(5)]
        assert [run.key for run in await actor.claimed(2)] == keys[:2]
        assert [run.key for run in await actor.claimed(2)] == keys[2:4]
        assert [run.key for run in await actor.claimed(2)] == keys[4:]
        assert (await actor.pull(2)).replies == ()

    async def test_a_pull_takes_only_its_routes_and_tasks(self, store: Store) -> None:
        """So that two services on one store do not take each other's."""
        actor = Actor(store)
        for route in ("r", "s"):
            for task in ("t", "u"):
                await actor.sign(f"sig_{route}{task}", route=route, task=task)
                await actor.start(f"sig_{route}{task}", run=f"run_{route}{task}")
        assert (await actor.pull(routes=[], tasks=["t"])).replies == ()
        assert (await actor.pull(routes=["r"], tasks=[])).replies == ()
        assert [run.key for run in await actor.claimed(routes=["s"], tasks=["u"])] == ["run_su"]
        assert {run.key for run in await actor.claimed(routes=["r", "s"], tasks=["t"])} == {"run_rt", "run_st"}

    async def test_a_pull_finds_its_task_behind_many_of_others(self, store: Store) -> None:
        """However long the backlog of tasks that this worker does not know."""
        actor = Actor(store)
        now = await store.now()
        rows = tuple(outbox_row(f"run_{n}", due_at=now - 5, task=f"other{n % 3}") for n in range(1_500))
        for begin in range(0, 1_500, 500):
            await put(store, rows=rows[begin : begin + 500])
        await actor.sign()
        mine = [(await actor.start(run=f"run_mine{n}")).key for n in range(3)]
        assert [run.key for run in await actor.claimed(2)] == mine[:2]
        assert [run.key for run in await actor.claimed(2)] == mine[2:]

    async def test_a_pull_leaves_what_is_not_due(self, store: Store, clock: ManualClock) -> None:
        """Whatever its priority, until its time has come."""
        actor = Actor(store)
        await actor.sign()
        late = await actor.start(delay=10.0, priority=3)
        soon = await actor.start()
        assert [run.key for run in await actor.claimed()] == [soon.key]
        clock.advance(9.0)
        assert await actor.claimed() == []
        clock.advance(1.0)
        assert [run.key for run in await actor.claimed()] == [late.key]

    async def test_a_pull_tells_when_the_next_row_is_due(self, store: Store) -> None:
        """Of its routes; None where none waits; no later than now where the limit cut it short."""
        actor = Actor(store)
        await actor.sign()
        await actor.sign("sig_s", route="s")
        now = await store.now()
        assert (await actor.pull()).next_due is None
        await actor.start("sig_s", delay=1.0)
        assert (await actor.pull()).next_due is None
        await actor.start(delay=30.0)
        await actor.start(delay=20.0, priority=3)
        assert (await actor.pull()).next_due == now + 20.0
        await actor.start()
        await actor.start()
        cut_short = (await actor.pull(1)).next_due
        assert cut_short is not None
        assert cut_short <= now
        assert (await actor.pull()).next_due == now + 20.0

    async def test_a_pull_replies_for_rows_it_could_not_have(self, store: Store) -> None:
        """Each row that was looked at has its reply, and those without a claim are settled all the same."""
        actor = Actor(store)
        await actor.sign()
        cancelled = await actor.start()
        await actor.control(cancelled.key, Control.CANCEL)
        now = await store.now()
        await put(store, rows=(outbox_row(cancelled.key, due_at=now), outbox_row("run_absent", due_at=now)))
        replies = (await actor.pull()).replies
        assert sorted(reply.verdict for reply in replies) == [Verdict.ABSENT, Verdict.ENDED]
        assert (await actor.pull()).replies == ()

    async def test_a_claim_that_fails_leaves_its_neighbours_alone(
        self, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is said once at ERROR, and its row is out of the way for a while, not lost."""
        actor = Actor(store)
        await actor.sign()
        keys = [(await actor.start(run=f"run_{n}")).key for n in range(3)]

        def decide(row: OutboxRow) -> tuple[Collection[str], Decide]:
            if row.run == keys[0]:
                raise ValueError("cannot be decided")
            return actor.claiming("t")(row)

        with caplog.at_level(logging.ERROR):
            claims = await store.claim(["r"], ["t"], 10, decide, token="t")
            assert [reply.run.key for reply in claims.replies if reply.run is not None] == keys[1:]
            assert (await store.claim(["r"], ["t"], 10, decide, token="t")).replies == ()
            clock.advance(HOUR)
            assert (await store.claim(["r"], ["t"], 10, decide, token="t")).replies == ()
        assert len([record for record in caplog.records if keys[0] in record.getMessage()]) == 1
        clock.advance(HOUR)
        assert [run.key for run in await actor.claimed()] == [keys[0]]

    async def test_an_end_and_the_pull_behind_it_go_together(self, store: Store) -> None:
        """What an end makes due is there for a pull that follows it."""
        actor = Actor(store)
        await actor.sign("sig_next")
        await actor.sign(on_success=("sig_next",))
        await actor.start()
        (run,) = await actor.claimed()
        await actor.end(run)
        (callback,) = await actor.claimed()
        assert callback.cause == run.key

    async def test_strays_are_the_due_rows_of_other_tasks(self, store: Store) -> None:
        """In the order of claims; nothing is changed."""
        now = await store.now()
        rows = (
            outbox_row("known", due_at=now),
            outbox_row("late", due_at=now + 1, task="x"),
            outbox_row("low", due_at=now - 1, task="x"),
            outbox_row("high", due_at=now, task="y", priority=3),
            outbox_row("elsewhere", due_at=now, task="x", route="s"),
        )
        await put(store, rows=rows)
        for _ in range(2):
            assert [row.key for row in await store.strays(["r"], ["t"], 10)] == ["high", "low"]
        assert [row.key for row in await store.strays(["r"], ["t"], 1)] == ["high"]
        assert [row.key for row in await store.strays(["r", "s"], ["t", "y"], 5)] == ["low", "elsewhere"]


def settle(*keys: str) -> Decide:
    """Remove rows, as their claims do."""

    def decide(records: Records, now: float) -> Decision:
        return Decision(settled=keys, reply=ClaimReply(verdict=Verdict.ABSENT))

    return decide


class DeliveryContract:
    """Of `due`: what engines that push are given."""

    @staticmethod
    async def given(store: Store, limit: int = 10, routes: Collection[str] = ("r",)) -> str:
        """Give what the engine is given now, as `key` and the number of its delivery."""
        rows = await store.due(routes, limit, redeliver_after=60.0)
        return " ".join(f"{row.key}{row.deliveries}" for row in rows)

    async def test_due_gives_each_row_once(self, store: Store, clock: ManualClock) -> None:
        """When its time has come, in the order of claims, and not again a moment later."""
        now = await store.now()
        rows = (
            outbox_row("a", due_at=now - 1),
            outbox_row("b", due_at=now, priority=3),
            outbox_row("c", due_at=now + 5),
            outbox_row("d", due_at=now - 2),
            outbox_row("e", due_at=now, route="s"),
        )
        await put(store, rows=rows)
        assert await self.given(store, 2) == "b1 d1"
        assert await self.given(store) == "a1"
        assert await self.given(store) == ""
        clock.advance(5)
        assert await self.given(store, routes=["r", "s"]) == "e1 c1"

    async def test_due_gives_the_oldest_their_share(self, store: Store) -> None:
        """As a pull does; what is counted are the rows that the route was given."""
        now = await store.now()
        high = [outbox_row(f"h{n}-", due_at=now - 1, priority=3) for n in range(12)]
        low = [outbox_row(f"l{n}-", due_at=now - 9 + n) for n in range(3)]
        await put(store, rows=(*high, *low))
        assert await self.given(store, 5) == "h0-1 h1-1 h2-1 h3-1 h4-1"
        assert await self.given(store, 2) == "h5-1 h6-1"
        assert await self.given(store, 2) == "l0-1 h7-1"
        assert await self.given(store) == "h8-1 h9-1 h10-1 h11-1 l1-1 l2-1"

    async def test_given_rows_are_still_claimed(self, store: Store) -> None:
        """In their order, beside those that were never given."""
        actor = Actor(store)
        await actor.sign()
        for n in range(3):
            await actor.start(run=f"run_{n}")
        await store.due(["r"], 2, redeliver_after=60.0)
        await actor.start(run="run_high", priority=2)
        assert [run.key for run in await actor.claimed()] == ["run_high", "run_0", "run_1", "run_2"]
        assert await self.given(store) == ""

    async def test_a_silent_engine_is_given_rows_again(self, store: Store, clock: ManualClock) -> None:
        """After `redeliver_after`, doubling with each delivery, where no row of the route was removed so long."""
        await put(store, rows=(outbox_row("a", due_at=await store.now()),))
        assert await self.given(store) == "a1"
        for delivery, wait in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600), start=2):
            clock.advance(wait - 1)
            assert await self.given(store) == ""
            clock.advance(1)
            assert await self.given(store) == f"a{delivery}"

    async def test_a_backlog_alone_redelivers_nothing(self, store: Store, clock: ManualClock) -> None:
        """Rows that wait in their order behind others are not given again, as long as others are removed."""
        now = await store.now()
        await put(store, rows=tuple(outbox_row(key, due_at=now) for key in "abcdef"))
        assert await self.given(store) == "a1 b1 c1 d1 e1 f1"
        for key in "abcde":
            clock.advance(50)
            await store.transact([], settle(key), token="t")
            assert await self.given(store) == ""
        clock.advance(59)
        assert await self.given(store) == ""
        clock.advance(1)
        assert await self.given(store) == "f2"

    async def test_a_row_that_was_overtaken_is_given_again(self, store: Store, clock: ManualClock) -> None:
        """One that was given later has been removed since: the engine has lost this one, or holds it long."""
        now = await store.now()
        await put(store, rows=tuple(outbox_row(key, due_at=now) for key in "abc"))
        assert await self.given(store) == "a1 b1 c1"
        clock.advance(59)
        await store.transact([], settle("b"), token="t")
        assert await self.given(store) == ""
        clock.advance(1)
        assert await self.given(store) == "a2"
        await store.transact([], settle("c"), token="t")
        clock.advance(60)
        assert await self.given(store) == ""
        clock.advance(60)
        assert await self.given(store) == "a3"

    async def test_routes_are_silent_each_for_itself(self, store: Store, clock: ManualClock) -> None:
        """Progress on one route says nothing of another."""
        now = await store.now()
        await put(store, rows=(outbox_row("a", due_at=now), *(outbox_row(k, due_at=now, route="s") for k in "xy")))
        assert await self.given(store, routes=["r", "s"]) == "a1 x1 y1"
        clock.advance(30)
        await store.transact([], settle("x"), token="t")
        clock.advance(30)
        assert await self.given(store, routes=["r", "s"]) == "a2"
        clock.advance(30)
        assert await self.given(store, routes=["r", "s"]) == "y2"

    async def test_rows_that_no_engine_had_are_no_progress(self, store: Store, clock: ManualClock) -> None:
        """A row removed before it was given says nothing about the engine."""
        now = await store.now()
        await put(store, rows=(outbox_row("a", due_at=now), outbox_row("later", due_at=now + HOUR)))
        assert await self.given(store) == "a1"
        clock.advance(59)
        await store.transact([], settle("later"), token="t")
        clock.advance(1)
        assert await self.given(store) == "a2"

    async def test_a_row_put_again_begins_anew(self, store: Store, clock: ManualClock) -> None:
        """The next attempt of a run is a first delivery."""
        now = await store.now()
        await put(store, rows=(outbox_row("a", due_at=now),))
        assert await self.given(store) == "a1"
        await store.transact([], writing(rows=(outbox_row("a", due_at=now + 5),)), token="t")
        assert await self.given(store) == ""
        clock.advance(5)
        assert await self.given(store) == "a1"

    async def test_two_handles_are_not_given_the_same_row(self, store: Store, other: Store) -> None:
        """Two relays on one store submit each row once."""
        now = await store.now()
        await put(store, rows=tuple(outbox_row(f"k{n}", due_at=now) for n in range(20)))
        first = await store.due(["r"], 12, redeliver_after=60.0)
        second = await other.due(["r"], 12, redeliver_after=60.0)
        assert sorted(row.key for row in first + second) == sorted(f"k{n}" for n in range(20))
