"""The Hatchet engine, the extra `mageflow[hatchet]`."""

from importlib.metadata import PackageNotFoundError, version

try:
    _found = version("hatchet-sdk")
except PackageNotFoundError:
    _found = ""
if tuple(int(part) for part in _found.split(".")[:2] if part.isdigit()) < (1, 43):
    raise ImportError(
        f"the Hatchet engine needs hatchet-sdk 1.43 or later, and there is {_found or 'none'}: "
        "pip install 'mageflow[hatchet]'"
    )

from mageflow.engines.hatchet.declaring import followed, seconds
from mageflow.engines.hatchet.engine import HatchetEngine
from mageflow.engines.hatchet.sdk import (
    BaseWorkflow,
    Handle,
    Standalone,
    StubsClient,
    WorkersClient,
    client_of,
    end_listeners,
    loop_of,
    slots_of,
    stop_listening,
)

__all__ = [
    "BaseWorkflow",
    "Handle",
    "HatchetEngine",
    "Standalone",
    "StubsClient",
    "WorkersClient",
    "client_of",
    "end_listeners",
    "followed",
    "loop_of",
    "seconds",
    "slots_of",
    "stop_listening",
]
