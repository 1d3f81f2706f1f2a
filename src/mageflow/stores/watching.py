"""Who wants to hear of changes, and in which event loop: shared by the stores that commit in this process."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Mapping

from mageflow.core.records import Record, RunRecord
from mageflow.ports.store import Ring

__all__ = ["Rings", "Watchers", "ring_out"]

Rings = dict[AbstractEventLoop, list[Callable[[], None]]]
"""What is to be called in each loop."""


class _Watch:
    """One watch; it rings no more once it has ended, however late the ring was on its way."""

    __slots__ = ("loop", "over", "ring")

    def __init__(self, loop: AbstractEventLoop, ring: Ring) -> None:
        self.loop = loop
        self.ring = ring
        self.over = False

    def bind(self, record: Record | None) -> Callable[[], None]:
        def call() -> None:
            if not self.over:
                self.ring(record)

        return call


class Watchers:
    """The watches on one store. Loops add and end them; whoever commits collects the rings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, list[_Watch]] = {}
        self._trees: dict[str, list[_Watch]] = {}
        self._routes: dict[str, list[_Watch]] = {}

    def watch(self, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        return self._add(self._keys, tuple(dict.fromkeys(keys)), ring)

    def watch_tree(self, root: str, ring: Ring) -> Callable[[], None]:
        return self._add(self._trees, (root,), ring)

    def watch_route(self, route: str, ring: Callable[[], None]) -> Callable[[], None]:
        return self._add(self._routes, (route,), lambda _: ring())

    def _add(self, watched: dict[str, list[_Watch]], keys: tuple[str, ...], ring: Ring) -> Callable[[], None]:
        watch = _Watch(asyncio.get_running_loop(), ring)
        with self._lock:
            for key in keys:
                watched.setdefault(key, []).append(watch)

        def end() -> None:
            with self._lock:
                if watch.over:
                    return
                watch.over = True
                for key in keys:
                    watches = watched[key]
                    watches.remove(watch)
                    if not watches:
                        del watched[key]

        return end

    def collect(self, changed: Mapping[str, Record | None], routes: Iterable[str], rings: Rings) -> None:
        """Add to `rings` what is to be called for a commit's records (None: removed) and the routes of its rows."""
        if not (self._keys or self._trees or self._routes):
            return
        with self._lock:
            if self._keys or self._trees:
                for key, record in changed.items():
                    self._gather(self._keys.get(key), record, rings)
                    if self._trees and isinstance(record, RunRecord):
                        self._gather(self._trees.get(record.root or key), record, rings)
            for route in dict.fromkeys(routes):  # in the same order in every process
                self._gather(self._routes.get(route), None, rings)

    def collect_unread(self, keys: set[str], roots: set[str], routes: set[str], rings: Rings) -> None:
        """Add what is to be called for another process's commits, of which only this much is known."""
        with self._lock:
            for watched, told in ((self._keys, keys), (self._trees, roots), (self._routes, routes)):
                for key in sorted(told & watched.keys()):
                    self._gather(watched[key], None, rings)

    def collect_all(self, rings: Rings) -> None:
        """Add what is to be called where anything may have changed."""
        with self._lock:
            for watched in (self._keys, self._trees, self._routes):
                for watches in watched.values():
                    self._gather(watches, None, rings)

    @staticmethod
    def _gather(watches: list[_Watch] | None, record: Record | None, rings: Rings) -> None:
        for watch in watches or ():
            rings.setdefault(watch.loop, []).append(watch.bind(record))


def ring_out(rings: Rings) -> None:
    """Have everything called, by one message to each loop."""
    for loop, calls in rings.items():
        try:
            loop.call_soon_threadsafe(_call_all, calls)
        except RuntimeError:  # the loop was closed, and nobody waits in it any more
            continue


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
