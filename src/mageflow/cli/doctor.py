"""`mageflow doctor`: what is installed, whether the store answers, and what will hurt, each with its remedy."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mageflow import Overview, WorkerInfo
from mageflow.cli.examining import (
    Finding,
    Level,
    examine_environment,
    examine_file,
    examine_lock,
    examine_runs,
    examine_workers,
)
from mageflow.cli.opening import DEFAULT_STORE, StoreOption, file_of, look_at
from mageflow.cli.output import FAILED, clean, console, print_json
from mageflow.errors import MageflowError

__all__ = ["doctor"]

_WATCH = 2.5
"""Seconds to wait for the beats of workers: a healthy one beats once a second."""
_STYLES = {Level.FINE: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.BROKEN: "bold red"}


def doctor(
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Look at the installation, the store and its workers; say what is broken or will hurt, and what helps.

    Workers are watched for a sign of life, up to 2.5 seconds; that the store is locked is said after half a second.
    The exit code is 1 if something is broken.

    \b
    mageflow doctor --store flows.db
    mageflow doctor --json | jq '.findings[] | select(.level == "broken")'
    """
    findings, overview, workers = asyncio.run(_examine(store))
    broken = any(finding.level is Level.BROKEN for finding in findings)
    if as_json:
        print_json(
            {
                "broken": broken,
                "findings": [finding.model_dump(mode="json") for finding in findings],
                "overview": overview.model_dump(mode="json") if overview is not None else None,
                "workers": [worker.model_dump(mode="json") for worker in workers],
            }
        )
    else:
        _print(console(), findings)
    if broken:
        raise typer.Exit(FAILED)


async def _examine(store: str) -> tuple[list[Finding], Overview | None, list[WorkerInfo]]:
    findings = examine_environment()
    overview: Overview | None = None
    workers: list[WorkerInfo] = []
    try:
        mage = look_at(store)
        file = file_of(store or DEFAULT_STORE)
        findings += examine_file(file)
        locked = examine_lock(file)
        if locked is not None:
            findings.append(locked)
        elif file.exists() if file is not None else not store.startswith("memory:"):
            async with mage:
                overview = await mage.overview()
                workers = await mage.find_workers(watch=_WATCH)
            findings += [*examine_workers(workers), *examine_runs(overview, workers)]
    except MageflowError as error:
        text = str(error)
        findings.append(Finding(level=Level.BROKEN, about="store", found=text, remedy=None))
    return findings, overview, workers


def _print(out: Console, findings: list[Finding]) -> None:
    marks: dict[str, Any] = {level: (f"{level.value:<8}", _STYLES[level]) for level in Level}
    for finding in findings:
        line = Text.assemble(marks[finding.level], (f"{finding.about:<10}", "bold"), clean(finding.found))
        out.print(line, soft_wrap=True)
        if finding.remedy is not None:
            out.print(Text(f"{'':<18}{clean(finding.remedy)}"), soft_wrap=True)
    bad = sum(finding.level in (Level.WARNING, Level.BROKEN) for finding in findings)
    out.print()
    if not bad:
        out.print("All is well.")
    else:
        out.print(f"{bad} {'finding wants' if bad == 1 else 'findings want'} your attention.")
