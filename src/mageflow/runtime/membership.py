"""The members of chains and swarms: keep them, add to them, close the list, list them."""

from __future__ import annotations

from collections.abc import Sequence

from mageflow.core.edits import AddMembers, CloseMembers, PutMembers, Resize
from mageflow.core.members import Member, members_keys
from mageflow.core.records import MembersRecord, SignatureRecord
from mageflow.core.replies import MembersReply, SignatureReply
from mageflow.ports.store import Filter
from mageflow.runtime.listing import runs_of
from mageflow.runtime.refusals import found_in
from mageflow.runtime.registry import TaskRegistry
from mageflow.runtime.retracing import Retracing
from mageflow.runtime.transact import Transactor

__all__ = ["Membership"]

_PAGE = 200


class Membership:
    """The operations on the lists of members of one store.

    Args:
        transactor: commits.
        registry: the tasks of this process.
        retracing: tells additions of bodies that are tried again.
    """

    def __init__(self, transactor: Transactor, registry: TaskRegistry, retracing: Retracing) -> None:
        self._tx = transactor
        self._retracing = retracing
        self._registry = registry

    async def put(self, records: Sequence[MembersRecord], active_ttl: float) -> tuple[str, ...]:
        """Keep members of a signature that is put afterwards; give the signatures among them that do not exist."""
        named = dict.fromkeys(member.signature for record in records for member in record.members)
        event = PutMembers(records=tuple(records), active_ttl=active_ttl, token=self._tx.token())
        reply = await self._tx.commit(MembersReply, (*named, *(record.key for record in records)), event)
        return reply.missing

    async def add(self, key: str, members: Sequence[Member], *, more: int, close_when_full: bool) -> MembersReply:
        """Add members to a swarm; the reply says why not, where they were not added."""
        note, ttl = await self._retracing.note("members", key, members)
        event = AddMembers(
            key=key,
            members=tuple(members),
            more=more,
            close_when_full=close_when_full,
            note=note,
            note_ttl=ttl,
            defaults=self._registry.defaults(),
            token=self._tx.token(),
        )
        return await self._tx.commit(MembersReply, (key, note, *(member.signature for member in members)), event)

    async def close(self, key: str) -> SignatureRecord:
        """Let no member be added to a swarm any more."""
        event = CloseMembers(key=key, defaults=self._registry.defaults(), token=self._tx.token())
        return found_in(await self._tx.commit(SignatureReply, (key,), event), key)

    async def resize(self, key: str, window: int) -> SignatureRecord:
        """Change the window of a swarm, and of its live runs."""
        event = Resize(key=key, window=window, token=self._tx.token())
        record = found_in(await self._tx.commit(SignatureReply, (key,), event), key)
        async for run in runs_of(self._tx.store, Filter(signature=key, live=True)):
            await self.resize_run(run.key, window)
        return record

    async def resize_run(self, run: str, window: int) -> None:
        """Change the window of one run of a swarm; one that has ended keeps its own."""
        event = Resize(key=run, window=window, defaults=self._registry.defaults(), token=self._tx.token())
        await self._tx.commit(SignatureReply, (run,), event)

    async def signatures(self, record: SignatureRecord) -> list[str]:
        """Give the keys of the signatures of the members of a chain or swarm, in member order."""
        count = record.roster.count if record.roster is not None else 0
        pages = members_keys(record.key, 0, count)
        keys: list[str] = []
        for begin in range(0, len(pages), _PAGE):
            found = await self._tx.load(pages[begin : begin + _PAGE])
            for page in pages[begin : begin + _PAGE]:
                members = found[page]
                if isinstance(members, MembersRecord):
                    keys.extend(member.signature for member in members.members)
        return keys
