"""What an engine serves with: claiming the runs that it brings or asks for, and executing them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from mageflow.core.events import Claim, Keeps, SetControl
from mageflow.core.records import Control, OutboxRow, RunRecord
from mageflow.core.replies import ClaimReply, ControlReply, EndReply, Verdict
from mageflow.errors import MageflowError, StoreError
from mageflow.ports.engine import Delivered, Inject, Keep, Pull, Reported
from mageflow.runtime.execute import Executor
from mageflow.runtime.holding import Holding, hand_back
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.reporting import REPORTED, delivered
from mageflow.runtime.transact import Transactor, bind

__all__ = ["Handling"]

logger = logging.getLogger("mageflow.runtime")


class Handling:
    """The handler that a worker's engine serves with.

    Args:
        transactor: commits.
        registry: the tasks of this process.
        executor: what executes runs.
        routes: of the rows that it takes.
        key: gives the key of the worker's incarnation.
    """

    def __init__(
        self,
        transactor: Transactor,
        registry: TaskRegistry,
        executor: Executor,
        routes: Sequence[str],
        key: Callable[[], str],
    ) -> None:
        self._tx = transactor
        self._registry = registry
        self._executor = executor
        self._key = key
        self.routes = routes
        self.holding = Holding()
        self.closing = False
        """Whether nothing is to be begun any more."""
        self.entered = 0
        """How often anything was begun that could make runs due."""
        self.quiet = asyncio.Event()
        """Set while nothing is under way here, and nothing kept that the engine is to bring."""
        self.quiet.set()
        self._busy = 0
        self._taken = 0
        """How many rows its pulls have brought."""
        self._kept: dict[str, ClaimReply] = {}
        """What the engine is to bring next, by run: claimed, and counted as under way."""
        self._found_nothing = asyncio.Event()
        self._found_nothing.set()
        """Cleared while a drain waits for it."""
        self._rings: list[Callable[[], None]] = []

    # For engines that pull

    def watch(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Ring when rows of this worker's routes were put; returns what ends it."""
        ends = [self._tx.store.watch_route(route, ring) for route in self.routes]
        self._rings.append(ring)

        def end() -> None:
            self._rings.remove(ring)
            for each in ends:
                each()

        return end

    async def pull(self, limit: int) -> Pull:
        """Claim up to `limit` due runs."""
        if self.closing:
            return Pull((), None)
        token = self._tx.token()
        jitter = self._tx.entropy.jitter()
        worker, defaults = self._key(), self._registry.defaults()

        def decide_claim(row: OutboxRow) -> tuple[tuple[str, ...], Any]:
            return (row.run,), bind(Claim(run=row.run, worker=worker, defaults=defaults, token=token), jitter)

        self._enter()
        entered = self.entered if self._busy == 1 else None
        try:
            with self.holding.asking(token):
                claims = await self._tx.store.claim(
                    self.routes, self._registry.names(), limit, decide_claim, token=token, taken=self._taken
                )
                self._taken += len(claims.replies)
                claimed = tuple(reply for reply in claims.replies if reply.verdict is Verdict.CLAIMED)
                for reply in claimed:
                    self._take(reply)
        except StoreError as error:
            logger.warning("the store did not answer (%s); what is due is looked for again", error)
            return Pull((), None)
        finally:
            self._leave()
        if not claims.replies:
            self._report_nothing(entered == self.entered)
        return Pull(claimed, await self._until(claims.next_due))

    async def _until(self, moment: float | None) -> float | None:
        """Give the seconds until a moment of the store's time; None where it cannot say: claims must not be lost."""
        if moment is None:
            return None
        try:
            return max(0.0, moment - await self._tx.store.now())
        except StoreError:
            return None

    async def execute(self, claimed: ClaimReply, ended: Callable[[], None]) -> None:
        """Execute a claimed run and commit what it came to."""
        self._enter()
        try:
            await self._execute(claimed, ended=ended)
        except MageflowError:
            assert claimed.run is not None
            logger.exception("the end of run %s could not be committed", claimed.run.key)
        finally:
            self._leave()
            self._report_nothing(False)

    async def pulled_nothing(self, serving: asyncio.Task[None]) -> None:
        """Wait until a pull has found nothing, or `serving` is over; only one that begins from now on can."""
        self._found_nothing.clear()
        self._ring()
        looked = asyncio.create_task(self._found_nothing.wait())
        await asyncio.wait((looked, serving), return_when=asyncio.FIRST_COMPLETED)
        looked.cancel()

    def _report_nothing(self, alone: bool) -> None:
        """Tell a drain that the outbox is empty, if nothing ran beside the look that could have put a row since."""
        if alone:
            self._found_nothing.set()
        elif self.quiet.is_set() and not self._found_nothing.is_set():
            self._ring()

    def _ring(self) -> None:
        for ring in tuple(self._rings):
            ring()

    # For engines that push

    async def deliver(
        self, run: str, *, ref: str | None = None, inject: Inject | None = None, keep: Keep | None = None
    ) -> Delivered:
        """Execute the run of one delivery, claimed by it or kept for it."""
        if self.closing:
            return Delivered(Reported.HELD_BACK)
        self._enter()
        try:
            reply = self._taken_up(run) or await self._claim(run, ref)
            if reply.verdict is not Verdict.CLAIMED:
                return Delivered(REPORTED[reply.verdict], reply.run)
            ended = await self._execute(reply, inject=inject, keep=keep)
            return delivered(ended.run if ended is not None else None, await self._keep(ended))
        finally:
            self._leave()

    async def _claim(self, run: str, ref: str | None) -> ClaimReply:
        defaults = self._registry.defaults()
        event = Claim(run=run, worker=self._key(), ref=ref, defaults=defaults, token=self._tx.token())
        with self.holding.asking(event.token):
            reply = await self._tx.commit(ClaimReply, (run,), event)
            if reply.verdict is Verdict.CLAIMED:
                self._take(reply)
        return reply

    async def _keep(self, ended: EndReply | None) -> RunRecord | None:
        """Hold what an end has claimed until the engine brings it; give it back where the worker leaves by now."""
        if ended is None or ended.kept is None or ended.kept.run is None:
            return None
        run = ended.kept.run
        self._kept[run.key] = ended.kept
        self._enter()
        if self.closing:
            await self._let_go_or_leave(run.key)
            return None
        return run

    def _taken_up(self, run: str) -> ClaimReply | None:
        """Give the claim of a run that was kept; it is the caller's from here on."""
        kept = self._kept.pop(run, None)
        if kept is not None:
            self._leave()
        return kept

    async def let_go(self, run: str) -> None:
        """Give up a run that was kept: it is due again, for any worker."""
        kept = self._taken_up(run)
        if kept is None or kept.run is None:
            return
        self._enter()
        try:
            await hand_back(self._tx, kept.run, self._registry.defaults())
        finally:
            self.holding.drop(kept.run)
            self._leave()

    async def close(self) -> None:
        """Begin nothing any more, and give up what was kept."""
        self.closing = True
        for run in list(self._kept):
            await self._let_go_or_leave(run)

    async def _let_go_or_leave(self, run: str) -> None:
        try:
            await self.let_go(run)
        except StoreError as error:  # who leaves gives back all that it holds, or it is taken back
            logger.warning("run %s was kept and could not be given back (%s)", run, error)

    def limit_of(self, run: str) -> float | None:
        """Give the seconds that the body of a run which executes here may take; None: as long as it likes."""
        return self._executor.limit_of(run)

    async def call_off(self, run: str) -> None:
        """Stop the body of a run that executes here: for a reason of the core's, else as a cancel."""
        if await self._executor.is_wanted(run):
            event = SetControl(
                run=run, control=Control.CANCEL, defaults=self._registry.defaults(), token=self._tx.token()
            )
            await self._tx.commit(ControlReply, (run,), event)

    # For both

    async def _execute(
        self,
        claimed: ClaimReply,
        *,
        ended: Callable[[], None] | None = None,
        inject: Inject | None = None,
        keep: Keep | None = None,
    ) -> EndReply | None:
        """Execute a claimed run; give what its end came to, or None if it is not this worker's any more."""
        run = claimed.run
        assert run is not None
        assert run.worker is not None
        with contextlib.ExitStack() as committing:

            def body_ended() -> Keeps | None:
                if ended is not None:
                    ended()
                tasks = keep() if keep is not None and not self.closing else ()
                if not tasks:
                    return None
                committing.enter_context(self.holding.asking(f"end of {run.key}"))
                return Keeps(self.routes, tasks)

            try:
                if run.worker != self._key():  # declared dead: it is, or will be, taken back from what this worker was
                    if ended is not None:
                        ended()
                    return None
                reply = await self._executor.execute(claimed, run.worker, body_ended, inject)
                if reply is not None and reply.kept is not None:
                    self._take(reply.kept)
                return reply
            finally:
                self.holding.drop(run)

    def _take(self, claimed: ClaimReply) -> None:
        assert claimed.run is not None
        self.holding.take(claimed.run)

    def _enter(self) -> None:
        self._busy += 1
        self.entered += 1
        self.quiet.clear()

    def _leave(self) -> None:
        self._busy -= 1
        if not self._busy:
            self.quiet.set()
