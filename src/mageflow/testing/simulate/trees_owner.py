"""Who owns a tree: signs it, starts it, adds to it, closes, holds, lets go, cancels, removes and retries, at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection

import msgspec
from msgspec import Raw

from mageflow.core.edits import Slot
from mageflow.core.ids import SIGNATURE
from mageflow.core.members import MEMBERS_A_RECORD, Form, Member, Roster, members_keys
from mageflow.core.options import Options
from mageflow.core.records import Control, MembersRecord, RunRecord, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.errors import MageflowError
from mageflow.runtime.kernel import Kernel
from mageflow.testing.simulate.ledger import Ledger
from mageflow.testing.simulate.process import Process
from mageflow.testing.simulate.trees import Node, Place, Tree

__all__ = ["ACTS", "Owner"]

ACTS = ("hold", "let go", "cancel", "retry", "remove", "add", "close", "resize")
"""What an owner does to its tree once that is started."""

_DAY = 24 * 3600.0

_HOLDS = (Control.SUSPEND, Control.INTERRUPT)

_MOODS: tuple[tuple[int, int, int, int], ...] = ((0, 0, 0, 0), (4, 4, 0, 0), (3, 3, 0, 2), (2, 2, 1, 0), (2, 2, 2, 2))
"""How often somebody holds, lets go, cancels and tries again, in one simulation or another."""
_REMOVALS = (0, 0, 0, 1)
"""How often somebody removes a signature, likewise."""
_BY_SIGNATURE = 0.4
"""How often who does that names a signature, and means all its runs and those to come, and not one run."""


class Owner:
    """One program that nothing kills, though its way to the store is as bad as anybody's.

    Args:
        kernel: its way to the store.
        process: the process that it is in.
        ledger: what was committed so far.
        rng: what it decides with.
        tree: what it owns.
        without: those of `ACTS` that it leaves.
    """

    def __init__(
        self,
        kernel: Kernel,
        process: Process,
        ledger: Ledger,
        rng: random.Random,
        tree: Tree,
        without: Collection[str] = (),
    ) -> None:
        self.asked: set[str] = set()
        """The runs that were asked to be cancelled, and the signatures of which all runs were."""
        self.removed: set[str] = set()
        """The signatures that were asked to be removed."""
        self._kernel = kernel
        self._process = process
        self._ledger = ledger
        self._history = ledger.history
        self._rng = rng
        self.tree = tree
        self._mood = rng.choice(_MOODS)
        self._removals = rng.choice(_REMOVALS)
        self._without = without
        self._added: dict[str, int] = {}
        self._held: dict[str, None] = {}
        """The signatures that were held, and may be still."""
        self._open = [node for node in tree.nodes() if not node.closed]

    async def tend(self, until: float, mean_pause: float) -> None:
        """Sign and start the tree, then do one thing after the other until it is `until` by the loop's time."""
        for node in self.tree.nodes():
            await self._sign(node)
        await self._start()
        loop = asyncio.get_running_loop()
        often = (*self._mood, self._removals, 8 if self._open else 0, 1 if self._open else 0, 1)
        weights = [0 if act in self._without else weight for act, weight in zip(ACTS, often, strict=True)]
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "hold": self._hold,
            "let go": self._let_go,
            "cancel": self._cancel,
            "retry": self._retry,
            "remove": self._remove,
            "add": self._add,
            "close": self._close,
            "resize": self._resize,
        }
        while loop.time() < until:
            await asyncio.sleep(self._rng.expovariate(1 / mean_pause))
            await self._process.thawed()
            try:
                if any(weights):
                    await acts[self._rng.choices(ACTS, weights)[0]]()
            except (MageflowError, TimeoutError) as error:
                self._history.tell(self._process.name, f"gave up: {type(error).__name__}")

    async def finish(self) -> None:
        """Let go of all that is held, and close all that is open, in one order or the other."""
        acts = [self._let_all_go, self._close_all]
        self._rng.shuffle(acts)
        for act in acts:
            await act()

    async def retry_ended(self) -> bool:
        """Try the tree again, or leave it; give whether it was tried."""
        latest = self.roots()[-1]
        if latest.status is RunStatus.SUCCEEDED or "retry" in self._without or self._rng.random() < 0.5:
            return False
        known = len(self.roots())
        await self._surely(lambda: self._kernel.retry(latest.key), lambda: len(self.roots()) > known)
        self._history.count(self._process.name, "retry", self._history.name(latest.key))
        return True

    async def lists(self) -> dict[str, list[Place]]:
        """Read which members the open swarms came to have; those of the plan, as far as they were added."""
        found: dict[str, list[Place]] = {}
        for node in self._open:
            roster = self._roster(node)
            records = await self._kernel.store.load(members_keys(node.key, 0, roster.count))
            pages = [record for record in records.values() if isinstance(record, MembersRecord)]
            keys = [member.signature for page in pages for member in page.members]
            places = [*node.members, *node.later][: roster.count]
            there = self._is_there(node) or bool(keys)  # the list of what was removed goes where nobody needs it
            if there and (keys != [place.node.key for place in places] or len(keys) < len(node.members)):
                raise self._history.fail("members are added once, in their order", f"{node.name}: {keys}")
            found[node.key] = places
        return found

    # Surely

    async def _surely(self, act: Callable[[], Awaitable[object]], is_done: Callable[[], bool]) -> None:
        """Do something until it is done; the ledger knows whether it is, where the reply was lost."""
        while not is_done():
            try:
                await act()
            except (MageflowError, TimeoutError) as error:
                self._history.tell(self._process.name, f"tries again after {type(error).__name__}")
                await asyncio.sleep(0.5)
            else:
                return

    async def _sign(self, node: Node) -> None:
        node.key = self._kernel.tx.entropy.id(SIGNATURE)
        roster: Roster | None = None
        if node.form is not Form.TASK:
            roster = Roster(
                count=len(node.members),
                closed=node.closed,
                auto_close=node.auto_close,
                window=node.window,
                stop_after=node.stop_after,
            )
            await self._keep_members(node)
        record = SignatureRecord(
            key=node.key,
            created_at=0.0,
            task=node.task if node.form is Form.TASK else node.name,
            route=self._kernel.engine.route(node.task),
            form=node.form,
            roster=roster,
            kwargs=node.bound,
            on_success=tuple(each.key for each in node.success),
            on_error=tuple(each.key for each in node.error),
            on_done=tuple(each.key for each in node.done),
            options=Options(delay=node.delay, retries=node.retries, backoff_factor=1.0, backoff_max_seconds=0.2),
            active_ttl=_DAY,
            done_ttl=_DAY,
        )
        await self._surely(lambda: self._kernel.put_signature(record), lambda: node.key in self._ledger.signatures)
        self._history.tell(self._process.name, f"signs {node.name} as {self._history.name(node.key)}")

    async def _keep_members(self, node: Node) -> None:
        members = tuple(_member(place) for place in node.members)
        step = MEMBERS_A_RECORD
        for begin in range(0, len(members), step):
            record = MembersRecord(
                key=f"{node.key}/{begin // step}", created_at=0.0, owner=node.key, members=members[begin : begin + step]
            )
            await self._surely(lambda record=record: self._kernel.membership.put((record,), _DAY), lambda: False)  # type: ignore[misc]

    async def _start(self) -> None:
        signature = self._ledger.signatures[self.tree.root.key]
        sent = msgspec.json.encode(self.tree.sent) if self.tree.sent else None
        await self._surely(
            lambda: self._kernel.start(signature, sent=sent, options=Options()), lambda: bool(self.roots())
        )

    def roots(self) -> list[RunRecord]:
        """Give the runs of the tree's root, the tries of it in their order."""
        key = self.tree.root.key
        roots = [run for run in self._ledger.runs.values() if run.cause is None and run.signature == key]
        return sorted(roots, key=lambda run: run.created_at)

    def runs(self) -> dict[str, RunRecord]:
        """Give all runs of the tree."""
        roots = {run.key for run in self.roots()}
        return {key: run for key, run in self._ledger.runs.items() if (run.root or key) in roots}

    # What it does to the tree

    def _some_run(self) -> str:
        runs = list(self.runs())
        return runs[0] if self._rng.random() < 0.3 else self._rng.choice(runs)

    def _names_signature(self) -> bool:
        return self._rng.random() < _BY_SIGNATURE

    def _some_signature(self) -> str:
        return self._rng.choice(self.tree.nodes()).key

    async def _hold(self) -> None:
        control = self._rng.choice(_HOLDS)
        if self._names_signature():
            key = self._some_signature()
            self._held[key] = None
            await self._control_signature(key, control)
        else:
            await self._control(self._some_run(), control)

    async def _let_go(self) -> None:
        if self._held and self._names_signature():
            await self._control_signature(self._rng.choice(list(self._held)), Control.NONE)
            return
        held = [run.key for run in self.runs().values() if run.control in _HOLDS]
        await self._control(self._rng.choice(held) if held else self._some_run(), Control.NONE)

    async def _cancel(self) -> None:
        if self._names_signature():
            key = self._some_signature()
            self.asked.add(key)
            await self._control_signature(key, Control.CANCEL)
            return
        key = self._some_run()
        self.asked.add(key)
        await self._control(key, Control.CANCEL)

    async def _control_signature(self, key: str, control: Control) -> None:
        self._history.count(self._process.name, f"signature's {control.value or 'resume'}", self._history.name(key))
        await self._kernel.control_signature(key, control)

    async def _control(self, key: str, control: Control) -> None:
        self._history.count(self._process.name, control.value or "resume", self._history.name(key))
        await self._kernel.control_run(key, control)

    async def _retry(self) -> None:
        latest = self.roots()[-1]
        if latest.status.is_terminal and len(self.roots()) < 3:
            self._history.count(self._process.name, "retry", self._history.name(latest.key))
            await self._kernel.retry(latest.key)

    async def _add(self) -> None:
        node = self._rng.choice(self._open)
        at = self._added.get(node.key, 0)
        if at == len(node.later):
            return
        place = node.later[at]
        if not self._is_there(node) or not self._is_there(place.node):
            return
        self._added[node.key] = at + 1
        known = self._roster(node).count
        self._history.count(self._process.name, "add", f"to {node.name}")
        await self._surely(
            lambda: self._kernel.membership.add(node.key, (_member(place),), more=0, close_when_full=True),
            lambda: self._roster(node).count > known or not self._is_there(node),
        )

    def _is_there(self, node: Node) -> bool:
        return node.key in self._ledger.signatures

    def _roster(self, node: Node) -> Roster:
        """Give the roster of a chain or swarm, as it is, or as it was when the signature was removed."""
        record = self._ledger.signatures.get(node.key) or self._ledger.removed[node.key]
        assert record.roster is not None
        return record.roster

    async def _remove(self) -> None:
        nodes = self.tree.nodes()
        node = nodes[-1] if self._rng.random() < 0.4 else self._rng.choice(nodes)
        self.removed.add(node.key)
        self._history.count(self._process.name, "remove", f"{node.name}, {self._history.name(node.key)}")
        await self._kernel.remove_signature(node.key, list(Slot) if self._rng.random() < 0.5 else ())

    async def _close(self) -> None:
        node = self._rng.choice(self._open)
        self._history.count(self._process.name, "close", node.name)
        await self._kernel.membership.close(node.key)

    async def _resize(self) -> None:
        swarms = [node for node in self.tree.nodes() if node.form is Form.SWARM]
        if swarms:
            node = self._rng.choice(swarms)
            self._history.count(self._process.name, "resize", node.name)
            await self._kernel.membership.resize(node.key, self._rng.choice((1, 2, 5)))

    async def _let_all_go(self) -> None:
        for key in self._held:  # before its runs, so that none is made that is held
            await self._surely(
                lambda key=key: self._control_signature(key, Control.NONE),  # type: ignore[misc]
                lambda key=key: key not in self._ledger.signatures,  # type: ignore[misc]
            )
        for key in [run.key for run in self.runs().values() if run.control in _HOLDS or self._is_forgotten(run)]:
            await self._surely(lambda key=key: self._control(key, Control.NONE), lambda: False)  # type: ignore[misc]

    def _is_forgotten(self, run: RunRecord) -> bool:
        """Whether it waits for its signature, which was held and then removed."""
        return run.status is RunStatus.SUSPENDED and run.signature not in self._ledger.signatures

    async def _close_all(self) -> None:
        for node in self._open:
            await self._surely(
                lambda node=node: self._kernel.membership.close(node.key),  # type: ignore[misc]
                lambda node=node: not self._is_there(node),  # type: ignore[misc]
            )


def _member(place: Place) -> Member:
    own = Raw(msgspec.json.encode(place.own)) if place.own else None
    return Member(signature=place.node.key, sent=own)
