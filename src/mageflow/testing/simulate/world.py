"""One simulation: some processes, a storm, a calm, and what must hold then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from unittest.mock import patch

from mageflow.config import MageflowConfig
from mageflow.core import composite, flow, lifecycle
from mageflow.engines.local import LocalEngine
from mageflow.errors import MageflowError
from mageflow.ports.clock import Clock
from mageflow.ports.engine import Engine
from mageflow.runtime import advance, recovery
from mageflow.runtime.execute import Executor
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.recovery import Patience
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.worker import Worker, WorkerSettings
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import SeededEntropy
from mageflow.testing.simulate.auditor import Auditor
from mageflow.testing.simulate.customer import Customer, Orders
from mageflow.testing.simulate.faulty import FaultyStore, VirtualHeart
from mageflow.testing.simulate.hostile import Broker, HostileEngine
from mageflow.testing.simulate.ledger import Ledger
from mageflow.testing.simulate.loop import Standstill, VirtualClock, VirtualLoop
from mageflow.testing.simulate.plans import TASKS, make_registry
from mageflow.testing.simulate.process import Process, Processes
from mageflow.testing.simulate.weather import CALM, History, storm

__all__ = ["LEASE", "Outcome", "World", "live_through", "simulate"]

LEASE = 3.0
_PATIENCE_IN_CALM = 400.0
"""Virtual seconds in which all must end: redelivery doubles its pause, and a commit is repeated for 30 s."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to, where nothing was violated."""

    seed: int
    digest: str
    """The same for the same seed and the same code, in any process."""
    counts: Counter[str]
    seconds: float
    """How much virtual time passed."""
    history: str


def simulate(seed: int) -> Outcome:
    """Run one simulation.

    Raises:
        SimulationFailed: an invariant did not hold.
    """
    loop = VirtualLoop()
    return live_through(World(seed, loop), loop)


def live_through(world: World, loop: VirtualLoop) -> Outcome:
    """Live through a world on its loop, and close the loop.

    Raises:
        SimulationFailed: an invariant did not hold.
    """
    with _quiet(), _small_commits():
        try:
            loop.run_until_complete(world.run())
        except Standstill as error:
            world.history.fail("time goes on", str(error))
        finally:
            world.shut()
    history = world.history
    if history.failure is not None:
        raise history.failure
    return Outcome(history.seed, history.digest(), history.counts, loop.time(), history.text())


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep the log empty: what is an alarm elsewhere is the normal case here."""
    logger = logging.getLogger("mageflow")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _small_commits() -> Generator[None]:
    """Let a few records fill a commit or a page, so that every simulation has continuations."""
    with (
        patch.dict(flow.finish.__kwdefaults__, at_once=2),
        patch.dict(flow.fire.__kwdefaults__, at_once=2),
        patch.object(composite, "MEMBERS_AT_ONCE", 3),
        patch.object(lifecycle, "CALLBACKS_AT_ONCE", 2),
        patch.object(lifecycle, "_CALLBACKS_IN_SWEEP", 1),
        patch.object(advance, "SWEEP_PAGE", 3),
        patch.object(recovery, "_PAGE", 3),
    ):
        yield


class _Store(MemoryStore):
    """Tells the ledger what the purge takes."""

    def __init__(self, clock: Clock, ledger: Ledger) -> None:
        super().__init__(clock)
        self._ledger = ledger

    def _purge(self, limit: int, now: float) -> list[str]:
        removed = super()._purge(limit, now)
        self._ledger.purge(removed)
        return removed


class World:
    """One simulation, from its seed on."""

    tasks: Iterable[str] = tuple(TASKS)
    """The names of the tasks that there are."""
    fewest = 3
    """With how many workers no misfortune befalls anybody."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.loop = loop
        self.rng = rng = random.Random(seed)
        self.history = History(seed, loop.time)
        self.faults = storm(rng)
        self.among = Processes(loop, rng, self.faults, self.history)
        clock = VirtualClock(loop)
        self.entropy = SeededEntropy(rng.getrandbits(64), clock)
        self.ledger = Ledger(self.among, clock, LEASE)
        self.store = _Store(clock, self.ledger)
        self.auditor = Auditor(self.ledger)
        self.broker = Broker(self.among, self.auditor, tuple(self.tasks)) if rng.random() < 0.5 else None
        self.failed: Counter[str] = Counter()
        self.orders = Orders(rng)
        self.workers: dict[Process, Worker] = {}
        self.knows_all: dict[Process, bool] = {}
        self.customers: dict[Process, asyncio.Task[None]] = {}
        self.patience = Patience(lease=LEASE, unknown_task_after=rng.choice((4.0, 1e6)), max_losses=rng.choice((1, 3)))
        loop.set_exception_handler(lambda _, context: None)  # what breaks is seen when its task ends

    async def run(self) -> None:
        """Live through all of it, or to the first violation."""
        failed = self.loop.create_future()
        self.history.failed = lambda: failed.set_result(None)
        life = asyncio.create_task(self._live())
        await asyncio.wait((life, failed), return_when=asyncio.FIRST_COMPLETED)
        if self.history.failure is None:
            life.result()

    def shut(self) -> None:
        """End every task that is left."""
        for process in self.among.all:
            process.end()
        for _ in range(10):
            left = asyncio.all_tasks(self.loop)
            if not left:
                break
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left, timeout=5.0))
        self.loop.close()

    async def _live(self) -> None:
        rng = self.rng
        until = rng.uniform(10.0, 30.0)
        for _ in range(rng.randint(2, 4)):
            self._start_worker()
        self._start_customer(until)
        while self.loop.time() < until:
            await asyncio.sleep(min(rng.expovariate(1 / self.faults.trouble_every), 3.0))
            self._trouble(until)
        self._end_storm()
        await self._calm()

    def _end_storm(self) -> None:
        self.among.faults = CALM
        self.among.end_outage()
        for process in self.among.all:
            process.cut_until = min(process.cut_until, self.loop.time())
            process.thaw()

    # Processes

    def _kernel(self, process: Process, names: list[str]) -> Kernel:
        store = FaultyStore(self.store, process, self.among, self.auditor)
        engine: Engine = HostileEngine(self.broker, process) if self.broker is not None else LocalEngine()
        registry = self._registry(names, process)
        return Kernel(store, engine, registry, MageflowConfig(), self.entropy)

    def _registry(self, names: Iterable[str], process: Process) -> TaskRegistry:
        return make_registry(names, process, self.auditor, self.failed)

    def _start_worker(self, *, knows_all: bool = False) -> Process:
        rng = self.rng
        names = list(self.tasks)
        if not knows_all and rng.random() < 0.4:
            names = sorted(rng.sample(names, rng.randint(1, len(names) - 1)))
        process = self.among.start(f"worker{len(self.among.all)}")
        kernel = self._kernel(process, names)
        executor = Executor(kernel.tx, kernel.registry, client=None, load_signature=kernel.signature, threads=1)
        settings = WorkerSettings(
            name=process.name,
            concurrency=rng.choice((1, 3, 20)),
            grace=rng.choice((0.5, 5.0)),
            patience=self.patience,
            redeliver_after=3.0,
            purge_every=2.0,
        )
        self.knows_all[process] = names == list(self.tasks)
        assert isinstance(kernel.store, FaultyStore)
        heart = VirtualHeart(kernel.store, every=settings.beat)
        worker = Worker(kernel.tx, kernel.registry, kernel.engine, executor, settings, heart)
        self.workers[process] = worker
        self.history.count(process.name, "worker", f"knows {', '.join(names)}")
        process.spawn(self._begin(process, worker))
        return process

    async def _begin(self, process: Process, worker: Worker) -> None:
        try:
            await worker.start()
            process.serving = True
        except MageflowError:
            process.die("before it began")

    def _start_customer(self, until: float) -> None:
        process = self.among.start(f"customer{len(self.among.all)}")
        kernel = self._kernel(process, list(TASKS))
        customer = Customer(kernel, process, self.ledger, self.history, self.rng, self.orders)
        self.customers[process] = process.spawn(customer.shop(until, self.rng.choice((0.1, 0.4))))

    async def _leave(self, process: Process, worker: Worker, *, drain: bool) -> None:
        process.leaving = True
        self.history.count(process.name, "leaves")
        try:
            await worker.stop(drain=drain)
        except MageflowError:
            process.die("on its way out")
        else:
            self.history.tell(process.name, "is gone")
            process.end()

    # The storm

    def _trouble(self, until: float) -> None:
        rng = self.rng
        working = [process for process in self.among.living() if process in self.workers and not process.leaving]
        if not any(process.alive for process in self.customers):
            self._start_customer(until)
        if len(working) < self.fewest:
            self._start_worker()
            return
        process = rng.choice(self.among.living())
        what = rng.choices(("kill", "freeze", "cut", "leave", "deploy", "outage", "nothing"), (6, 4, 3, 2, 3, 0.8, 1))[
            0
        ]
        if what == "kill":
            process.die("killed")
        elif what == "freeze":
            process.freeze()
            self.loop.call_later(rng.choice((1.0, 3.0, 12.0)) * rng.random(), process.thaw)
        elif what == "cut":
            seconds = rng.choice((1.0, 3.0, 12.0, 40.0)) * rng.random()
            process.cut_until = self.loop.time() + seconds
            self.history.count(process.name, "cut off", f"for {seconds:.2f} s")
        elif what == "leave" and process in working and process.serving:
            process.leaving = True
            process.spawn(self._leave(process, self.workers[process], drain=False))
        elif what == "deploy" and len(working) < 5:
            self._start_worker()
        elif what == "outage":
            self.among.outage(rng.uniform(31.0, 45.0))

    # The calm

    async def _calm(self) -> None:
        self.history.tell("-", "calm")
        process = self.among.start("closing")
        customer = Customer(
            self._kernel(process, list(TASKS)), process, self.ledger, self.history, self.rng, self.orders
        )
        self._staff()
        await asyncio.wait(list(self.customers.values()))
        await process.spawn(customer.let_go())
        if await self._settle():
            await self._part()

    def _staff(self) -> None:
        """Let there be a worker that knows all tasks."""
        able = [process for process in self.workers if process.serving and process.alive and not process.leaving]
        if not any(self.knows_all[process] for process in able) or self.rng.random() < 0.5:
            for _ in range(2):
                self._start_worker(knows_all=True)

    async def _settle(self) -> bool:
        """Wait until all has come to its end; give whether it has."""
        begun = self.loop.time()
        while open_ends := self.ledger.open():
            if self.loop.time() - begun > _PATIENCE_IN_CALM:
                shown = "\n".join(open_ends[:20])
                self.history.fail(
                    "all ends in the end", f"{len(open_ends)} did not within {_PATIENCE_IN_CALM:.0f} s:\n{shown}"
                )
                return False
            await asyncio.sleep(1.0)
        return True

    async def _part(self) -> None:
        """Let all workers leave; nothing of them may stay."""
        drains = self.rng.random() < 0.5
        leaving = [
            process.spawn(self._leave(process, worker, drain=drains))
            for process, worker in self.workers.items()
            if process.alive and process.serving and not process.leaving
        ]
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=60.0)
            if late:
                self.history.fail("a worker with nothing to do can leave", f"{len(late)} did not within 60 s")
        await self._compare()

    async def _compare(self) -> None:
        """The store has what was seen to be committed."""
        for key, found in (await self.store.load(list(self.ledger.runs))).items():
            noted = self.ledger.runs[key]
            there = found is not None and found.rev > 0
            if there is (key in self.ledger.purged) or getattr(found, "status", noted.status) is not noted.status:
                self.history.fail("the store has what was committed", f"{key}: {found}, not {noted}")
