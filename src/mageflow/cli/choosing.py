"""Which run or signature is meant, where only the beginning of its key is given."""

from __future__ import annotations

from typing import Any

from mageflow import RunHandle, Signature
from mageflow.cli.output import CommandError
from mageflow.client import Mageflow

__all__ = ["choose", "choose_run"]

_RUN = "run_"
_SIGNATURE = "sig_"
_MENTIONED = 5
_LOOKED_FOR = 1000


async def choose(mage: Mageflow, wanted: str) -> RunHandle[Any] | Signature[Any, Any]:
    """Find the one run or signature whose key is, or begins, as wanted, with or without what stands before its `_`.

    Raises:
        CommandError: none does, or several do.
    """
    found = await _load(mage, wanted) or await _load(mage, await _complete(mage, wanted, "run or signature"))
    if found is None:
        raise _absent(mage, wanted, "run or signature")
    return found


async def choose_run(mage: Mageflow, wanted: str, command: str) -> RunHandle[Any]:
    """Find the one run whose id is, or begins, as wanted, with or without `run_`; `command` asks for it.

    Raises:
        CommandError: none does, or several do, or it is the key of a signature.
    """
    if wanted.startswith(_SIGNATURE):
        raise CommandError(
            f"{wanted} is the key of a signature; {command} takes the id of a run, which mageflow ls lists"
        )
    found = await mage.load_run(wanted)
    if found is None:
        prefix = wanted if wanted.startswith(_RUN) else _RUN + wanted
        found = await mage.load_run(await _complete(mage, prefix, "run"))
    if found is None:
        raise _absent(mage, wanted, "run")
    return found


async def _load(mage: Mageflow, key: str) -> RunHandle[Any] | Signature[Any, Any] | None:
    return await mage.load_run(key) or await mage.load_signature(key)


async def _complete(mage: Mageflow, beginning: str, what: str) -> str:
    if not beginning.strip():
        raise CommandError("an empty id names nothing; mageflow ls lists the ids of runs")
    found = await mage.find_keys(beginning, limit=_LOOKED_FOR)
    if not found:
        raise _absent(mage, beginning, what)
    if len(found) > 1:
        some = ", ".join(found[:_MENTIONED])
        more = f" and {len(found) - _MENTIONED} more" if len(found) > _MENTIONED else ""
        least = "at least " if len(found) == _LOOKED_FOR else ""
        which = f"{least}{len(found)} {what.replace(' or ', 's or ')}s begin with {beginning}"
        raise CommandError(f"{which}: {some}{more}. Give more of the id")
    return found[0]


def _absent(mage: Mageflow, wanted: str, what: str) -> CommandError:
    return CommandError(
        f"no {what} {wanted} is in {mage.store.location}: it has expired (finished runs are kept for 3 hours unless "
        "set), or it is in another store. List what is there with: mageflow ls"
    )
