"""Several at once, answers that are lost, and workers that come too late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from mageflow.core.events import Start, TakeBack
from mageflow.core.ids import callback_id
from mageflow.core.records import SignatureRecord, replace
from mageflow.core.replies import ClaimReply, Verdict
from mageflow.core.status import RunStatus
from mageflow.errors import StoreUnavailableError
from mageflow.ports.store import Filter, Store
from mageflow.testing.contracts.acting import Actor, LosesReplies, failed, succeeded

__all__ = ["LostReplyContract", "RaceContract"]

T = TypeVar("T")

RACERS = 8


async def insist(act: Callable[[], Awaitable[T]]) -> T:
    """Do it as a caller does: once more where the answer was lost."""
    with pytest.raises(StoreUnavailableError):
        await act()
    return await act()


class LostReplyContract:
    """A commit whose answer was lost is repeated with its token, and has happened once."""

    async def test_a_lost_start_is_one_run(self, store: Store) -> None:
        """The repeated start finds its own run and says that it made it."""
        loses = LosesReplies(store)
        actor = Actor(loses.as_store)
        await actor.sign()
        event = Start(run="run_a", signature="sig_a", token="start")
        loses.lose()
        assert (await insist(lambda: actor.commit(event, "run_a", "sig_a"))).created
        assert len(await actor.keys()) == 1
        assert len(await actor.claimed()) == 1

    async def test_a_lost_claim_is_one_attempt(self, store: Store) -> None:
        """The repeated claim of a delivery is answered as the first was."""
        loses = LosesReplies(store)
        actor = Actor(loses.as_store)
        await actor.sign()
        run = await actor.start()
        loses.lose()
        reply: ClaimReply = await insist(lambda: actor.claim_run(run.key, token="claim"))
        assert reply.verdict is Verdict.CLAIMED
        assert reply.offer is not None
        assert reply.run is not None
        assert reply.run.attempt == 1
        assert (await actor.claim_run(run.key, token="another")).verdict is Verdict.HELD

    async def test_runs_of_a_lost_pull_can_be_found(self, store: Store) -> None:
        """They are listed as held by the worker, carry the pull's token, and a claim with it is answered."""
        loses = LosesReplies(store)
        actor = Actor(loses.as_store)
        await actor.sign()
        started = {(await actor.start()).key for _ in range(3)}
        loses.lose()
        with pytest.raises(StoreUnavailableError):
            await actor.store.claim(["r"], ["t"], 10, actor.claiming("pull"), token="pull")
        held = (await store.query(Filter(worker=actor.worker), limit=10)).records
        assert {record.key for record in held if record.token == "pull"} == started
        replies = [await actor.claim_run(key, token="pull") for key in started]
        assert [reply.verdict for reply in replies] == [Verdict.CLAIMED] * 3

    async def test_a_lost_end_is_one_end(self, store: Store) -> None:
        """The repeated end is accepted, and each callback's run exists once."""
        loses = LosesReplies(store)
        actor = Actor(loses.as_store)
        await actor.sign("sig_next")
        await actor.sign(on_success=("sig_next", "sig_next"))
        await actor.start()
        (run,) = await actor.claimed()
        loses.lose()
        reply = await insist(lambda: actor.end(run, token="end"))
        assert reply.accepted
        callbacks = await actor.keys(cause=run.key)
        assert sorted(callbacks) == sorted(callback_id(run.key, "success", place) for place in (0, 1))
        assert sorted(each.key for each in await actor.claimed()) == sorted(callbacks)

    async def test_a_lost_append_is_one_append(self, store: Store) -> None:
        """The repeated append finds its token, and the callback stands in the list once."""
        loses = LosesReplies(store)
        actor = Actor(loses.as_store)
        await actor.sign("sig_next")
        await actor.sign()
        loses.lose()
        reply = await insist(lambda: actor.append("sig_a", "sig_next", token="append"))
        assert reply.signature is not None
        record = await actor.record("sig_a")
        assert isinstance(record, SignatureRecord)
        assert record.on_success == ("sig_next",)

    async def test_a_lost_put_is_one_signature(self, store: Store) -> None:
        """The repeated put finds the signature that is there."""
        loses = LosesReplies(store)
        actor = Actor(loses.as_store)
        loses.lose()
        record = await insist(lambda: actor.sign("sig_a"))
        assert record.rev == 1
        assert await actor.keys(kind="signature") == ["sig_a"]


class RaceContract:
    """Of several that want the same, one gets it."""

    async def test_one_of_many_claims_wins(self, store: Store, other: Store) -> None:
        """Whoever claims, by pull or by delivery, from one handle or two: one has it, the rest hear so."""
        await Actor(store).sign()
        run = await Actor(store).start()
        actors = [Actor(handle, seed=n, worker=f"wrk_{n}") for n, handle in enumerate([store, other] * (RACERS // 2))]
        pulls = [actor.claimed() for actor in actors]
        claims = [actor.claim_run(run.key) for actor in actors]
        pulled = await asyncio.gather(*pulls)
        delivered = await asyncio.gather(*claims)
        winners = [runs[0].worker for runs in pulled if runs]
        winners += [reply.run.worker for reply in delivered if reply.verdict is Verdict.CLAIMED and reply.run]
        assert len(winners) == 1
        now = await Actor(store).run(run.key)
        assert (now.worker, now.attempt) == (winners[0], 1)

    async def test_pulls_share_the_work(self, store: Store, other: Store) -> None:
        """Fifty runs among eight pullers: each is somebody's, and nobody else's."""
        await Actor(store).sign()
        started = [(await Actor(store, seed=n).start()).key for n in range(50)]
        actors = [Actor(handle, seed=n, worker=f"wrk_{n}") for n, handle in enumerate([store, other] * (RACERS // 2))]
        pulled = await asyncio.gather(*(actor.claimed(10) for actor in actors))
        assert sorted(run.key for runs in pulled for run in runs) == sorted(started)
        assert all(len(runs) <= 10 for runs in pulled)

    async def test_one_of_many_ends_is_recorded(self, store: Store, other: Store) -> None:
        """The first is accepted; its callback is there once, and the others change nothing."""
        actor = Actor(store)
        await actor.sign("sig_next")
        await actor.sign(on_success=("sig_next",), on_error=("sig_next",))
        await actor.start()
        (run,) = await actor.claimed()
        racers = [Actor(handle, seed=n + 1) for n, handle in enumerate([store, other] * (RACERS // 2))]
        replies = await asyncio.gather(
            *(racer.end(run, failed() if n % 2 else succeeded(str(n))) for n, racer in enumerate(racers))
        )
        assert sum(reply.accepted for reply in replies) == 1
        (recorded,) = [reply.run for reply in replies if reply.accepted and reply.run is not None]
        assert (await actor.run(run.key)).status is recorded.status
        assert len(await actor.keys(cause=run.key)) == 1

    async def test_one_of_many_starts_makes_the_run(self, store: Store, other: Store) -> None:
        """Of starts under one id, one says that it created the run."""
        await Actor(store).sign()
        replies = await asyncio.gather(
            *(
                Actor(handle).commit(Start(run="run_one", signature="sig_a", token=f"t{n}"), "run_one", "sig_a")
                for n, handle in enumerate([store, other] * (RACERS // 2))
            )
        )
        assert sum(reply.created for reply in replies) == 1
        assert len(await Actor(store).claimed()) == 1

    async def test_event_loops_share_a_store(self, store: Store) -> None:
        """Loops in other threads use the same object at once."""
        await Actor(store).sign()

        async def starts(seed: int) -> list[str]:
            actor = Actor(store, seed=seed)
            return [(await actor.start()).key for _ in range(10)]

        def thread(seed: int) -> list[str]:
            return asyncio.run(starts(seed))

        threads = [asyncio.to_thread(thread, seed) for seed in range(4)]
        started = [key for keys in await asyncio.gather(*threads) for key in keys]
        assert sorted(run.key for run in await Actor(store).claimed()) == sorted(started)

    async def test_a_commit_is_seen_by_every_later_read(self, store: Store, other: Store) -> None:
        """Of the other handle too: by load, by listing, by count, by decision and by pull."""
        actor, reader = Actor(store), Actor(other, seed=1)
        await actor.sign()
        for n in range(5):
            run = await actor.start()
            assert (await reader.run(run.key)).status is RunStatus.QUEUED
            assert (await reader.keys())[0:1] != []
            assert await other.count(Filter()) == n + 1
            (claimed,) = await reader.claimed()
            assert (await actor.end(claimed)).accepted
            assert (await reader.claim_run(run.key)).verdict is Verdict.ENDED

    async def test_what_one_handle_knows_the_other_may_change(self, store: Store, other: Store) -> None:
        """A decision is made on what is there now, whatever this handle wrote or read last."""
        here, there = Actor(store), Actor(other, seed=1)
        await here.sign()
        for n in range(6):
            actor = (here, there)[n % 2]
            await actor.append("sig_a", "sig_a")
        record = await here.record("sig_a")
        assert isinstance(record, SignatureRecord)
        assert (record.rev, len(record.on_success)) == (7, 6)

    async def test_an_end_of_another_worker_is_refused(self, store: Store) -> None:
        """Only the holder may end a run."""
        actor = Actor(store)
        await actor.sign()
        await actor.start()
        (run,) = await actor.claimed()
        assert not (await actor.end(replace(run, worker="wrk_b"))).accepted
        assert (await actor.run(run.key)).status is RunStatus.RUNNING

    async def test_an_end_of_an_earlier_attempt_is_refused(self, store: Store) -> None:
        """A worker that was declared dead and wakes finds the run another attempt's, though it holds it again."""
        actor = Actor(store)
        await actor.sign()
        await actor.start()
        (first,) = await actor.claimed()
        event = TakeBack(run=first.key, worker=actor.worker, max_losses=5, token="back")
        assert (await actor.commit(event, first.key)).accepted
        (second,) = await actor.claimed()
        assert not (await actor.end(first)).accepted
        assert (await actor.run(first.key)).attempt == second.attempt == 2
        assert (await actor.end(second)).accepted
