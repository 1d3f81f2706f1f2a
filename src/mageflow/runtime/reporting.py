"""What an engine is told of a delivery."""

from __future__ import annotations

from mageflow.core.records import RunRecord
from mageflow.core.replies import Verdict
from mageflow.core.status import RunStatus
from mageflow.ports.engine import Delivered, Reported

__all__ = ["REPORTED", "delivered"]

REPORTED = {
    Verdict.HELD: Reported.DUPLICATE,
    Verdict.ABSENT: Reported.DUPLICATE,
    Verdict.PARKED: Reported.HELD_BACK,
    Verdict.EARLY: Reported.HELD_BACK,
    Verdict.ENDED: Reported.ENDED,
}
"""What is told of a claim that was not granted."""


def delivered(run: RunRecord | None, kept: RunRecord | None) -> Delivered:
    """Say what an attempt of this worker came to, and what was kept with it; None: the run was taken from it."""
    if run is None:
        return Delivered(Reported.DUPLICATE, kept=kept)
    if run.status is RunStatus.SUCCEEDED:
        return Delivered(Reported.SUCCEEDED, run, kept)
    if run.status is RunStatus.FAILED or run.failure is not None:
        return Delivered(Reported.FAILED, run, kept)
    return Delivered(Reported.HELD_BACK, run, kept)
