"""A run in each state that it can be in, and one that has called others."""

from __future__ import annotations

from collections.abc import Callable

from mageflow.core.events import Stopped
from mageflow.core.options import Options
from mageflow.core.records import Control
from mageflow.core.status import RunStatus
from tests.core.harness import DONE, World

__all__ = [
    "HOLDS",
    "LIVES",
    "WAITS",
    "Make",
    "ended",
    "interrupted",
    "queued",
    "running",
    "scheduled",
    "statuses",
    "suspended",
    "unroutable",
    "with_callbacks",
]

HOLDS = (Control.SUSPEND, Control.INTERRUPT)


def queued(world: World) -> str:
    return world.start(world.sign("t", done=[world.sign("done")], options=Options(retries=1)))


def scheduled(world: World) -> str:
    return world.start(world.sign("t", done=[world.sign("done")]), options=Options(delay=60.0))


def unroutable(world: World) -> str:
    run = queued(world)
    world.strand(run)
    return run


def running(world: World) -> str:
    run = queued(world)
    world.claim(run)
    return run


def suspended(world: World) -> str:
    run = queued(world)
    world.suspend(run)
    return run


def interrupted(world: World) -> str:
    run = running(world)
    world.interrupt(run)
    world.end(run, Stopped())
    return run


def ended(world: World) -> str:
    run = running(world)
    world.end(run, DONE)
    return run


WAITS = (queued, scheduled, unroutable)
LIVES = (*WAITS, running, suspended, interrupted)
Make = Callable[[World], str]


def with_callbacks(world: World, count: int, *, done: int = 0) -> str:
    """End a run that calls `count` others."""
    after = world.sign("after")
    each = world.sign("each", done=[after] * done)
    run = world.start(world.sign("t", success=[each] * count))
    world.finish(run)
    world.advance_all()
    return run


def statuses(world: World, run: str) -> set[RunStatus]:
    return {callback.status for callback in world.callbacks(run)}
