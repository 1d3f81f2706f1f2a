"""What a worker says of itself, and what it does for runs that wait for one that knows them."""

from __future__ import annotations

from mageflow.core.records import TaskRecord, WorkerRecord, task_key
from mageflow.core.status import RunStatus
from mageflow.engines.none import NoEngine
from mageflow.runtime.bodies import inspect_body
from mageflow.runtime.recovery import Patience, Recovery
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.runtime.transact import Transactor
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock, SeededEntropy
from mageflow.testing.contracts.acting import Actor, put


def nothing() -> None: ...


class Routed(NoEngine):
    """Has a route for each task, and needs the messages of one of them."""

    def route(self, task: str) -> str:
        return f"of {task}"

    def needs_message(self, task: str) -> bool:
        return task == "b"


class Here:
    """A worker of some tasks on a store of its own, without what makes it serve."""

    def __init__(self, *tasks: str, routes: tuple[str, ...] = ("r",)) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.actor = Actor(self.store)
        registry = TaskRegistry()
        for name in tasks:
            registry.register(RegisteredTask(name=name, fn=nothing, body=inspect_body(nothing, name)))
        me = WorkerRecord(key="wrk_me", created_at=0.0, name="me", tasks=tasks, routes=routes)
        self.recovery = Recovery(
            Transactor(self.store, SeededEntropy(7)),
            registry,
            me,
            Patience(),
            self.clock.now,
            Routed(),
        )


async def test_each_task_is_made_known_with_its_own_route() -> None:
    here = Here("a", "b", routes=("of a", "of b"))
    await here.recovery.arrive()
    found = await here.store.load([task_key("a"), task_key("b")])
    records = [record for record in found.values() if isinstance(record, TaskRecord)]
    assert [(record.route, record.needs_message) for record in records] == [("of a", False), ("of b", True)]


async def test_a_stray_is_found_behind_many_runs_that_others_know() -> None:
    here = Here("mine")
    await put(here.store, WorkerRecord(key="wrk_other", created_at=0.0, name="other", tasks=("theirs",)))
    await here.actor.sign("sig_theirs", task="theirs")
    await here.actor.sign("sig_nobodys", task="nobodys")
    for n in range(300):
        await here.actor.start("sig_theirs", run=f"run_theirs{n}")
    await here.actor.start("sig_nobodys", run="run_nobodys")
    await here.recovery.find_strays()
    assert (await here.actor.run("run_nobodys")).status is RunStatus.UNROUTABLE
    assert await here.actor.keys(statuses=("unroutable",)) == ["run_nobodys"]
