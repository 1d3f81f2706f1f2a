"""No engine: a client that looks into a store and steers what is in it."""

from __future__ import annotations

from collections.abc import Sequence

from mageflow.errors import ConfigurationError
from mageflow.ports.engine import Capabilities, Engine, Handler, Refused, Submission

__all__ = ["NoEngine"]


class NoEngine(Engine):
    """Executes nothing. What is started waits for the workers of the program whose store it is."""

    name = "none"
    capabilities = Capabilities(pulls=False, priorities=False, delays=False, hears_cancel=False)

    def route(self, task: str) -> str:
        return self.name

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[Refused]:
        """Do nothing: the workers of the program submit."""
        return ()

    async def serve(self, handler: Handler, *, concurrency: int) -> None:
        raise ConfigurationError("this client only looks into a store; start a worker of the program whose store it is")
