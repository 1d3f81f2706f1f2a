"""The Redis store: what callers see of it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from mageflow.core.decision import Decide, Decision
from mageflow.core.records import OutboxRow, Record
from mageflow.errors import ConfigurationError, CorruptRecordError
from mageflow.ports.clock import Clock, SystemEntropy
from mageflow.ports.store import Beater, Claims, DecideClaim, Filter, Page, Ring
from mageflow.stores.paging import cursor_after, place_of
from mageflow.stores.redis import scripts
from mageflow.stores.redis.beater import RedisBeater
from mageflow.stores.redis.bells import Bell
from mageflow.stores.redis.claims import Pull
from mageflow.stores.redis.layout import conditions, kind_term
from mageflow.stores.redis.link import Line, Link
from mageflow.stores.redis.opening import FORMAT, facts_of, look_over
from mageflow.stores.redis.settings import NAMESPACE, settings_of, split_namespace
from mageflow.stores.redis.writer import Site, Writer
from mageflow.stores.sharing import shares
from mageflow.stores.watching import Watchers

__all__ = ["RedisStore"]

logger = logging.getLogger("mageflow.store")

_LOOKED_AT = 5000
"""Records that one script looks at for a listing, so that it holds nobody up for more than some milliseconds."""
_PURGED_AT_ONCE = 1000

_inherited: list[object] = []
"""Connections of a parent process: closing them here would speak on its sockets."""


class _Station:
    """The connections of one event loop."""

    def __init__(self, store: RedisStore, site: Site) -> None:
        self.loop = asyncio.get_running_loop()
        self.writer = Writer(Link(store.settings, store.location), site)
        self.reading = Line(Link(store.settings, store.location))
        self.bell = Bell(store.settings, store.location, site.space, site.sender, site.watchers)
        self.opening = asyncio.Lock()
        self._end: AsyncGenerator[None] | None = None

    async def open(self) -> None:
        """From now on the loop's end closes the connections, where nobody else does."""
        if self._end is None:
            self._end = self._until_the_loop_ends()
            await anext(self._end)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        # asyncio closes generators that are open when a loop ends, as `asyncio.run` does; it tells nobody else.
        try:
            yield
        finally:
            await self.bell.close()
            await self.writer.close()
            await self.reading.close()

    async def close(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            await end.aclose()


class RedisStore:
    """Keeps everything in one namespace of a Redis or Valkey server, which processes of many machines may use at once.

    Nothing is opened before the first call, which may come from any event loop; each loop has connections of its own.

    Args:
        server: a URL (`redis://`, `rediss://`, `unix://`; `?namespace=` is read too), or a client of redis-py whose
            settings are used; the client itself is not.
        namespace: what all keys begin with, in braces: on a cluster-aware proxy all of it stays on one shard.
        clock: the store's time; None: the server's.

    Raises:
        ConfigurationError: the server cannot be the store, or the client's settings cannot be used again.
    """

    def __init__(self, server: object, *, namespace: str | None = None, clock: Clock | None = None) -> None:
        named = NAMESPACE
        if isinstance(server, str):
            server, named = split_namespace(server)
        name = namespace if namespace is not None else named
        if not name or "{" in name or "}" in name:
            raise ConfigurationError(f"the namespace {name!r} cannot be used; give a name without braces")
        self.settings = settings_of(server)
        self._space = f"{{{name}}}:"
        self._location = self.settings.location
        if name != NAMESPACE:  # as `--store` takes it: commands that are suggested name it thus
            self._location += f"{'&' if '?' in self._location else '?'}namespace={quote(name)}"
        self._clock = clock
        self._pid = os.getpid()
        self._blamed: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._site = Site(self._space, SystemEntropy().token(), self._clock, Watchers())
        self._stations: dict[AbstractEventLoop, _Station] = {}
        self._is_open = False
        self._is_marked = False

    @property
    def location(self) -> str:
        return self._location

    def _station(self) -> _Station:
        if self._pid != os.getpid():  # forked
            _inherited.append((self._stations, self._lock, self._site))
            self._pid = os.getpid()
            self._begin()
        loop = asyncio.get_running_loop()
        station = self._stations.get(loop)
        if station is None:
            station = _Station(self, self._site)
            with self._lock:
                for ended in [each for each in self._stations if each.is_closed()]:
                    del self._stations[ended]
                self._stations[loop] = station
        return station

    async def _opened(self) -> _Station:
        station = self._station()
        await station.open()
        if not self._is_open:
            async with station.opening:
                if not self._is_open:
                    self._site.largest = await look_over(station.reading, self.location, self._space)
                    self._is_open = True
        return station

    async def _writing(self) -> _Station:
        station = await self._opened()
        if not self._is_marked:
            await station.reading.ask(("SET", f"{self._space}format".encode(), FORMAT, "NX"), is_write=True)
            self._is_marked = True
        return station

    async def now(self) -> float:
        if self._clock is not None:
            return self._clock.now()
        station = await self._opened()
        (answer,) = await station.reading.ask(("TIME",))
        return float(answer[0]) + float(answer[1]) / 1_000_000

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        if not keys:
            return {}
        station = await self._opened()
        (answer,) = await station.reading.ask(scripts.load(self._space, keys, companions=False))
        found = scripts.read_loaded(answer)[1]
        records: dict[str, Record | None] = {}
        for key in keys:
            record = found[key]
            if isinstance(record, CorruptRecordError):
                raise record
            records[key] = record
        return records

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        station = await self._writing()
        return await station.writer.commit(keys, decide, token)

    async def claim(
        self,
        routes: Collection[str],
        tasks: Collection[str],
        limit: int,
        decide: DecideClaim,
        *,
        token: str,
        taken: int = 0,
    ) -> Claims:
        station = await self._writing()
        future = station.loop.create_future()
        return await station.writer.pull(Pull(routes, tasks, shares(taken, limit), decide, token, future))

    async def due(self, routes: Collection[str], limit: int, *, redeliver_after: float) -> list[OutboxRow]:
        station = await self._writing()
        command = scripts.give(self._space, routes, limit, redeliver_after, self._site.now())
        (answer,) = await station.reading.ask(command, is_write=True)
        return scripts.read_given(answer)

    async def strays(self, routes: Collection[str], tasks: Collection[str], limit: int) -> list[OutboxRow]:
        station = await self._opened()
        command = scripts.look(self._space, routes, tasks, [False] * limit, self._site.now(), others=True)
        (answer,) = await station.reading.ask(command)
        return [row for row, _ in scripts.read_looked(answer).rows]

    async def beats(self) -> Mapping[str, int]:
        station = await self._opened()
        (answer,) = await station.reading.ask(scripts.beats(self._space))
        return scripts.read_beats(answer)

    def beater(self, worker: str) -> Beater:
        return RedisBeater(self.settings, self.location, self._space, worker)

    async def query(self, where: Filter, *, limit: int, cursor: str | None = None) -> Page:
        after: tuple[str, float] | None = None
        if cursor is not None:
            created_at, key = place_of(cursor)
            after = key, created_at
        station = await self._opened()
        wanted = conditions(where)
        records: list[Record] = []
        left = limit
        last = ""
        while True:
            command = scripts.find(self._space, wanted, after, left, _LOOKED_AT)
            (answer,) = await station.reading.ask(command)
            found = scripts.read_found(answer)
            for key, created_at, record in found.records:
                last = cursor_after(created_at, key)
                if not isinstance(record, CorruptRecordError):
                    records.append(record)
                elif key not in self._blamed:
                    self._blamed.add(key)
                    logger.error("%s: %s", self.location, record)
            if found.count > left:
                return Page(tuple(records), last or None)
            if found.is_all:
                return Page(tuple(records), None)
            left -= found.count
            after = found.after

    async def count(self, where: Filter) -> int:
        station = await self._opened()
        wanted = conditions(where)
        counted = 0
        after: tuple[str, float] | None = None
        while True:
            (answer,) = await station.reading.ask(scripts.find(self._space, wanted, after, None, _LOOKED_AT))
            found = scripts.read_found(answer)
            counted += found.count
            if found.is_all:
                return counted
            after = found.after

    async def purge(self, limit: int) -> int:
        station = await self._opened()
        removed: dict[str, None] = {}
        skip = 0
        while len(removed) < limit:
            command = scripts.purge(
                self._space, limit - len(removed), skip, _PURGED_AT_ONCE, self._site.sender, self._site.now()
            )
            ((skip, is_all, keys),) = await station.reading.ask(command, is_write=True)
            gone = {key.decode(): None for key in keys}
            removed.update(gone)
            self._site.ring_removed(gone)
            if is_all:
                break
        return len(removed)

    def watch(self, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        wanted = tuple(dict.fromkeys(keys))
        return self._watch(self._site.watchers.watch(wanted, ring), [f"k{key}" for key in wanted])

    def watch_tree(self, root: str, ring: Ring) -> Callable[[], None]:
        return self._watch(self._site.watchers.watch_tree(root, ring), [f"t{root}"])

    def watch_route(self, route: str, ring: Callable[[], None]) -> Callable[[], None]:
        return self._watch(self._site.watchers.watch_route(route, ring), [f"r{route}"])

    def _watch(self, end_here: Callable[[], None], channels: list[str]) -> Callable[[], None]:
        end_there = self._station().bell.want(channels)
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                end_here()
                end_there()

        return end

    async def describe(self) -> Mapping[str, Any]:
        station = await self._opened()
        facts = await facts_of(station.reading, self.location)
        kinds = ("run", "signature", "worker", "task")
        *sizes, rows = await station.reading.ask(
            *(("ZCARD", self._space.encode() + kind_term(kind).encode()) for kind in kinds),
            ("HLEN", f"{self._space}rows".encode()),
        )
        release = facts.get("valkey_version") or facts.get("redis_version", "")
        return {
            "store": "redis",
            "server": f"{facts.get('server_name', 'redis')} {release}",
            "namespace": self._space[1:-2],
            "schema": FORMAT,
            "records": sum(sizes),
            "outbox": rows,
            "bytes": int(facts.get("used_memory", 0)),
            "eviction": facts.get("maxmemory_policy"),
            "append_only": facts.get("aof_enabled") == "1",
            "corrupt": sorted(self._blamed),
        }

    async def aclose(self) -> None:
        with self._lock:
            stations, self._stations = self._stations, {}
        here = asyncio.get_running_loop()
        if self._pid != os.getpid():
            return
        for loop, station in stations.items():
            if loop is here:
                await station.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(station.close(), loop))
