"""One tree in the simulator: a short storm over it, a calm, and the model's word on what it came to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from mageflow.core.options import Options
from mageflow.errors import NonRetryable
from mageflow.models.message import ErrorValue, TaskFailure
from mageflow.runtime.bodies import Body as Shape
from mageflow.runtime.bodies import inspect_body
from mageflow.runtime.context import current_run
from mageflow.runtime.recovery import Patience
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.testing.simulate.auditor import Auditor
from mageflow.testing.simulate.ledger import Body
from mageflow.testing.simulate.loop import VirtualLoop
from mageflow.testing.simulate.process import Process
from mageflow.testing.simulate.trees import ALERT, TASKS, Node, Tree, draw_trees
from mageflow.testing.simulate.trees_bodies import fails, is_tried_again, value_of, words_of
from mageflow.testing.simulate.trees_model import Mismatch, Model
from mageflow.testing.simulate.trees_owner import Owner
from mageflow.testing.simulate.weather import SimulationFailed
from mageflow.testing.simulate.world import LEASE, Outcome, World, live_through

__all__ = ["TreeFailed", "simulate_trees"]

_NEVER = 1e6
"""Losses and seconds that no run sees: what a tree comes to does not depend on how many workers died of it."""


class TreeFailed(Exception):
    """A tree did not come to what it must, or an invariant did not hold on the way.

    `seed` repeats it with its `trees` and `without`; `invariant` says in a few words what was to hold.
    """

    def __init__(
        self,
        seed: int,
        invariant: str,
        told: str,
        *,
        trees: Sequence[Tree] = (),
        culprit: Tree | None = None,
        without: Collection[str] = (),
    ) -> None:
        pictures = "\n\n".join(tree.picture() for tree in ([culprit] if culprit is not None else trees))
        super().__init__(
            f"{told}\n\n{pictures}\n\nRepeat it with: python -m mageflow.testing.simulate --trees --seed {seed}"
        )
        self.seed = seed
        self.invariant = invariant
        self.told = told
        self.trees = trees
        self.without = without


class Failing(Exception):
    """A body that fails as planned."""


def simulate_trees(seed: int, trees: Sequence[Tree] | None = None, *, without: Collection[str] = ()) -> Outcome:
    """Grow the trees of a seed, or others in the same weather.

    Args:
        seed: decides all that happens.
        trees: those to grow.
        without: those of `trees_owner.ACTS` that nobody does.

    Raises:
        TreeFailed: one did not come to what it must.
    """
    grown = trees if trees is not None else draw_trees(seed)
    loop = VirtualLoop()
    world = _TreeWorld(seed, grown, loop, without)
    try:
        return live_through(world, loop)
    except SimulationFailed as failure:
        told = str(failure).rpartition("\n\nRepeat it with")[0]
        raise TreeFailed(
            seed, failure.invariant, told, trees=grown, culprit=world.culprit, without=without
        ) from failure


class _Alert(BaseModel):
    """What an error callback takes that hears of all that failed."""

    model_config = ConfigDict(extra="allow")

    failures: Annotated[list[TaskFailure], ErrorValue()]


class _TreeAuditor(Auditor):
    """Leaves it to the model what a message must be."""

    def _check_message(self, name: str, run: Any, message: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        """The model compares it with what was planned."""


class _TreeWorld(World):
    tasks = TASKS
    fewest = 2

    def __init__(self, seed: int, trees: Sequence[Tree], loop: VirtualLoop, without: Collection[str]) -> None:
        super().__init__(seed, loop)
        self.auditor = _TreeAuditor(self.ledger)
        self.patience = Patience(lease=LEASE, unknown_task_after=_NEVER, max_losses=int(_NEVER))
        self.culprit: Tree | None = None
        """The tree that did not come to what it must."""
        self._trees = trees
        self._without = without
        self._nodes = {node.name: node for tree in trees for node in tree.nodes()}
        self._messages: dict[str, list[Mapping[str, Any]]] = defaultdict(list)

    async def _live(self) -> None:
        rng = self.rng
        until = rng.choice((0.5, 2.0, 6.0)) * rng.uniform(0.5, 1.5)
        self._start_worker()
        self._start_worker()
        process = self.among.start("owner")
        process.spared = True
        kernel = self._kernel(process, list(TASKS))
        owners = [Owner(kernel, process, self.ledger, rng, tree, self._without) for tree in self._trees]
        tending = [process.spawn(owner.tend(until, rng.choice((0.1, 0.4)))) for owner in owners]
        self.customers[process] = tending[0]
        while self.loop.time() < until:
            await asyncio.sleep(min(rng.expovariate(1 / self.faults.trouble_every), 3.0))
            self._trouble(until)
        self._end_storm()
        able = [each for each in self.workers if each.serving and each.alive and not each.leaving]
        if not any(self.knows_all[each] for each in able):  # who has not begun may still die of what the storm left
            self._start_worker(knows_all=True)
        for owner, tended in zip(owners, tending, strict=True):
            await tended
            await process.spawn(owner.finish())
        if not await self._settle():
            return
        if any([await process.spawn(owner.retry_ended()) for owner in owners]) and not await self._settle():
            return
        for owner in owners:
            if self.history.failure is None:
                await self._judge(owner)

    async def _judge(self, owner: Owner) -> None:
        tree = owner.tree
        lists = await owner.lists()
        runs = owner.runs()
        cancelled = ((key, at) for key, at in self.ledger.cancelled_at.items() if key in runs)
        asked = {key: at for key, at in cancelled if not owner.asked.isdisjoint((key, runs[key].signature))}
        removed = {key: at for key, at in self.ledger.removed_at.items() if key in owner.removed}
        model = Model(tree.nodes(), runs, self._messages, lists, asked, removed, self.ledger.is_retry)
        try:
            model.check(tree.root, tree.sent)
        except Mismatch as mismatch:
            self.culprit = tree
            self.history.fail(mismatch.invariant, mismatch.detail)
            return
        await self._compare()

    def _registry(self, names: Iterable[str], process: Process) -> TaskRegistry:
        registry = TaskRegistry()
        for name in names:
            fn = self._body(process)
            registry.register(RegisteredTask(name=name, fn=fn, body=_shapes()[name], options=Options()))
        return registry

    def _body(self, process: Process) -> Callable[[dict[str, Any]], Any]:
        async def body(received: dict[str, Any] | _Alert) -> Any:
            message = received.model_dump(mode="json") if isinstance(received, _Alert) else received
            process.check()
            run = current_run()
            call = self.auditor.begin(process, run.id, run.attempt, message)
            self._messages[run.id].append(message)
            node = self._nodes[message["node"]]
            try:
                await asyncio.sleep(node.span)
                await process.thawed()
                process.check()
            except asyncio.CancelledError:
                self.auditor.end(call, "stopped")
                raise
            return self._come_to(node, call)

        return body

    def _come_to(self, node: Node, call: Body) -> str:
        run = self.ledger.runs[call.run]
        if fails(node, run.failures, tried_again=is_tried_again(run, self.ledger.runs, self.ledger.is_retry)):
            final = node.act == "refuse"
            self.auditor.end(call, "final" if final else "error")
            words = words_of(node, run.failures)
            raise NonRetryable(words) if final else Failing(words)
        value = value_of(node, call.message)
        self.auditor.end(call, "value", value)
        return value


@cache
def _shapes() -> dict[str, Shape]:
    async def body(message: dict[str, Any]) -> Any: ...

    async def alert(message: _Alert) -> Any: ...

    return {name: inspect_body(alert if name == ALERT else body, "body", None) for name in TASKS}
