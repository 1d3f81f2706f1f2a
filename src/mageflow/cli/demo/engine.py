"""What the demo's client is made of: the embedded engine and a file, unless `--engine` and `--store` name a server's.

The command says which, and its worker processes read it from their environment. Where the engine is a Taskiq broker,
`taskiq worker mageflow.cli.demo.engine:engine mageflow.cli.demo.program` finds it here.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from mageflow.cli.demo import ENGINE_VARIABLE, FILE, STORE_VARIABLE

__all__ = ["KEPT", "REDELIVER_AFTER", "STORE", "engine"]

STORE = os.environ.get(STORE_VARIABLE, FILE)

_AHEAD = 8
"""Messages that a worker takes from the broker at once: those that it holds are no other worker's to do."""
_LONGEST_STREAM = 1000
_LISTENS = 200
"""Milliseconds, after which a listener that has heard nothing looks whether it is to end."""


def _engine(name: str) -> Any:
    if name == "taskiq":
        from taskiq_redis import RedisStreamBroker  # noqa: PLC0415 - an extra

        url, _, space = STORE.partition("namespace=")
        return RedisStreamBroker(
            url.rstrip("?&"),
            queue_name=f"{space}-queue",
            xread_block=_LISTENS,
            xread_count=_AHEAD,
            maxlen=_LONGEST_STREAM,
        )
    if name == "hatchet":
        from hatchet_sdk import ClientConfig, Hatchet  # noqa: PLC0415 - an extra

        # Hatchet knows tasks by their names: in a namespace they do not take the place of anybody's `write_report`.
        return Hatchet(config=ClientConfig(namespace="mageflow-demo"))
    return None


engine = _engine(os.environ.get(ENGINE_VARIABLE, ""))

# A demo that was interrupted can be taken up again for as long as its runs are kept. A server has others to serve.
KEPT = timedelta(days=30) if engine is None else timedelta(days=1)

REDELIVER_AFTER = 5.0
"""Seconds: messages that died with a worker are sent again. Ours wait for nothing else, since the window is small."""
