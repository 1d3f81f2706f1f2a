"""Processes in the place of the one in which hatchet-sdk listens for a worker, with its parameters."""

from __future__ import annotations

import multiprocessing
from typing import Any

WORKER_IDS = 9
STOP = 10


def obedient(*given: Any) -> None:
    """Stop when it is told to."""
    given[WORKER_IDS].put("worker")
    given[STOP].wait()


def deaf(*given: Any) -> None:
    """Never stop, as long as there is a parent."""
    given[WORKER_IDS].put("worker")
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
