"""`mageflow purge`: remove what has expired."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened, shown
from mageflow.cli.output import console, print_json
from mageflow.wording import plural

__all__ = ["purge"]


def purge(
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Remove what has expired: finished runs and unused signatures whose time is over.

    Workers do so once a minute; this is for a store that none has looked after. What a live run or a kept signature
    still refers to is kept. The file keeps its size: what comes next takes the room.

    \b
    mageflow purge --store flows.db
    """
    removed = asyncio.run(_purge(store))
    if as_json:
        print_json({"removed": removed})
    else:
        gone = f"Removed {plural(removed, 'record')} that had expired from {shown(store)}."
        console().print(gone if removed else f"Nothing had expired in {shown(store)}.", soft_wrap=True)


async def _purge(store: str) -> int:
    async with opened(store) as mage:
        return await mage.purge()
