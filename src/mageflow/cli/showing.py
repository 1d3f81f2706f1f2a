"""`mageflow show`: all that there is to see of one run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mageflow import Explanation, RunHandle
from mageflow.cli.choosing import choose_run
from mageflow.cli.explaining import next_step
from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened
from mageflow.cli.output import (
    STATUS_STYLES,
    called,
    clean,
    clock,
    console,
    counted,
    print_json,
    span,
    summary,
    waits,
)
from mageflow.models.run import Progress, RunInfo

__all__ = ["show"]

_PAGE = 500
_SHOWN = 10
"""How many members are shown: of more, those that failed."""


def show(
    run: Annotated[str, typer.Argument(metavar="ID", help="The run's id, or the beginning of it.", show_default=False)],
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show a run: its times, its message, what it came to, what caused it and what it caused.

    Of a chain or swarm also its progress, and members: of more than 10, the first that failed.

    \b
    mageflow show run_01k80r
    mageflow show run_01k80r --json | jq .failure.message
    """
    seen = asyncio.run(_look(store, run))
    if as_json:
        why = seen.why.model_dump(mode="json") if seen.why is not None else None
        caused = [each.id for each in seen.caused]
        members = [each.id for each in seen.members]
        print_json(seen.run.model_dump(mode="json") | {"caused": caused, "members": members, "explanation": why})
    else:
        _print(console(), seen)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run, the run that caused it, the runs that it caused, and why it has not ended."""

    run: RunInfo
    cause: RunInfo | None
    caused: list[RunInfo]
    """In the order in which they were made."""
    members: list[RunInfo]
    """Of a chain or swarm: those that were begun last, in member order."""
    why: Explanation | None


async def _look(store: str, wanted: str) -> _Seen:
    async with opened(store) as mage:
        handle = await choose_run(mage, wanted, "show")
        info = await handle.info()
        why = None if info.status.is_terminal else await mage.explain(info.id)
        cause = await mage.load_run(info.cause) if info.cause is not None else None
        followed = await _what_followed(handle, info)
        caused = [each for each in followed if each.parent != info.id]
        members = sorted((each for each in followed if each.parent == info.id), key=lambda each: each.place or 0)
        return _Seen(info, cause.seen if cause is not None else None, _as_made(info, caused), members, why)


async def _what_followed(handle: RunHandle[Any], info: RunInfo) -> list[RunInfo]:
    """Give the runs that follow from one: of a chain or swarm, the newest, among which are all of its callbacks."""
    page = await handle.caused(limit=_PAGE)
    found = [each.seen for each in page]
    while page.cursor is not None and (info.progress is None or found[-1].parent != info.id):
        page = await handle.caused(limit=_PAGE, cursor=page.cursor)
        found.extend(each.seen for each in page)
    return found


def _as_made(info: RunInfo, caused: list[RunInfo]) -> list[RunInfo]:
    """Order callbacks as they were dispatched: success, error, done, each list from its front."""
    slots = [*info.success_callbacks, *info.error_callbacks, *info.done_callbacks]
    places = {key: place for place, key in reversed(list(enumerate(slots)))}
    return sorted(caused, key=lambda each: (places.get(each.signature, len(slots)), each.created_at, each.id))


def _print(out: Console, seen: _Seen) -> None:
    run = seen.run
    out.print(Text.assemble((run.id, "bold"), "  ", called(run), "  ", _status(run)), soft_wrap=True)
    out.print()
    for label, value in _facts(run):
        _field(out, label, value)
    if run.cause is not None:
        expired = f"{run.cause}, which has expired"
        before = _mention(seen.cause) if seen.cause is not None else Text(expired)
        if run.parent is not None and run.place is not None:
            _field(out, "member", Text.assemble(f"{run.place + 1:,} of  ", before))
        else:
            _field(out, "cause", before)
    if seen.why is not None:
        _field(out, "why", clean(seen.why.reason))
        if (step := next_step(seen.why)) is not None:
            _field(out, "next step", step)
    _block(out, "message", _pretty(run.message))
    if run.status == "succeeded" and run.progress is None:
        _block(out, "result", _pretty(run.result))
    if run.failure is not None:
        _block(out, "failure", f"{run.failure.type}: {run.failure.message}")
        if run.failure.traceback:
            _block(out, "", run.failure.traceback, style="dim")
    if run.progress is not None and seen.members:
        _members(out, run.progress.total, seen.members)
    if seen.caused:
        out.print()
        out.print(Text("caused", style="bold"))
        for each in seen.caused:
            out.print(Text.assemble("  ", _mention(each)), soft_wrap=True)


def _members(out: Console, total: int, members: list[RunInfo]) -> None:
    out.print()
    out.print(Text("members", style="bold"))
    failed = [each for each in members if each.status == "failed"]
    shown = (
        members if len(members) <= _SHOWN else sorted((failed or members)[:_SHOWN], key=lambda each: each.place or 0)
    )
    for each in shown:
        out.print(Text.assemble(f"  {(each.place or 0) + 1:>{len(str(total))}}. ", _mention(each)), soft_wrap=True)
    if len(shown) < total:
        out.print(f"  and {total - len(shown):,} more")


def _facts(run: RunInfo) -> list[tuple[str, str]]:
    facts = [("created", clock(run.created_at))]
    if run.started_at is not None and not waits(run):
        facts.append(("started", f"{clock(run.started_at)}, {span(run.due_at, run.started_at)} after it was due"))
    else:
        facts.append(("due", clock(run.due_at)))
    if run.ended_at is not None:
        took = f", after {span(run.started_at, run.ended_at)}" if run.started_at is not None else ""
        facts.append(("ended", clock(run.ended_at) + took))
    if run.progress is not None:
        facts.append((run.kind, _progress(run.progress)))
        facts.append(("signature", run.signature))
        return facts
    allowed = f" ({run.retries} {'retry' if run.retries == 1 else 'retries'} allowed)" if run.retries else ""
    facts.append(("attempts", f"{run.attempts}{allowed}"))
    if run.priority != 1:
        facts.append(("priority", str(run.priority)))
    if run.control:
        facts.append(("asked", run.control))
    facts.append(("signature", run.signature))
    if run.worker is not None:
        facts.append(("worker", run.worker))
    return facts


def _progress(progress: Progress) -> str:
    return counted(progress) + ("" if progress.closed else "; it is open")


def _status(run: RunInfo) -> tuple[str, str]:
    return run.status.value, STATUS_STYLES.get(run.status, "")


def _mention(run: RunInfo) -> Text:
    came_to = summary(run)
    text = Text.assemble(run.id, "  ", called(run), "  ", _status(run))
    if came_to:
        text.append(f"  {came_to if len(came_to) <= 100 else came_to[:99] + '…'}", style="dim")
    return text


def _field(out: Console, label: str, value: str | Text) -> None:
    out.print(Text.assemble((f"{label:<10}", "bold"), value), soft_wrap=True)


def _block(out: Console, label: str, text: str, *, style: str = "") -> None:
    out.print()
    if label:
        out.print(Text(label, style="bold"))
    for line in clean(text).splitlines():
        out.print(Text(f"  {line}", style=style), soft_wrap=True)


def _pretty(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, indent=2, ensure_ascii=False)
