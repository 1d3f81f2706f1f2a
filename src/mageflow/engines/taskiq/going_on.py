"""Going on with what a run makes due in the process that ended it, without a way through the broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from taskiq import AsyncBroker

from mageflow.core.records import RunRecord
from mageflow.engines.taskiq.labels import carried_labels
from mageflow.engines.taskiq.listening import Listening
from mageflow.engines.taskiq.sending import Sending
from mageflow.errors import MageflowError
from mageflow.ports.engine import Delivered, Handler, Inject

__all__ = ["GoingOn"]

logger = logging.getLogger("mageflow.engines.taskiq")

_TURN = 0.25
"""Seconds after which what a message has led to goes through the broker again. Others wait there for the place, and
other processes may have nothing to do: a place is not had for longer, but for one body that lasts."""
_HEARD_WITHIN = 1.0
"""Seconds after which a run that the receiver was handed and has not begun is given up: it may have failed to inject,
or have no place for it after all."""


class _Handed(NamedTuple):
    handler: Handler
    """Whose worker holds the run."""
    came: float
    """When the message came that led to it, by the loop's time."""
    giving_up: asyncio.TimerHandle


class GoingOn:
    """Delivers runs, and hands over what their workers go on with to the receiver of this process.

    Args:
        broker: whose receiver it is.
        listening: what that receiver hears.
        sending: forms messages.
    """

    def __init__(self, broker: AsyncBroker, listening: Listening, sending: Sending) -> None:
        self._broker = broker
        self._listening = listening
        self._sending = sending
        self._known: set[str] = set()
        self._alike: dict[str, frozenset[str]] = {}
        """By task: those whose messages carry the same labels, and so come by the same queue."""
        self._handed: dict[str, _Handed] = {}
        """What was handed over and not begun yet, by run."""
        self._given_up: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks weakly

    def learn(self, task: str) -> None:
        """Know a task whose runs can be delivered here."""
        self._known.add(task)
        self._alike.clear()

    def forget(self, handler: Handler) -> None:
        """Know nothing any more of what this one's worker holds: it leaves, and gives up what was not begun."""
        for run in [run for run, handed in self._handed.items() if handed.handler is handler]:
            self._handed.pop(run).giving_up.cancel()

    async def deliver(self, handler: Handler, task: str, run: str, inject: Inject | None) -> Delivered:
        """Have the run of one delivery executed, and hand over what its worker goes on with."""
        loop = asyncio.get_running_loop()
        came = loop.time()
        handed = self._handed.pop(run, None)
        if handed is not None:
            handler, came = handed.handler, handed.came
            handed.giving_up.cancel()

        def keep() -> Collection[str]:
            if not self._listening.is_open or loop.time() - came > _TURN:
                return ()
            return self._by_the_same_queue(task)

        delivered = await handler.deliver(run, inject=inject, keep=keep)
        if delivered.kept is not None:
            await self._hand_over(handler, delivered.kept, came)
        return delivered

    async def _hand_over(self, handler: Handler, kept: RunRecord, came: float) -> None:
        run = kept.key

        def give_up() -> None:
            self._handed.pop(run, None)
            giving = asyncio.create_task(_let_go(handler, run))
            self._given_up.add(giving)
            giving.add_done_callback(self._given_up.discard)

        try:
            message = await self._sending.formed(kept.task, run)
        except Exception as error:  # noqa: BLE001 - a middleware's; where it is sent it will be said
            logger.warning("run %s cannot be handed over (%r); it goes through the broker", run, error)
            give_up()
            return
        if not self._listening.is_open:
            give_up()
            return
        giving_up = asyncio.get_running_loop().call_later(_HEARD_WITHIN, give_up)
        self._handed[run] = _Handed(handler, came, giving_up)
        self._listening.hand_over(message.message, give_up)

    def _by_the_same_queue(self, task: str) -> frozenset[str]:
        alike = self._alike.get(task)
        if alike is None:
            labels = self._labels(task)
            alike = self._alike[task] = frozenset(name for name in self._known if self._labels(name) == labels)
        return alike

    def _labels(self, task: str) -> dict[str, Any] | None:
        found = self._broker.find_task(task)
        return carried_labels(found.labels) if found is not None else None


async def _let_go(handler: Handler, run: str) -> None:
    try:
        await handler.let_go(run)
    except MageflowError:
        logger.exception("run %s could not be given up; it is when this worker leaves", run)
