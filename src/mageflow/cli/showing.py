"""`mageflow show`: all that there is to see of one run."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened
from mageflow.cli.output import (
    STATUS_STYLES,
    CommandError,
    clean,
    clock,
    console,
    print_json,
    span,
    summary,
    waits,
)
from mageflow.client import Mageflow
from mageflow.handles import RunHandle
from mageflow.models.run import RunInfo

__all__ = ["show"]

_PAGE = 500
_PREFIX = "run_"
_MENTIONED = 5


def show(
    run: Annotated[str, typer.Argument(metavar="ID", help="The run's id, or the beginning of it.", show_default=False)],
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show a run: its times, its message, what it came to, what caused it and what it caused.

    \b
    mageflow show run_01k80r
    mageflow show run_01k80r --json | jq .failure.message
    """
    info, cause, caused = asyncio.run(_look(store, run))
    if as_json:
        print_json(info.model_dump(mode="json") | {"caused": [each.id for each in caused]})
    else:
        _print(console(), info, cause, caused)


async def _look(store: str, wanted: str) -> tuple[RunInfo, RunInfo | None, list[RunInfo]]:
    """Read a run, the run that caused it, and the runs that it caused, in the order in which they were made."""
    async with opened(store) as mage:
        handle = await mage.load_run(wanted) or await _by_prefix(mage, wanted, store)
        info = await handle.info()
        cause = await mage.load_run(info.cause) if info.cause is not None else None
        caused: list[RunInfo] = []
        page = await handle.caused(limit=_PAGE)
        caused.extend(each.seen for each in page)
        while page.cursor is not None:
            page = await handle.caused(limit=_PAGE, cursor=page.cursor)
            caused.extend(each.seen for each in page)
        return info, cause.seen if cause is not None else None, _as_made(info, caused)


def _as_made(info: RunInfo, caused: list[RunInfo]) -> list[RunInfo]:
    """Order callbacks as they were dispatched: success, error, done, each list from its front."""
    slots = [*info.success_callbacks, *info.error_callbacks, *info.done_callbacks]
    places = {key: place for place, key in reversed(list(enumerate(slots)))}
    return sorted(caused, key=lambda each: (places.get(each.signature, len(slots)), each.created_at, each.id))


async def _by_prefix(mage: Mageflow, wanted: str, store: str) -> RunHandle[Any]:
    """Find the one run whose id begins as wanted, with or without `run_`.

    Raises:
        CommandError: none does, or several do.
    """
    if wanted.startswith("sig_"):
        raise CommandError(f"{wanted} is the key of a signature; show takes the id of a run, which mageflow ls lists")
    prefix = wanted if wanted.startswith(_PREFIX) else _PREFIX + wanted
    found: list[RunHandle[Any]] = []
    cursor: str | None = None
    while True:
        page = await mage.find_runs(limit=_PAGE, cursor=cursor)
        found.extend(handle for handle in page if handle.id.startswith(prefix))
        cursor = page.cursor
        if cursor is None:
            break
    if not found:
        raise CommandError(
            f"no run {wanted} is in {store}: it has expired (finished runs are kept for 3 hours unless set), or it is "
            "in another store. List what is there with: mageflow ls"
        )
    if len(found) > 1:
        some = ", ".join(handle.id for handle in found[:_MENTIONED])
        more = f" and {len(found) - _MENTIONED} more" if len(found) > _MENTIONED else ""
        raise CommandError(f"{len(found)} runs begin with {wanted}: {some}{more}. Give more of the id")
    return found[0]


def _print(out: Console, run: RunInfo, cause: RunInfo | None, caused: list[RunInfo]) -> None:
    out.print(Text.assemble((run.id, "bold"), "  ", clean(run.task_name), "  ", _status(run)), soft_wrap=True)
    out.print()
    for label, value in _facts(run):
        _field(out, label, value)
    if run.cause is not None:
        _field(out, "cause", _mention(cause) if cause is not None else f"{run.cause}, which has expired")
    _block(out, "message", _pretty(run.message))
    if run.status == "succeeded":
        _block(out, "result", _pretty(run.result))
    if run.failure is not None:
        _block(out, "failure", f"{run.failure.type}: {run.failure.message}")
        if run.failure.traceback:
            _block(out, "", run.failure.traceback, style="dim")
    if caused:
        out.print()
        out.print(Text("caused", style="bold"))
        for each in caused:
            out.print(Text.assemble("  ", _mention(each)), soft_wrap=True)


def _facts(run: RunInfo) -> list[tuple[str, str]]:
    facts = [("created", clock(run.created_at))]
    if run.started_at is not None and not waits(run):
        facts.append(("started", f"{clock(run.started_at)}, {span(run.due_at, run.started_at)} after it was due"))
    else:
        facts.append(("due", clock(run.due_at)))
    if run.ended_at is not None:
        took = f", after {span(run.started_at, run.ended_at)}" if run.started_at is not None else ""
        facts.append(("ended", clock(run.ended_at) + took))
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


def _status(run: RunInfo) -> tuple[str, str]:
    return run.status.value, STATUS_STYLES.get(run.status, "")


def _mention(run: RunInfo) -> Text:
    came_to = summary(run)
    text = Text.assemble(run.id, "  ", clean(run.task_name), "  ", _status(run))
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
