"""Beats from outside the event loop: they go on while it is busy, and stop where it stands still."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import pytest

from mageflow.errors import StoreUnavailableError
from mageflow.ports.store import Beater
from mageflow.runtime.heart import Heart

PATIENCE = 20.0


class Counted:
    """Counts beats; the first ones may fail."""

    def __init__(self, failures: int = 0) -> None:
        self.beats = 0
        self.failures = failures
        self.closed_in: threading.Thread | None = None

    def for_worker(self, worker: str) -> Beater:
        assert worker == "wrk_a"
        return self

    def beat(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("on purpose")
        self.beats += 1

    def close(self) -> None:
        self.closed_in = threading.current_thread()


def block_until(arrived: Callable[[], bool]) -> None:
    """Hold the event loop up."""
    until = time.monotonic() + PATIENCE
    while not arrived():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.001)


async def until(arrived: Callable[[], bool]) -> None:
    """Wait while the event loop moves."""
    await asyncio.to_thread(block_until, arrived)


async def test_beats_go_on_while_the_loop_is_busy() -> None:
    counted = Counted()
    heart = asyncio.create_task(Heart(counted.for_worker, every=0.005, max_stall=60).beat("wrk_a"))
    await until(lambda: counted.beats > 0)
    before = counted.beats
    block_until(lambda: counted.beats > before + 5)
    heart.cancel()
    await asyncio.wait([heart])


async def test_beats_stop_where_the_loop_stands_still_and_go_on_with_it(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted()
    heart = asyncio.create_task(Heart(counted.for_worker, every=0.005, max_stall=0.05).beat("wrk_a"))
    await until(lambda: counted.beats > 0)

    def said(words: str) -> int:
        return caplog.text.count(words)

    def stands_still() -> bool:
        return said("stood still") > said("moves again")  # a busy machine may have stopped the loop before, for a while

    with caplog.at_level(logging.WARNING, "mageflow"):
        block_until(stands_still)
        stopped, told = counted.beats, said("stood still")
        ten_beats_later = time.monotonic() + 0.05
        block_until(lambda: time.monotonic() > ten_beats_later)
        assert (counted.beats, said("stood still")) == (stopped, told), "it is said once"
        moved = said("moves again")
        await until(lambda: counted.beats > stopped)
        assert said("moves again") > moved
    heart.cancel()
    await asyncio.wait([heart])


async def test_a_heart_that_is_cancelled_has_ended_its_thread_and_closed_its_connection() -> None:
    counted = Counted()
    heart = asyncio.create_task(Heart(counted.for_worker, every=0.005, max_stall=60).beat("wrk_a"))
    await until(lambda: counted.beats > 0)
    heart.cancel()
    await asyncio.wait([heart])
    assert counted.closed_in is not None
    assert counted.closed_in is not threading.main_thread()
    assert not counted.closed_in.is_alive()


async def test_a_beat_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted(failures=2)
    heart = asyncio.create_task(Heart(counted.for_worker, every=0.005, max_stall=60).beat("wrk_a"))
    with caplog.at_level(logging.WARNING, "mageflow"):
        await until(lambda: counted.beats > 0)
    assert caplog.text.count("could not beat") == 2
    heart.cancel()
    await asyncio.wait([heart])
