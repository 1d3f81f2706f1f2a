"""A process that uses mageflow: it signs, starts, changes, holds and cancels, at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from mageflow.core.edits import Slot
from mageflow.core.ids import SIGNATURE
from mageflow.core.options import Options
from mageflow.core.records import Control, Origin, SignatureRecord
from mageflow.core.status import RunStatus
from mageflow.errors import MageflowError
from mageflow.runtime.kernel import Kernel
from mageflow.testing.simulate.ledger import Ledger
from mageflow.testing.simulate.plans import ACTS, TASKS
from mageflow.testing.simulate.process import Process
from mageflow.testing.simulate.weather import History

__all__ = ["Customer", "Orders"]

_DEEPEST = 3
_MOST_RUNS = 60
_DAY = 24 * 3600.0


class Orders:
    """What outlives a customer's process: the signatures, how deep their callbacks go, and how long all is kept."""

    def __init__(self, rng: random.Random) -> None:
        self.active_ttl = rng.choice((_DAY, _DAY, 8.0))
        self.done_ttl = rng.choice((_DAY, _DAY, 4.0))
        self.depths: dict[str, int] = {}
        self.held: dict[str, None] = {}


class Customer:
    """One program on a kernel."""

    def __init__(
        self, kernel: Kernel, process: Process, ledger: Ledger, history: History, rng: random.Random, orders: Orders
    ) -> None:
        self._kernel = kernel
        self._process = process
        self._ledger = ledger
        self._history = history
        self._rng = rng
        self._orders = orders

    async def shop(self, until: float, mean_pause: float) -> None:
        """Do one thing after the other until it is `until` by the loop's time."""
        loop = asyncio.get_running_loop()
        wishes: list[tuple[int, Callable[[], Awaitable[object]]]] = [
            (5, self._sign),
            (8, self._start),
            (3, self._edit),
            (1, self._append),
            (4, self._control_run),
            (1, self._control_signature),
            (1, self._remove),
            (2, self._retry),
            (2, self._wait),
        ]
        for _ in range(4):
            await self._try(self._sign)
        while loop.time() < until:
            await asyncio.sleep(self._rng.expovariate(1 / mean_pause))
            await self._process.thawed()
            wish = self._rng.choices([act for _, act in wishes], [weight for weight, _ in wishes])[0]
            await self._try(wish)

    async def _try(self, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except (MageflowError, TimeoutError) as error:
            self._history.tell(self._process.name, f"gave up: {type(error).__name__}")

    def _some_signature(self, deepest: int = _DEEPEST) -> str | None:
        found = [key for key, depth in self._orders.depths.items() if depth <= deepest]
        return self._rng.choice(found) if found else None

    def _some_run(self) -> str | None:
        return self._rng.choice(list(self._ledger.runs)) if self._ledger.runs else None

    async def _sign(self) -> None:
        rng = self._rng
        lists: list[tuple[str, ...]] = []
        for most in (2, 2, 3):
            chosen = [self._some_signature(_DEEPEST - 1) for _ in range(rng.randint(0, most))]
            lists.append(tuple(key for key in chosen if key is not None))
        key = self._kernel.tx.entropy.id(SIGNATURE)
        depth = 1 + max((self._orders.depths[each] for keys in lists for each in keys), default=-1)
        task = rng.choice(list(TASKS))
        record = SignatureRecord(
            key=key,
            created_at=0.0,
            task=task,
            route=self._kernel.engine.route(task),
            kwargs={
                "act": rng.choice(ACTS),
                "times": rng.randint(1, 3),
                "span": round(rng.choice((0.0, 0.2, 3.0, 6.0)) * rng.random(), 3),
                "note": rng.randint(0, 99),
            },
            on_success=lists[0],
            on_error=lists[1],
            on_done=lists[2],
            options=_options(rng),
            active_ttl=self._orders.active_ttl,
            done_ttl=self._orders.done_ttl,
        )
        await self._kernel.put_signature(record)
        self._orders.depths[key] = depth
        self._history.count(self._process.name, "signature", f"{self._history.name(key)} of {task}: {record.kwargs}")

    async def _start(self) -> None:
        key = self._some_signature()
        if key is None or len(self._ledger.runs) > _MOST_RUNS:
            return
        rng = self._rng
        signature = await self._kernel.require_signature(key)
        options = _options(rng) if rng.random() < 0.5 else Options()
        if rng.random() < 0.2:
            window = rng.choice((None, None, 0.5, 5.0))
            options = msgspec.structs.replace(options, idempotency_key=rng.choice("abc"), idempotency_window=window)
        messages: list[Any] = [None, {"note": rng.randint(100, 199), "extra": {"a": 1}}, {"results": {"b": []}}]
        sent = rng.choice(messages)
        run = await self._kernel.start(
            signature,
            sent=msgspec.json.encode(sent) if sent is not None else None,
            options=options,
            origin=rng.choice((Origin.MESSAGE, Origin.MESSAGE, Origin.VALUE)),
        )
        self._history.count(self._process.name, "start", self._history.name(run.key))

    async def _edit(self) -> None:
        key = self._some_signature()
        if key is None:
            return
        if self._rng.random() < 0.1:
            await self._kernel.edit_kwargs(key, put={"span": "never"})
        else:
            await self._kernel.edit_kwargs(key, put={"note": self._rng.randint(200, 299), "span": self._rng.random()})
        self._history.count(self._process.name, "aupdate", self._history.name(key))

    async def _append(self) -> None:
        key, callback = self._some_signature(), self._some_signature(0)
        if key is None or callback is None or key == callback:
            return
        slot = self._rng.choice(list(Slot))
        before = self._callbacks(key, slot)
        await self._kernel.append_callbacks(key, slot, (callback,))
        after = self._callbacks(key, slot)
        if before is not None and after != (*before, callback):
            raise self._history.fail("a callback is added once", f"{key}: {before}, then {after}")
        self._orders.depths[key] = max(self._orders.depths[key], 1)
        self._history.count(self._process.name, "append", self._history.name(key))

    def _callbacks(self, key: str, slot: Slot) -> tuple[str, ...] | None:
        signature = self._ledger.signatures.get(key)
        if signature is None:
            return None
        return {Slot.SUCCESS: signature.on_success, Slot.ERROR: signature.on_error, Slot.DONE: signature.on_done}[slot]

    async def _control_run(self) -> None:
        key = self._some_run()
        if key is None:
            return
        control = self._rng.choice((Control.SUSPEND, Control.INTERRUPT, Control.NONE, Control.NONE, Control.CANCEL))
        await self._kernel.control_run(key, control)
        self._history.count(self._process.name, control.value or "resume", self._history.name(key))

    async def _control_signature(self) -> None:
        key = self._some_signature()
        if key is None:
            return
        control = self._rng.choice((Control.SUSPEND, Control.INTERRUPT, Control.NONE, Control.CANCEL))
        self._orders.held[key] = None
        await self._kernel.control_signature(key, control)
        self._history.count(self._process.name, f"signature's {control.value or 'resume'}", self._history.name(key))

    async def _remove(self) -> None:
        key = self._some_signature()
        if key is None or len(self._orders.depths) < 5:
            return
        await self._kernel.remove_signature(key, list(Slot) if self._rng.random() < 0.3 else ())
        del self._orders.depths[key]
        self._history.count(self._process.name, "remove", self._history.name(key))

    async def _retry(self) -> None:
        key = self._some_run()
        if key is not None and await self._kernel.retry(key) is not None:
            self._history.count(self._process.name, "retry", self._history.name(key))

    async def _wait(self) -> None:
        key = self._some_run()
        if key is None:
            return
        run = await self._kernel.waiting.ended(key, self._rng.random() * 3)
        if self._rng.random() < 0.5:
            await self._kernel.waiting.settled(run, self._rng.random() * 3)
            if not self._ledger.settled(self._ledger.runs[key]):
                raise self._history.fail("what is said to be settled is", self._history.name(key))
        if run.status is not self._ledger.runs[key].status:
            raise self._history.fail("who waits hears the truth", f"{key}: {run.status}")

    async def let_go(self) -> None:
        """Stop what lingers, then resume all that is held."""
        lingering = [run.key for run in self._ledger.runs.values() if run.status is RunStatus.RUNNING]
        for key in lingering:
            cause = self._ledger.runs.get(self._ledger.runs[key].cause or "")
            through_cause = cause is not None and cause.control is Control.NONE and self._rng.random() < 0.5
            held = cause.key if cause is not None and through_cause else key
            await self._try(partial(self._kernel.control_run, held, Control.INTERRUPT))
        for _ in range(30):
            await asyncio.sleep(1.0)
            if not any(self._ledger.runs[key].status is RunStatus.RUNNING for key in lingering):
                break
        for key in list(self._ledger.signatures):
            if key in self._orders.held:  # also where somebody resumed it, and died before all its runs were
                await self._try(partial(self._kernel.control_signature, key, Control.NONE))
        for run in list(self._ledger.runs.values()):
            forgotten = run.status is RunStatus.SUSPENDED and run.signature not in self._ledger.signatures
            if forgotten or run.control in (Control.SUSPEND, Control.INTERRUPT):
                await self._try(partial(self._kernel.control_run, run.key, Control.NONE))


def _options(rng: random.Random) -> Options:
    def sometimes(*values: float) -> float | None:
        return rng.choice(values) if rng.random() < 0.3 else None

    return Options(
        delay=sometimes(0.5, 4.0),
        retries=rng.choice((None, 0, 1, 2, 3)),
        backoff_factor=sometimes(1.0, 1.5, 2.0),
        backoff_max_seconds=sometimes(0.5, 3.0),
        execution_timeout=sometimes(0.1, 1.0, 2.0),
        schedule_timeout=sometimes(2.0, 10.0, 30.0),
        priority=rng.choice((None, 1, 2, 3)),
    )
