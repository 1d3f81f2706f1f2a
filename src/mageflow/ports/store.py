"""What a store promises.

A store keeps records and an outbox and knows nothing of what they mean: it loads records, lets the core decide, and
commits the decision if nothing it was decided on has changed. The guarantees below are tested for every store by
`mageflow.testing.contracts`.

* **Atomic.** All of a decision is committed, or nothing: writes, deletes, touches, rows settled and rows put.
* **Fenced.** A decision is committed only if every record that it was decided on, written or merely read, still has the
  revision that was loaded; otherwise it is made again on what is there now. A revision of 0 means that the record must
  not exist.
* **Repeatable.** Every record that a commit writes carries the commit's token. After `StoreUnavailableError` it is
  unknown whether the commit happened; the caller repeats it with the same token, and the core finds it on the records.
* **Durable** as far as the store says it is; a commit that was answered is seen by every later read of any process.
* **Protecting.** `purge` removes what has expired, and never what something unexpired or live still refers to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from mageflow.core.decision import Decide, Decision
from mageflow.core.records import OutboxRow, Record
from mageflow.core.replies import ClaimReply

__all__ = ["OLDEST_EVERY", "Beater", "Claims", "DecideClaim", "Filter", "Page", "Ring", "Store"]

OLDEST_EVERY = 8
"""One of so many rows that are taken is the longest due, whatever its priority: no priority starves another."""


class Filter(Struct, frozen=True, kw_only=True):
    """Which records `query` gives; every field that is set must match."""

    kind: str = "run"
    statuses: tuple[str, ...] = ()
    live: bool | None = None
    task: str | None = None
    signature: str | None = None
    root: str | None = None
    cause: str | None = None
    worker: str | None = None
    """Runs that this worker holds now."""
    names: str | None = None
    """Records that name this one (signatures of which it is a callback)."""
    due_after: float | None = None
    """Runs whose `due_at` is later than this."""
    due_before: float | None = None
    """Runs whose `due_at` is this or earlier."""


class Page(Struct, frozen=True):
    """Some records, newest first, and where to go on."""

    records: tuple[Record, ...]
    cursor: str | None
    """Give it to the next `query`; None: there are no more."""


class Claims(Struct, frozen=True):
    """What a pull for work brought."""

    replies: tuple[ClaimReply, ...]
    """A reply for every row that was looked at; those that are `CLAIMED` are the caller's now."""
    next_due: float | None
    """When the next row of these routes is due (seconds since the epoch); now, where the limit cut the pull short."""


Ring = Callable[[Record | None], None]
"""Called in the watcher's event loop with the record as committed, or None where only the fact of a change is known."""

DecideClaim = Callable[[OutboxRow], tuple[Collection[str], Decide]]
"""Gives for a row the keys to load and the claim's decision, whose reply is a `ClaimReply`."""


class Beater(Protocol):
    """Beats for one worker, from one thread that need not be an event loop's, and beside all else that the store does.

    Nothing is opened before the first beat. A beat waits for nobody in this process: neither an event loop that stands
    still nor a long batch of commits holds it up.
    """

    def beat(self) -> None:
        """Add one to the worker's beat, if its record exists.

        Raises:
            StoreError: it could not be done; the next beat tries anew.
        """
        ...

    def close(self) -> None:
        """Let go of what the beats have opened; called in the thread that beat."""
        ...


class Store(Protocol):
    """Where signatures, runs, workers and the outbox live."""

    @property
    def location(self) -> str:
        """Say for people where this is (a path, a URL without its password)."""
        ...

    async def now(self) -> float:
        """Give the store's time: seconds since the epoch. All delays and expiries are by this clock."""
        ...

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """Read records; None for a key that the store does not have."""
        ...

    async def transact(self, keys: Collection[str], decide: Decide, *, token: str) -> Decision:
        """Load `keys`, decide, commit; again on newer revisions, with the same `now`.

        `decide` is called with all that was loaded so far and may ask for more by `Need`. It may be called in another
        thread and more than once. The returned decision is the committed one; the records in its `reply` are as
        decided (one revision behind those in the store).

        Raises:
            StoreUnavailableError: it is unknown whether the commit happened; repeat it with the same token.
            StoreConflictError: newer revisions turned up again and again.
            CorruptRecordError: a record cannot be read.
            StoreError: the store refused (read-only, full, too large); nothing was committed.
        """
        ...

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
        """Pull up to `limit` due rows of `routes` whose task is in `tasks`, and commit their claims.

        Highest priority first, then the longest due, then in the order in which they were put. But of the rows that
        one caller takes, counted through all its pulls, every `OLDEST_EVERY`-th is the longest due of any priority:
        however much of a higher priority keeps coming, a row is begun once the callers have had `OLDEST_EVERY` turns
        for each that is longer due. `taken` is how many rows the caller has had replies for before this pull.

        For engines whose queue is the outbox itself. Each row's claim is decided and fenced on its own: one that fails
        leaves the others alone.
        """
        ...

    async def due(self, routes: Collection[str], limit: int, *, redeliver_after: float) -> list[OutboxRow]:
        """Give due rows for submission to an engine, and set when each is given again.

        That is `redeliver_after` seconds from now, doubling with each delivery up to an hour. A row that was given
        before is given again only if one of its route that was given later has been removed since, or if no row of its
        route that had been given was removed for its whole wait: a backlog alone redelivers nothing. The order is as in
        `claim`; what was taken before is how many rows these routes were given so far.
        The returned rows count the delivery that is to be made now.
        """
        ...

    async def strays(self, routes: Collection[str], tasks: Collection[str], limit: int) -> list[OutboxRow]:
        """Give due rows of `routes` whose task is not in `tasks`; nothing is changed."""
        ...

    async def beats(self) -> Mapping[str, int]:
        """Give the beats of all worker records, by key."""
        ...

    def beater(self, worker: str) -> Beater:
        """Give what beats for `worker` from a thread of the caller's."""
        ...

    async def query(self, where: Filter, *, limit: int, cursor: str | None = None) -> Page:
        """List records, newest first (by `created_at`, then by key)."""
        ...

    async def count(self, where: Filter) -> int:
        """Count records."""
        ...

    async def purge(self, limit: int) -> int:
        """Remove up to `limit` expired records; give how many were removed.

        A live run, and the signature, cause, root and lineage of a live run, are kept; so is all that a kept
        signature names, to any depth: its expiry moves along with the one that names it. A member of a chain or swarm
        is kept as long as the run that it is a member of.
        """
        ...

    def watch(self, keys: Iterable[str], ring: Ring) -> Callable[[], None]:
        """Ring at changes of these records, in the running event loop; returns what ends the watch.

        A ring may be spurious or late, and where another process made the change it may be missing: a watcher
        reads again from time to time.
        """
        ...

    def watch_tree(self, root: str, ring: Ring) -> Callable[[], None]:
        """Ring at changes of the runs whose root is `root`, as `watch` does."""
        ...

    def watch_route(self, route: str, ring: Callable[[], None]) -> Callable[[], None]:
        """Ring when rows of `route` were put, as `watch` does."""
        ...

    async def describe(self) -> Mapping[str, Any]:
        """Give facts for people: version, size, settings that matter."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads; what was committed stays. Later calls open the store again."""
        ...
