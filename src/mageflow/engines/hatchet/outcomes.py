"""What Hatchet is told of an outcome: short, honest, and in a form that it accepts."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from hatchet_sdk import NonRetryableException

from mageflow.core.records import Failure, RunRecord
from mageflow.core.status import RunStatus
from mageflow.engines.hatchet.envelope import Preview, without_nul
from mageflow.ports.engine import Delivered, Reported

__all__ = ["tell"]

_SHOWN = 4096
"""Bytes of a result that Hatchet is shown. More than 4 MiB would be lost on their way, and the run would time out."""
_WORDS = 2000


def tell(delivered: Delivered, run_id: str) -> Preview:
    """Give what the Hatchet run of a delivery returns: an object that is not empty, or Hatchet would keep nothing.

    Raises:
        NonRetryableException: the attempt failed; whether another one follows is decided already, and not by Hatchet.
    """
    run = delivered.run
    match delivered.reported:
        case Reported.SUCCEEDED | Reported.ENDED if run is not None and run.status is RunStatus.SUCCEEDED:
            return _preview(run)
        case Reported.FAILED if run is not None:
            raise NonRetryableException(_words(run))
        case Reported.ENDED if run is not None:
            if run.status is RunStatus.CANCELLED:
                raise NonRetryableException(f"the run {run_id} was cancelled")
            raise NonRetryableException(_words(run))
        case _:
            return Preview(mageflow={"run": run_id, "status": delivered.reported.value})


def _preview(run: RunRecord) -> Preview:
    marker: dict[str, Any] = {"run": run.key, "status": run.status.value}
    result = bytes(run.result) if run.result is not None else b"null"
    if len(result) > _SHOWN:
        marker["bytes"] = len(result)
        text = result[:_SHOWN].decode(errors="ignore")
        return Preview(results=without_nul(text.replace("\\u0000", "")), mageflow=marker)
    value: Any = without_nul(msgspec.json.decode(result))
    if isinstance(value, dict) and "mageflow" not in value:
        return Preview({**cast("dict[str, Any]", value), "mageflow": marker})
    return Preview(results=value, mageflow=marker)


def _words(run: RunRecord) -> str:
    failure = run.failure or Failure(type="Failure", message="for a reason that is not known")
    text = f"{failure.type}: {failure.message}"
    if len(text) > _WORDS:
        text = f"{text[:_WORDS]}…"
    again = "" if run.status is RunStatus.FAILED else "; mageflow tries again"
    return str(without_nul(f"{text} (run {run.key}, attempt {failure.attempt}{again})"))
