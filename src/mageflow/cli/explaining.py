"""`mageflow explain`: why a run is where it is."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mageflow import Explanation
from mageflow.cli.choosing import choose
from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened
from mageflow.cli.output import STATUS_STYLES, clean, clock, console, invocation, print_json, span
from mageflow.wording import plural

__all__ = ["explain", "next_step", "print_members"]

_WATCH = 2.5
"""Seconds to wait for a beat: a healthy worker beats once a second."""


def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The id of a run, the key of a signature, or its beginning.", show_default=False
        ),
    ],
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Say why a run is where it is, what it waits for, since when, and the command that moves it.

    Whoever holds a running run is watched for a sign of life, up to 2.5 seconds.

    \b
    mageflow explain run_01k80r
    mageflow explain run_01k80r --json | jq -r .next_step
    """
    told = asyncio.run(_explain(store, key))
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        _print(console(), told)


async def _explain(store: str, wanted: str) -> Explanation:
    async with opened(store) as mage:
        found = await choose(mage, wanted)
        return await mage.explain(getattr(found, "id", "") or getattr(found, "key", ""), watch=_WATCH)


def next_step(told: Explanation) -> str | None:
    """Give the command that moves a run, as it is called from here."""
    if told.next_step is None:
        return None
    return f"{invocation()} {told.next_step.removeprefix('mageflow ')}"


def _print(out: Console, told: Explanation) -> None:
    status = (told.status, STATUS_STYLES.get(told.status, ""))
    out.print(Text.assemble((told.key, "bold"), "  ", clean(told.task_name or ""), "  ", status), soft_wrap=True)
    out.print()
    out.print(Text(clean(told.reason)), soft_wrap=not out.is_terminal)
    step = next_step(told)
    since = f"{clock(told.since)}, for {span(told.since, told.at)}" if told.since is not None else None
    lines = [("waits for", told.waits_for), ("since", since), ("next step", step), ("member of", told.member_of)]
    shown = [(label, text) for label, text in lines if text is not None]
    if shown:
        out.print()
    for label, text in shown:
        out.print(Text.assemble((f"{label:<11}", "bold"), clean(text)), soft_wrap=True)
    if told.members:
        out.print()
        out.print(Text("failed members" if told.waits_for is None else "members on their way", style="bold"))
        print_members(out, told)


def print_members(out: Console, told: Explanation, indent: str = "  ") -> None:
    """Print why the first few members of a chain or swarm are where they are, with theirs below each."""
    for each in told.members:
        status = (each.status, STATUS_STYLES.get(each.status, ""))
        head = Text.assemble(indent, (each.key, "bold"), "  ", clean(each.task_name or ""), "  ", status)
        out.print(head.append(f": {clean(each.reason)}"), soft_wrap=True)
        print_members(out, each, indent + "  ")
    if told.other_members:
        out.print(f"{indent}and {plural(told.other_members, 'other')}")
