"""SQLite is held against the in-memory model: the same random history, and the same answers, records and rows.

`STATEFUL_EXAMPLES=2000` tries that many histories instead of the few of an ordinary run.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import Raw

from mageflow.core.decision import Decide
from mageflow.core.edits import (
    AppendCallbacks,
    EditKwargs,
    KeepCallbacks,
    PutSignature,
    RemoveSignature,
    SetSignatureControl,
    Slot,
)
from mageflow.core.events import (
    Advance,
    Announce,
    Claim,
    End,
    Event,
    Failed,
    HandedBack,
    Lapse,
    Reroute,
    RetryRun,
    SetControl,
    Start,
    Stopped,
    Strand,
    Succeeded,
    Sweep,
    TakeBack,
    Withdraw,
)
from mageflow.core.options import Options
from mageflow.core.records import (
    Control,
    Failure,
    OutboxRow,
    RunRecord,
    SignatureRecord,
    TaskRecord,
    WorkerRecord,
)
from mageflow.core.status import RunStatus
from mageflow.errors import StoreConflictError
from mageflow.ports.store import Filter, Page, Store
from mageflow.stores.memory import MemoryStore
from mageflow.stores.sqlite import SqliteStore
from mageflow.testing.clock import ManualClock
from mageflow.testing.contracts.acting import beat, bind

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "200"))
BEGIN = 1_700_000_000.0
ROUTES = ("r", "s")
TASKS = ("t", "u")

sig_keys = st.sampled_from([f"sig_{n}" for n in range(6)])
workers = st.sampled_from(["wrk_a", "wrk_b"])
controls = st.sampled_from(list(Control))
indexes = st.integers(0, 30)
some_routes = st.lists(st.sampled_from(ROUTES), max_size=2, unique=True)
some_tasks = st.lists(st.sampled_from(TASKS), max_size=2, unique=True)
pauses = st.sampled_from([None, 1.0, 60.0, 4000.0])
outcomes = st.one_of(
    st.just(Succeeded(Raw(b'{"x":[1]}'))),
    st.builds(
        Failed,
        failure=st.just(Failure(type="ValueError", message="no")),
        retry=st.booleans(),
        after=pauses,
    ),
    st.just(Stopped()),
    st.just(HandedBack()),
)
options = st.builds(
    Options,
    delay=pauses,
    retries=st.sampled_from([None, 2]),
    priority=st.sampled_from([None, 1, 2, 3]),
    schedule_timeout=st.sampled_from([None, 100.0]),
    idempotency_window=st.sampled_from([None, None, 30.0, 9000.0]),
)
maybe = st.none()
filters = st.one_of(
    st.builds(Filter, kind=st.sampled_from(["run", "signature", "worker", "task"])),
    st.builds(
        Filter,
        statuses=st.lists(st.sampled_from([status.value for status in RunStatus]), max_size=3).map(tuple),
        live=st.sampled_from([None, True, False]),
        task=st.sampled_from([None, *TASKS]),
        signature=st.one_of(maybe, sig_keys),
        worker=st.one_of(maybe, maybe, workers),
        due_after=st.one_of(maybe, st.floats(BEGIN, BEGIN + 8000)),
        due_before=st.one_of(maybe, st.floats(BEGIN, BEGIN + 8000)),
    ),
    st.builds(Filter, kind=st.just("signature"), names=sig_keys),
)


class SqliteLikeMemory(RuleBasedStateMachine):
    """Two handles on one file, and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(BEGIN)
        self.model = MemoryStore(self.clock)
        self.handles = self.open_handles()
        self.runs: list[str] = []
        self.tokens = 0
        self.turn = 0

    def open_handles(self) -> list[Store]:
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "mageflow.db")
        return [SqliteStore(path, clock=self.clock) for _ in range(2)]

    def remove_store(self) -> None:
        self.folder.cleanup()

    def teardown(self) -> None:
        for handle in self.handles:
            self.loop.run_until_complete(handle.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.remove_store()

    # How everything is done on both

    def wait(self, answer: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(answer)

    def handle(self) -> Store:
        self.turn += 1
        return self.handles[self.turn // 3 % 2]

    def both(self, act: Callable[[Store], Awaitable[Any]]) -> Any:
        async def outcome(store: Store) -> Any:
            try:
                return await act(store)
            except StoreConflictError as error:
                return type(error)

        expected = self.wait(outcome(self.model))
        found = self.wait(outcome(self.handle()))
        assert found == expected
        return found

    def token(self) -> str:
        self.tokens += 1
        return f"token{self.tokens}"

    def commit(self, event: Event, *keys: str) -> Any:
        decision = self.both(lambda store: store.transact(keys, bind(event), token=event.token))
        return None if isinstance(decision, type) else decision.reply

    def run_at(self, index: int) -> str:
        return self.runs[index % len(self.runs)] if self.runs else "run_none"

    def read(self, key: str) -> Any:
        return self.wait(self.model.load([key]))[key]

    def find_runs(self) -> None:
        page = self.wait(self.model.query(Filter(), limit=1000))
        self.runs = sorted(record.key for record in page.records)

    # Signatures

    @initialize()
    def begin(self) -> None:
        for n in range(3):
            self.sign(f"sig_{n}", [f"sig_{n - 1}"] if n else [], [], [], "t", "r", 5000.0, Options())

    @rule(
        key=sig_keys,
        on_success=st.lists(sig_keys, max_size=2),
        on_error=st.lists(sig_keys, max_size=1),
        on_done=st.lists(sig_keys, max_size=1),
        task=st.sampled_from(TASKS),
        route=st.sampled_from(ROUTES),
        ttl=st.sampled_from([10.0, 5000.0]),
        defaults=options,
    )
    def sign(
        self,
        key: str,
        on_success: list[str],
        on_error: list[str],
        on_done: list[str],
        task: str,
        route: str,
        ttl: float,
        defaults: Options,
    ) -> None:
        record = SignatureRecord(
            key=key,
            created_at=0.0,
            task=task,
            route=route,
            on_success=tuple(on_success),
            on_error=tuple(on_error),
            on_done=tuple(on_done),
            options=defaults,
            active_ttl=ttl,
            done_ttl=ttl / 2,
        )
        self.commit(PutSignature(record=record, token=self.token()), key)

    @rule(key=sig_keys, name=st.sampled_from(["a", "b"]), clear=st.booleans())
    def edit(self, key: str, name: str, clear: bool) -> None:
        self.commit(EditKwargs(key=key, put={name: [1, {"ü": None}]}, clear=clear, token=self.token()), key)

    @rule(key=sig_keys, callbacks=st.lists(sig_keys, min_size=1, max_size=3), slot=st.sampled_from(list(Slot)))
    def append(self, key: str, callbacks: list[str], slot: Slot) -> None:
        event = AppendCallbacks(
            key=key, slot=slot, callbacks=tuple(callbacks), note=f"note:{self.token()}", token=self.token()
        )
        for _ in range(1 + len(callbacks) // 3):  # and repeated, as if the answer had been lost
            self.commit(event, key, *callbacks)

    @rule(key=sig_keys, callbacks=st.lists(sig_keys, max_size=1))
    def remove(self, key: str, callbacks: list[str]) -> None:
        self.commit(RemoveSignature(key=key, callbacks=tuple(set(callbacks) - {key}), token=self.token()), key)

    @rule(index=indexes)
    def keep_callbacks(self, index: int) -> None:
        run = self.run_at(index)
        self.commit(KeepCallbacks(run=run, token=self.token()), run)

    @rule(key=sig_keys, control=st.sampled_from([Control.NONE, Control.SUSPEND]))
    def hold(self, key: str, control: Control) -> None:
        self.commit(SetSignatureControl(key=key, control=control, token=self.token()), key)

    # Runs

    @rule(key=sig_keys, given=options, again=st.booleans(), index=indexes)
    def start(self, key: str, given: Options, again: bool, index: int) -> None:
        run = self.run_at(index) if again else f"run_{self.tokens:05}"
        window = f"key:{index % 2}" if given.idempotency_window is not None else None
        event = Start(run=run, signature=key, window=window, sent=Raw(b'{"y":1}'), options=given, token=self.token())
        self.commit(event, run, key)
        self.find_runs()

    @rule(keys=st.lists(sig_keys, min_size=2, max_size=6), ends=st.lists(indexes, max_size=3), worker=workers)
    def together(self, keys: list[str], ends: list[int], worker: str) -> None:
        """Events that wait at the same time are decided in their order, and a pull after them."""
        events: list[tuple[Event, tuple[str, ...]]] = [
            (Start(run=f"run_{self.tokens:05}b{n}", signature=key, token=self.token()), (key,))
            for n, key in enumerate(keys)
        ]
        for index in ends:
            run = self.read(self.run_at(index))
            if isinstance(run, RunRecord):
                end = End(
                    run=run.key,
                    worker=run.worker or "",
                    attempt=run.attempt,
                    outcome=outcomes_at(index),
                    token=self.token(),
                )
                events.append((end, (run.key,)))
        pull = self.token()

        async def one_by_one() -> list[Any]:
            answers = [await self.model.transact(keys, bind(event), token=event.token) for event, keys in events]
            return [*answers, await self.model.claim(ROUTES, TASKS, 3, claiming(worker, pull), token=pull, taken=6)]

        async def at_once(store: Store) -> list[Any]:
            return await asyncio.gather(
                *(store.transact(keys, bind(event), token=event.token) for event, keys in events),
                store.claim(ROUTES, TASKS, 3, claiming(worker, pull), token=pull, taken=6),
            )

        assert self.wait(at_once(self.handle())) == self.wait(one_by_one())
        self.find_runs()

    @rule(
        routes=some_routes, tasks=some_tasks, limit=st.integers(1, 4), worker=workers, taken=st.sampled_from([0, 5, 7])
    )
    def pull(self, routes: list[str], tasks: list[str], limit: int, worker: str, taken: int) -> None:
        token = self.token()
        self.both(lambda store: store.claim(routes, tasks, limit, claiming(worker, token), token=token, taken=taken))
        self.find_runs()

    @rule(index=indexes, worker=workers)
    def deliver(self, index: int, worker: str) -> None:
        run = self.run_at(index)
        self.commit(Claim(run=run, worker=worker, token=self.token()), run)
        self.find_runs()

    @rule(index=indexes, outcome=outcomes, late=st.booleans())
    def end(self, index: int, outcome: Any, late: bool) -> None:
        run = self.read(self.run_at(index))
        if isinstance(run, RunRecord):
            event = End(
                run=run.key,
                worker=run.worker or "",
                attempt=run.attempt - late,
                outcome=outcome,
                message=Raw(b"[]"),
                token=self.token(),
            )
            self.commit(event, run.key)
            self.find_runs()

    @rule(index=indexes, control=controls)
    def control(self, index: int, control: Control) -> None:
        run = self.run_at(index)
        self.commit(SetControl(run=run, control=control, token=self.token()), run)
        self.find_runs()

    @rule(index=indexes)
    def advance(self, index: int) -> None:
        run = self.read(self.run_at(index))
        if not isinstance(run, RunRecord):
            return
        page = self.both(lambda store: store.query(Filter(root=run.root or run.key, live=True), limit=50))
        reached = tuple(record.key for record in page.records)
        self.commit(Advance(run=run.key, token=self.token()), run.key)
        sweep = run.cursor.sweep if run.cursor is not None else 0
        self.commit(Sweep(run=run.key, sweep=sweep, page=reached, last=True, token=self.token()), run.key, *reached)
        self.find_runs()

    @rule(index=indexes, worker=workers)
    def take_back(self, index: int, worker: str) -> None:
        run = self.run_at(index)
        self.commit(TakeBack(run=run, worker=worker, max_losses=1, token=self.token()), run)
        self.find_runs()

    @rule(index=indexes, patience=st.sampled_from([0.0, 100.0]))
    def strand(self, index: int, patience: float) -> None:
        run = self.run_at(index)
        self.commit(Strand(run=run, patience=patience, token=self.token()), run)
        self.find_runs()

    @rule(index=indexes)
    def lapse(self, index: int) -> None:
        run = self.run_at(index)
        self.commit(Lapse(run=run, token=self.token()), run)
        self.find_runs()

    @rule(index=indexes)
    def reroute(self, index: int) -> None:
        run = self.run_at(index)
        self.commit(Reroute(run=run, token=self.token()), run)

    @rule(index=indexes)
    def retry(self, index: int) -> None:
        run = self.run_at(index)
        self.commit(RetryRun(run=run, new=f"{run}r", token=self.token()), run, f"{run}r")
        self.find_runs()

    # Workers, engines, time

    @rule(worker=workers, task=st.sampled_from(TASKS))
    def announce(self, worker: str, task: str) -> None:
        records = (
            WorkerRecord(key=worker, created_at=0.0, name=worker),
            TaskRecord(key=f"task:{task}", created_at=0.0, route="r"),
        )
        self.commit(Announce(records=records, token=self.token()), *(record.key for record in records))

    @rule(worker=workers)
    def withdraw(self, worker: str) -> None:
        self.commit(Withdraw(worker=worker, token=self.token()), worker)

    @rule(worker=workers)
    def beat(self, worker: str) -> None:
        async def act(store: Store) -> Any:
            await beat(store, worker)
            return await store.beats()

        self.both(act)

    @rule(routes=some_routes, limit=st.integers(1, 5))
    def give(self, routes: list[str], limit: int) -> None:
        self.both(lambda store: store.due(routes, limit, redeliver_after=60.0))

    @rule(routes=some_routes, tasks=some_tasks, limit=st.integers(1, 5))
    def strays(self, routes: list[str], tasks: list[str], limit: int) -> None:
        self.both(lambda store: store.strays(routes, tasks, limit))

    @rule(seconds=st.sampled_from([0.5, 30.0, 60.0, 1000.0, 6000.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(limit=st.integers(1, 20))
    def purge(self, limit: int) -> None:
        self.both(lambda store: store.purge(limit))
        self.find_runs()

    @rule(where=filters, limit=st.integers(1, 4))
    def look(self, where: Filter, limit: int) -> None:
        self.both(lambda store: store.count(where))
        cursor: str | None = None
        while True:
            page = self.both(listing(where, limit, cursor))
            cursor = page.cursor
            if cursor is None:
                return

    @invariant()
    def same_everywhere(self) -> None:
        """All records, and all rows, those included whose time has not come."""
        for kind in ("run", "signature", "worker", "task", "key"):
            self.both(listing(Filter(kind=kind), 1000, None))
        now = self.clock.now()
        self.clock.turn_to(now + 1e9)
        self.both(lambda store: store.strays((*ROUTES, "advance"), (), 1000))
        self.clock.turn_to(now)


def claiming(worker: str, token: str) -> Callable[[OutboxRow], tuple[tuple[str, ...], Decide]]:
    return lambda row: ((row.run,), bind(Claim(run=row.run, worker=worker, token=token)))


def listing(where: Filter, limit: int, cursor: str | None) -> Callable[[Store], Awaitable[Page]]:
    return lambda store: store.query(where, limit=limit, cursor=cursor)


def outcomes_at(index: int) -> Any:
    return Succeeded(Raw(b"1")) if index % 2 else Failed(failure=Failure(type="E", message="no"), retry=index % 3 > 0)


SqliteLikeMemory.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(120 + EXAMPLES)
class TestSqliteLikeMemory(SqliteLikeMemory.TestCase):  # type: ignore[misc, valid-type]
    """The machine, as pytest runs it."""
