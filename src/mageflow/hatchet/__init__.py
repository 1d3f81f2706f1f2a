"""Mageflow in the place of a Hatchet client: what `Mageflow(hatchet, redis)` gives."""

from mageflow.hatchet.client import HatchetMageflow
from mageflow.hatchet.tasks import HatchetTask, HatchetTaskOptions
from mageflow.hatchet.worker import HatchetWorker

__all__ = ["HatchetMageflow", "HatchetTask", "HatchetTaskOptions", "HatchetWorker"]
