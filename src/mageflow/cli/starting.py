"""`mageflow run`: start a task by its name."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, cast

import typer

from mageflow import InvalidMessageError, Outcome, RunHandle, RunInfo, RunOptions
from mageflow.cli.explaining import next_step
from mageflow.cli.opening import DEFAULT_STORE, STORE_OPTION, AppOption, command, opened
from mageflow.cli.output import CommandError, clean, compact, note, print_json
from mageflow.client import Mageflow
from mageflow.errors import near
from mageflow.importing import load_app
from mageflow.project import find_app
from mageflow.wording import listed

__all__ = ["run_task"]

_HINT_AFTER = 2.0
"""Seconds after which a run that has not ended is explained to whoever waits for it."""


def run_task(  # noqa: PLR0913, PLR0917 - typer wants a parameter for each option
    task: Annotated[str, typer.Argument(metavar="TASK", help="The name of a task.", show_default=False)],
    message: Annotated[
        str,
        typer.Argument(metavar="JSON", help="The message: a JSON object; - reads it from stdin.", show_default=False),
    ] = "{}",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end and print the result.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait no longer than that.", show_default=False),
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option("--delay", min=0, metavar="SECONDS", help="Let it begin later.", show_default=False),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=1, max=3, help="3 begins first.", show_default=False)
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", min=0, metavar="N", help="Attempts after the first.", show_default=False)
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="A run of this task with this key is given again.",
            show_default=False,
        ),
    ] = None,
    app: AppOption = None,
    store: Annotated[str | None, STORE_OPTION] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole run as JSON, for programs.")] = False,
) -> None:
    """Start a task by its name and print the id of the run; a worker on the same store executes it.

    Where an app is named, the message is validated and the task's name looked up before anything is started, and the
    store is the app's, unless --store or MAGEFLOW_STORE names one.

    With --wait or --timeout the result is printed as JSON once it is there; a run that failed or was cancelled is exit
    code 1. Ctrl-C leaves the run alone.

    \b
    mageflow run process_order '{"order_id": 7}'
    mageflow run process_order '{"order_id": 7}' --app shop.tasks:mage --wait | jq .
    """
    options = RunOptions(delay=delay, priority=priority, retries=retries, idempotency_key=idempotency_key)
    parsed = _parsed(message)
    named = find_app(app)
    loaded = load_app(named) if named is not None else None
    wanted = _Wanted(task, parsed, options, waits=wait or timeout is not None, timeout=timeout, as_json=as_json)
    asyncio.run(_run(loaded, store, wanted))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be started, and what is to be said of it."""

    task: str
    message: dict[str, Any]
    options: RunOptions
    waits: bool
    timeout: float | None
    as_json: bool


async def _run(app: Mageflow | None, store: str | None, wanted: _Wanted) -> None:
    async with _on(app, store) as mage:
        if app is not None:
            await _check(app, mage, wanted)
        handle = await _start(mage, wanted)
        if not wanted.waits:
            info = await handle.info()
            print_json(info.model_dump(mode="json")) if wanted.as_json else print(handle.id)
            return
        outcome = await _wait(mage, handle, wanted.timeout)
        if wanted.as_json:
            print_json((await handle.info()).model_dump(mode="json"))
        elif outcome.status == "succeeded":
            print(compact((await handle.info()).result))
        if outcome.status != "succeeded":
            _refuse(await handle.info())


def _on(app: Mageflow | None, store: str | None) -> AbstractAsyncContextManager[Mageflow]:
    """Give the client to start on: the app's own, unless a store is named."""
    if app is None or store:
        return opened(store or DEFAULT_STORE)
    if app.store.location == "memory":
        raise CommandError(
            "the app keeps its runs in memory, which no other process reaches; give its client a file, such as "
            "Mageflow(store='flows.db')"
        )
    return app


async def _check(app: Mageflow, mage: Mageflow, wanted: _Wanted) -> None:
    """Refuse what could only fail.

    Raises:
        BadParameter: no task has this name, or the message does not fit it.
    """
    known = {*app.task_names, *await mage.known_tasks()}
    if app.task_names and wanted.task not in known:
        raise typer.BadParameter(
            f"no task is called {wanted.task!r}{near(wanted.task, known) or f'; there are {listed(sorted(known))}'}",
            param_hint="TASK",
        )
    try:
        app.check_message(wanted.task, wanted.message)
    except InvalidMessageError as error:
        raise typer.BadParameter(clean(str(error)), param_hint="JSON") from None


async def _start(mage: Mageflow, wanted: _Wanted) -> RunHandle[Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handle = await mage.start_once(wanted.task, wanted.message, options=wanted.options)
    for warning in caught:
        note(str(warning.message))
    return handle


async def _wait(mage: Mageflow, handle: RunHandle[Any], timeout: float | None) -> Outcome[Any]:
    """Wait for the end; what keeps a run from beginning is said beside the output."""
    ends = asyncio.ensure_future(handle.outcome(timeout))
    try:
        await asyncio.wait((ends,), timeout=_HINT_AFTER)
        if not ends.done():
            await _hint(mage, handle.id)
        return await ends
    except TimeoutError:
        see = command(mage.store.location, "explain", handle.id)
        raise CommandError(f"{handle.id} has not ended within {timeout:g} s; it goes on. See: {see}") from None
    except asyncio.CancelledError:
        note(f"{handle.id} goes on; stop it with: {command(mage.store.location, 'cancel', handle.id)}")
        raise
    finally:
        ends.cancel()


async def _hint(mage: Mageflow, run_id: str) -> None:
    told = await mage.explain(run_id)
    if told.status == "running":
        return
    step = next_step(told)
    note(f"{run_id} is {told.status}. {told.reason}" + (f" Next step: {step}" if step is not None else ""))


def _refuse(info: RunInfo) -> NoReturn:
    if info.failure is not None and info.status == "failed":
        raise CommandError(f"run {info.id} failed: {info.failure.type}: {info.failure.message}")
    raise CommandError(f"run {info.id} was {info.status}")


def _parsed(text: str) -> dict[str, Any]:
    """Read the message.

    Raises:
        BadParameter: it is no JSON object; the message names the place.
    """
    if text == "-":
        text = sys.stdin.read()
    try:
        value: Any = json.loads(text, parse_constant=_not_json)
    except json.JSONDecodeError as error:
        before = text[: error.pos].splitlines()[-1:] or [""]
        behind = f" behind {before[0][-30:]!r}" if before[0] else ""
        raise typer.BadParameter(
            f"it is no JSON: {error.msg} at line {error.lineno}, column {error.colno}{behind}. Quote the whole of it "
            "for the shell: '{\"order_id\": 7}'",
            param_hint="JSON",
        ) from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"it is no JSON: {error}", param_hint="JSON") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(
            f"a message is a JSON object, such as '{{\"x\": 1}}', and not {text.strip()[:30]}", param_hint="JSON"
        )
    return cast("dict[str, Any]", value)


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} does not exist in JSON")
