"""One tree in the simulator: a short storm over it, a calm, and the model's word on what it came to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from mageflow.core.options import Options
from mageflow.errors import NonRetryable
from mageflow.runtime.bodies import Body as Shape
from mageflow.runtime.bodies import inspect_body
from mageflow.runtime.context import current_run
from mageflow.runtime.recovery import Patience
from mageflow.runtime.registry import RegisteredTask, TaskRegistry
from mageflow.testing.simulate.auditor import Auditor
from mageflow.testing.simulate.ledger import Body
from mageflow.testing.simulate.loop import VirtualLoop
from mageflow.testing.simulate.process import Process
from mageflow.testing.simulate.trees import TASKS, Node, Tree, draw_tree
from mageflow.testing.simulate.trees_model import Mismatch, Model, fails, is_tried_again, value_of
from mageflow.testing.simulate.trees_owner import Owner
from mageflow.testing.simulate.weather import SimulationFailed
from mageflow.testing.simulate.world import LEASE, Outcome, World, live_through

__all__ = ["TreeFailed", "simulate_tree"]

_NEVER = 1e6
"""Losses and seconds that no run sees: what a tree comes to does not depend on how many workers died of it."""


class TreeFailed(Exception):
    """A tree did not come to what it must, or an invariant did not hold on the way.

    `seed` repeats it; `invariant` says in a few words what was to hold.
    """

    def __init__(self, tree: Tree, failure: SimulationFailed) -> None:
        told = str(failure).rpartition("\n\nRepeat it with")[0]
        super().__init__(
            f"{told}\n\nThe tree:\n{tree.picture()}\n\n"
            f"Repeat it with: python -m mageflow.testing.simulate --trees --seed {tree.seed}"
        )
        self.seed = tree.seed
        self.invariant = failure.invariant


class Failing(Exception):
    """A body that fails as planned."""


def simulate_tree(seed: int, tree: Tree | None = None) -> Outcome:
    """Grow the tree of a seed, or another one in the same weather.

    Raises:
        TreeFailed: it did not come to what it must.
    """
    grown = tree if tree is not None else draw_tree(seed)
    loop = VirtualLoop()
    try:
        return live_through(_TreeWorld(grown, loop), loop)
    except SimulationFailed as failure:
        raise TreeFailed(grown, failure) from failure


class _TreeAuditor(Auditor):
    """Leaves it to the model what a message must be."""

    def _check_message(self, name: str, run: Any, message: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        """The model compares it with what was planned."""


class _TreeWorld(World):
    tasks = TASKS

    def __init__(self, tree: Tree, loop: VirtualLoop) -> None:
        super().__init__(tree.seed, loop)
        self.auditor = _TreeAuditor(self.ledger)
        self.patience = Patience(lease=LEASE, unknown_task_after=_NEVER, max_losses=int(_NEVER))
        self._tree = tree
        self._nodes = {node.name: node for node in tree.nodes()}
        self._messages: dict[str, list[Mapping[str, Any]]] = defaultdict(list)

    async def _live(self) -> None:
        rng = self.rng
        until = rng.choice((0.5, 2.0, 6.0)) * rng.uniform(0.5, 1.5)
        self._start_worker()
        self._start_worker()
        process = self.among.start("owner")
        process.spared = True
        owner = Owner(self._kernel(process, list(TASKS)), process, self.ledger, rng, self._tree)
        tending = process.spawn(owner.tend(until, rng.choice((0.1, 0.4))))
        self.customers[process] = tending
        while self.loop.time() < until:
            await asyncio.sleep(min(rng.expovariate(1 / self.faults.trouble_every), 3.0))
            self._trouble(until)
        self._end_storm()
        self._staff()
        await tending
        await process.spawn(owner.finish())
        if await self._settle() and await process.spawn(owner.retry_ended()) and not await self._settle():
            return
        if self.history.failure is None:
            await self._judge(owner)

    async def _judge(self, owner: Owner) -> None:
        retried = self.ledger.is_retry
        lists = await owner.lists()
        nodes = self._tree.nodes()
        model = Model(nodes, self.ledger.runs, self._messages, lists, owner.asked, retried)
        try:
            model.check(self._tree.root, self._tree.sent)
        except Mismatch as mismatch:
            self.history.fail(mismatch.invariant, mismatch.detail)
            return
        await self._compare()

    def _registry(self, names: Iterable[str], process: Process) -> TaskRegistry:
        registry = TaskRegistry()
        for name in names:
            fn = self._body(process)
            registry.register(RegisteredTask(name=name, fn=fn, body=_shape(), options=Options()))
        return registry

    def _body(self, process: Process) -> Callable[[dict[str, Any]], Any]:
        async def body(message: dict[str, Any]) -> Any:
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
            raise NonRetryable("never again") if final else Failing(f"attempt {run.failures} of {node.name}")
        value = value_of(node, call.message)
        self.auditor.end(call, "value", value)
        return value


@cache
def _shape() -> Shape:
    async def body(message: dict[str, Any]) -> Any: ...

    return inspect_body(body, "body", None)
