"""The Hatchet engine: Hatchet queues, assigns and shows what the core decides."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from hatchet_sdk import Hatchet

from mageflow.core.records import RunRecord
from mageflow.engines.hatchet.declaring import declare, needs_message
from mageflow.engines.hatchet.delivering import Deliveries, entry_of
from mageflow.engines.hatchet.sdk import Handle
from mageflow.engines.hatchet.submitting import LIMIT, Submitter
from mageflow.ports.engine import Capabilities, Declared, Engine, Handler, Refused, Submission

__all__ = ["HatchetEngine"]

logger = logging.getLogger("mageflow.hatchet")


class HatchetEngine(Engine):
    """Carries runs over a Hatchet server.

    Args:
        hatchet: the client as the user gave it.
    """

    name = "hatchet"
    capabilities = Capabilities(pulls=False, priorities=True, delays=False, hears_cancel=True, message_limit=LIMIT)

    def __init__(self, hatchet: Hatchet) -> None:
        self.hatchet = hatchet
        self.deliveries = Deliveries()
        self.handles: dict[str, Handle] = {}
        """What users hold of the tasks of this process, by name."""
        self._with_message: set[str] = set()
        self._submitter = Submitter(hatchet)

    def route(self, task: str) -> str:
        """Give one route for a namespace: Hatchet finds the workers of a task by its name."""
        return f"{self.name}:{self.hatchet.namespace}" if self.hatchet.namespace else self.name

    def register(self, task: Declared, handle: Any) -> Handle:
        """Declare a task to Hatchet, and give a real `Standalone` of it."""
        entry = entry_of(task, self.deliveries, lambda: self.handles[task.name].declared)
        made = declare(self.hatchet, task, entry, handle)
        self.handles[task.name] = made
        if needs_message(task.native):
            self._with_message.add(task.name)
        return made

    def needs_message(self, task: str) -> bool:
        return task in self._with_message

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        """Execute what Hatchet's worker brings, until cancelled."""
        await self.deliveries.serve(handler)

    async def aclose(self) -> None:
        self._submitter.close()

    def know(self, names: Sequence[str]) -> None:
        """Take it that Hatchet knows these tasks: a worker of this process has registered them."""
        self._submitter.know(names)

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        return await self._submitter.submit(submissions)

    async def cancel(self, run: RunRecord) -> None:
        """Cancel the run in Hatchet, where it was claimed; a queued one is refused when it is brought."""
        if run.ref is None:
            return
        try:
            await self._submitter.cancel(run.ref)
        except Exception as error:  # noqa: BLE001 - the run is cancelled in any case; what Hatchet shows is less
            logger.warning("run %s is cancelled, and Hatchet could not be told so: %s", run.key, error)
