"""Making signatures like one that there is."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from mageflow.core.members import members_keys
from mageflow.core.records import Control, MembersRecord, SignatureRecord, replace
from mageflow.errors import OptionError
from mageflow.runtime.kernel import Kernel
from mageflow.runtime.refusals import signature_gone
from mageflow.signing import Blueprint

__all__ = ["Duplicable"]

_AT_ONCE = 100
_PAGES_AT_ONCE = 20


class Duplicable(Blueprint):
    """A signature that can be had once more."""

    async def aduplicate(self) -> Self:
        """Keep one more signature like this one: see `aduplicate_many`."""
        (copy,) = await self.aduplicate_many(1)
        return copy

    async def aduplicate_many(self, n: int) -> list[Self]:
        """Keep `n` more signatures like this one as it is now.

        What it holds itself is copied: bound data, options, its lists of callbacks and of members. The signatures that
        these lists name are shared, as they are between any two that name them. A copy has no runs, is not held, and is
        open unless somebody closed the original.

        Raises:
            SignatureNotFoundError: the signature, or one that it names, is gone.
            OptionError: `n` is no number of copies.
        """
        asked: Any = n  # what is typed as a number may be anything where no checker looked
        if isinstance(asked, bool) or not isinstance(asked, int) or asked < 0:
            raise OptionError(f"{n!r} copies cannot be made; give a whole number of 0 or more", option="n")
        self._held.kernel.check_open()
        await self.refresh()
        return [await self._like(record) for record in await _duplicate(self._held.kernel, self._held.record, n)]

    async def refresh(self) -> None:
        """Read the signature again.

        Raises:
            SignatureNotFoundError: it was removed or has expired.
        """
        await self._held.refresh()

    async def _like(self, record: SignatureRecord) -> Self:
        """Give what users hold of a copy."""
        return type(self)(self._held.kernel, record)


async def _duplicate(kernel: Kernel, record: SignatureRecord, count: int) -> list[SignatureRecord]:
    copies: list[SignatureRecord] = []
    while len(copies) < count:
        several = range(min(_AT_ONCE, count - len(copies)))
        copies += await asyncio.gather(*(_copy(kernel, record) for _ in several))
    return copies


async def _copy(kernel: Kernel, record: SignatureRecord) -> SignatureRecord:
    roster = record.roster
    if roster is not None:
        roster = replace(roster, closed=roster.closed and not roster.stopped, stopped=False, feeds=())
    made = replace(
        record,
        key=await kernel.retracing.copy_key(record),
        rev=0,
        token="",
        created_at=0.0,
        expires_at=None,
        roster=roster,
        control=Control.NONE,
        control_at=None,
    )
    if roster is not None:
        await _copy_members(kernel, record, made, roster.count)
    return await kernel.put_signature(made)


async def _copy_members(kernel: Kernel, record: SignatureRecord, made: SignatureRecord, count: int) -> None:
    """Keep the copies of the members before the signature that names them, as when a chain or swarm is made."""
    pages = members_keys(record.key, 0, count)
    for begin in range(0, len(pages), _PAGES_AT_ONCE):
        keys = pages[begin : begin + _PAGES_AT_ONCE]
        found = await kernel.tx.load(keys)
        copies: list[MembersRecord] = []
        for key in keys:
            page = found[key]
            if not isinstance(page, MembersRecord):
                raise signature_gone(record.key)
            own = made.key + key.removeprefix(record.key)
            copies.append(replace(page, key=own, rev=0, token="", created_at=0.0, expires_at=None, owner=made.key))
        if missing := await kernel.membership.put(copies, made.active_ttl):
            raise signature_gone(missing[0])
