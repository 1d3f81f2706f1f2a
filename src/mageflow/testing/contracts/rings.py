"""Who is told of changes. Rings may be spurious, so what is held here is that they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mageflow.core.records import Record, RunRecord
from mageflow.core.status import RunStatus
from mageflow.ports.store import Store
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import Actor

__all__ = ["RingContract"]

PATIENCE = 30.0


class Bell:
    """Notes what rang, and lets a test wait for it."""

    def __init__(self) -> None:
        self.rung: list[Record | None] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    def ring(self, record: Record | None = None) -> None:
        self.rung.append(record)
        self.loop = asyncio.get_running_loop()
        self._changed.set()

    async def until(self, arrived: Callable[[list[Record | None]], bool]) -> None:
        """Wait until what has rung is enough."""
        async with asyncio.timeout(PATIENCE):
            while not arrived(self.rung):
                self._changed.clear()
                await self._changed.wait()


def has(status: RunStatus) -> Callable[[list[Record | None]], bool]:
    """Whether a run in this status rang, or a change whose record is not known."""
    return lambda rung: any(
        record is None or (isinstance(record, RunRecord) and record.status is status) for record in rung
    )


def has_all(keys: set[str]) -> Callable[[list[Record | None]], bool]:
    """Whether all of these rang, or a change whose record is not known."""
    return lambda rung: None in rung or {record.key for record in rung if record is not None} >= keys


class RingContract:
    """Of `watch`, `watch_tree` and `watch_route`."""

    async def test_a_watch_rings_at_each_change(self, store: Store) -> None:
        """In the watcher's loop, with the record as committed, where the store knows it."""
        actor = Actor(store)
        await actor.sign()
        bell = Bell()
        end = store.watch(["run_a", "run_b"], bell.ring)
        await actor.start(run="run_a")
        await bell.until(has(RunStatus.QUEUED))
        (run,) = await actor.claimed()
        await bell.until(has(RunStatus.RUNNING))
        await actor.end(run)
        await bell.until(has(RunStatus.SUCCEEDED))
        ended = await actor.run("run_a")
        await bell.until(lambda rung: rung[-1] in (None, ended))  # a ring may be spurious, and the next ones late
        end()
        assert bell.loop is asyncio.get_running_loop()

    async def test_a_watch_rings_at_a_removal(self, store: Store, clock: ManualClock) -> None:
        """With None."""
        actor = Actor(store)
        await actor.sign()
        bell = Bell()
        end = store.watch(["sig_a"], bell.ring)
        clock.advance(1e6)
        assert await store.purge(10) == 1
        await bell.until(lambda rung: None in rung)
        end()

    async def test_a_watch_that_ended_rings_no_more(self, store: Store) -> None:
        """However late a ring was on its way; ending twice does no harm."""
        actor = Actor(store)
        await actor.sign()
        silent, bell = Bell(), Bell()
        end = store.watch(["run_a"], silent.ring)
        end_other = store.watch(["run_a"], bell.ring)
        end()
        end()
        await actor.start(run="run_a")
        await bell.until(has(RunStatus.QUEUED))
        end_other()
        assert silent.rung == []

    async def test_a_tree_rings_at_changes_of_its_runs(self, store: Store) -> None:
        """Of what the root's end made, and of what that made."""
        actor = Actor(store)
        await actor.sign("sig_c")
        await actor.sign("sig_b", on_success=("sig_c",))
        await actor.sign("sig_a", on_success=("sig_b",))
        root = await actor.start()
        bell = Bell()
        end = store.watch_tree(root.key, bell.ring)
        for rounds in range(3):
            (run,) = await actor.claimed()
            await actor.end(run)
            made = set(await actor.keys(cause=run.key))
            await bell.until(has_all(made))
            assert len(made) == (rounds < 2)
        end()

    async def test_a_route_rings_when_rows_are_put(self, store: Store) -> None:
        """So that a worker that has nothing to do learns of work at once."""
        actor = Actor(store)
        await actor.sign()
        bell = Bell()
        end = store.watch_route("r", bell.ring)
        await actor.start()
        await bell.until(lambda rung: len(rung) > 0)
        end()
        bell.rung.clear()
        await actor.start()
        assert bell.rung == []

    async def test_each_watcher_is_rung_in_its_own_loop(self, store: Store) -> None:
        """A watcher in another thread is rung there."""
        actor = Actor(store)
        await actor.sign()
        watching = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def watcher() -> bool:
            bell = Bell()
            end = store.watch(["run_a"], bell.ring)
            loop.call_soon_threadsafe(watching.set)
            await bell.until(has(RunStatus.QUEUED))
            end()
            return bell.loop is asyncio.get_running_loop()

        thread = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(watcher())))
        await watching.wait()
        await actor.start(run="run_a")
        assert await thread
