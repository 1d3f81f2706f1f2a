"""`mageflow cancel`, `suspend`, `resume`, `interrupt` and `retry`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.text import Text

from mageflow import Explanation, RunHandle, Signature, SwarmTaskSignature
from mageflow.cli.choosing import choose, choose_run
from mageflow.cli.explaining import next_step
from mageflow.cli.opening import DEFAULT_STORE, StoreOption, opened
from mageflow.cli.output import FAILED, STATUS_STYLES, CommandError, clean, complain, console, print_json
from mageflow.client import Mageflow
from mageflow.errors import MageflowError

__all__ = ["cancel", "close", "interrupt", "resume", "retry", "suspend"]

Keys = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Ids of runs, keys of signatures, or their beginnings.", show_default=False),
]
Runs = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of runs, or their beginnings.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON list, for programs: each as explain has it.")]

_Found = RunHandle[Any] | Signature[Any, Any]

_Steer = Callable[[Mageflow, str], Awaitable[tuple[Explanation, str]]]
"""Does it to one of them; gives how it stands then, and what is to be said of that."""


def cancel(keys: Keys, store: StoreOption = DEFAULT_STORE, as_json: Json = False) -> None:
    """Cancel runs and all that they lead to. Their done callbacks fire, success and error callbacks do not.

    A body that runs is stopped: an async one is cancelled, a sync one is asked to stop. The key of a signature
    cancels all of its runs that have not ended.

    \b
    mageflow cancel run_01k80r
    mageflow ls --status queued --json | jq -r '.[].id' | xargs mageflow cancel
    """
    _steer(_controlled("cancel"), keys, store, as_json=as_json)


def suspend(keys: Keys, store: StoreOption = DEFAULT_STORE, as_json: Json = False) -> None:
    """Hold what has not begun: runs, and what follows them. A body that runs goes on to its end.

    The key of a signature holds all of its runs, those that are still to be started too.

    \b
    mageflow suspend run_01k80r
    mageflow suspend sig_01k80r
    """
    _steer(_controlled("suspend"), keys, store, as_json=as_json)


def interrupt(keys: Keys, store: StoreOption = DEFAULT_STORE, as_json: Json = False) -> None:
    """Hold what has not begun and stop what runs; a stopped body runs again from its beginning on resume.

    \b
    mageflow interrupt run_01k80r
    """
    _steer(_controlled("interrupt"), keys, store, as_json=as_json)


def resume(
    keys: Keys,
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            "--max-concurrency",
            min=1,
            metavar="N",
            help="Of swarms: how many members may be live at once from now on.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Let what was suspended or interrupted go on. Nothing that succeeded runs again.

    What is held by something else as well says so, with the command that lets that go.

    \b
    mageflow resume run_01k80r
    mageflow resume run_01k80r --max-concurrency 5
    """
    _steer(_controlled("resume", lambda found: _resume(found, max_concurrency)), keys, store, as_json=as_json)


def close(keys: Keys, store: StoreOption = DEFAULT_STORE, as_json: Json = False) -> None:
    """Let no member be added to swarms any more: what they call at their end is called when all have ended.

    The id of a run closes its swarm, and so all runs of that.

    \b
    mageflow close sig_01k80r
    """
    _steer(_closed, keys, store, as_json=as_json)


def retry(runs: Runs, store: StoreOption = DEFAULT_STORE, as_json: Json = False) -> None:
    """Start ended runs anew, each with the message that it received; prints the new runs.

    Asked twice for the same run, it gives the same new run twice.

    \b
    mageflow retry run_01k80r
    mageflow ls --status failed --json | jq -r '.[].id' | xargs mageflow retry
    """
    _steer(_retried, runs, store, as_json=as_json)


def _steer(act: _Steer, keys: list[str], store: str, *, as_json: bool) -> None:
    told, refused = asyncio.run(_each(act, keys, store))
    if as_json:
        print_json([each.model_dump(mode="json") for each, _ in told])
    else:
        out = console()
        for each, remark in told:
            status = (each.status, STATUS_STYLES.get(each.status, ""))
            line = Text.assemble((each.key, "bold"), "  ", clean(each.task_name or ""), "  ", status)
            out.print(line.append(f": {clean(remark)}") if remark else line, soft_wrap=True)
    for message in refused:
        complain(message)
    if refused:
        raise typer.Exit(FAILED)


async def _each(act: _Steer, keys: list[str], store: str) -> tuple[list[tuple[Explanation, str]], list[str]]:
    """Do it to each; one that is refused leaves the others alone."""
    told: list[tuple[Explanation, str]] = []
    refused: list[str] = []
    async with opened(store) as mage:
        for key in dict.fromkeys(keys):
            try:
                told.append(await act(mage, key))
            except MageflowError as error:
                refused.append(str(error))
    return told, refused


def _controlled(verb: str, method: Callable[[_Found], Awaitable[None]] | None = None) -> _Steer:
    async def act(mage: Mageflow, wanted: str) -> tuple[Explanation, str]:
        found = await choose(mage, wanted)
        key = found.id if isinstance(found, RunHandle) else found.key
        ended = isinstance(found, RunHandle) and (await found.status()).is_terminal
        await (method or _METHODS[verb])(found)
        told = await mage.explain(key)
        if isinstance(found, Signature):
            return told, _OF_SIGNATURES[verb]
        is_task = found.seen.kind == "task"
        return told, _remark(verb, told, ended=ended, is_task=is_task)

    return act


async def _resume(found: _Found, max_concurrency: int | None) -> None:
    if max_concurrency is None:
        await found.resume()
    elif isinstance(found, RunHandle | SwarmTaskSignature):
        await found.resume(max_concurrency=max_concurrency)
    else:
        raise CommandError(f"--max-concurrency is for swarms, and {found.key} is the signature of {found.task_name!r}")


async def _closed(mage: Mageflow, wanted: str) -> tuple[Explanation, str]:
    found = await choose(mage, wanted)
    swarm = await mage.load_signature(found.seen.signature) if isinstance(found, RunHandle) else found
    key = found.id if isinstance(found, RunHandle) else found.key
    if not isinstance(swarm, SwarmTaskSignature):
        raise CommandError(f"{key} is no swarm, or its signature is gone; only swarms are closed")
    closed = swarm.is_swarm_closed
    await swarm.close_swarm()
    return await mage.explain(key), "it was closed before" if closed else "no member can be added any more"


_METHODS: dict[str, Callable[[_Found], Awaitable[None]]] = {
    "cancel": lambda found: found.cancel(),
    "suspend": lambda found: found.suspend(),
    "interrupt": lambda found: found.interrupt(),
    "resume": lambda found: found.resume(),
}
_OF_SIGNATURES = {
    "cancel": "its runs that had not ended are cancelled; it can be started again",
    "suspend": "its runs are held, those that are still to be started too",
    "interrupt": "its runs are held, those that are still to be started too, and what ran is asked to stop",
    "resume": "its runs go on",
}
_OF_RUNNING = {
    "cancel": "its body is asked to stop",
    "suspend": "its body goes on to its end; what follows is held",
    "interrupt": "its body is asked to stop",
    "resume": "",
}
_OF_OPEN = {
    "cancel": "no member of it begins any more, and what runs is asked to stop",
    "suspend": "no member of it begins; those that run go on to their end",
    "interrupt": "no member of it begins, and what runs is asked to stop",
    "resume": "",
}
_OF_ENDED = {
    "cancel": "it had ended before; what it caused is cancelled, as far as that has not ended",
    "suspend": "it had ended before; what it caused is held",
    "interrupt": "it had ended before; what it caused is held",
    "resume": "it had ended before; what it caused goes on",
}


def _remark(verb: str, told: Explanation, *, ended: bool, is_task: bool) -> str:
    """Say of a run what its status alone does not say."""
    if ended:
        return _OF_ENDED[verb]
    if not is_task and verb != "resume" and told.status in ("running", "suspended", "interrupted"):
        return _OF_OPEN[verb]
    if told.status == "running":
        return _OF_RUNNING[verb]
    if verb == "resume" and told.status in ("suspended", "interrupted"):
        return f"{told.reason} Let it go on with: {next_step(told)}"
    return ""


async def _retried(mage: Mageflow, wanted: str) -> tuple[Explanation, str]:
    run = await choose_run(mage, wanted, "retry")
    again = await run.retry()
    return await mage.explain(again.id), f"tries {run.id} again"
