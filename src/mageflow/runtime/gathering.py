"""What the run of a chain or swarm came to: it is read from its members' runs, and never copied into its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec

from mageflow.core.ids import life_of, member_id
from mageflow.core.members import Form
from mageflow.core.records import Failure, Record, RunRecord
from mageflow.core.status import RunStatus

__all__ = ["Gathering", "Reader", "failure_fields", "result_of"]

_PAGE = 500


def result_of(run: RunRecord) -> Any:
    """Give the result of a task's run as plain JSON."""
    return msgspec.json.decode(run.result) if run.result is not None else None


def failure_fields(run: RunRecord) -> dict[str, Any]:
    """Give the fields of the `TaskFailure` of a failed run."""
    failure = run.failure or Failure(type="", message="")
    return {
        "type": failure.type,
        "message": failure.message,
        "traceback": failure.traceback,
        "attempt": failure.attempt,
        "task_name": run.task,
        "run_id": run.key,
    }


class Reader(Protocol):
    """What gives records: a store, or a store with a transaction on top."""

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """Read records; None for a key that does not exist."""
        ...


class Gathering:
    """Reads what chains and swarms of one store came to."""

    def __init__(self, store: Reader) -> None:
        self._store = store

    async def members(self, run: RunRecord, *, begin: int = 0) -> AsyncGenerator[tuple[int, str, RunRecord | None]]:
        """Give the members' runs in member order: place, the id that it has or would have, and the run, if it began.

        A member that succeeded in the run which this one tries again is given as it was there.
        """
        assert run.tally is not None
        lives = [run]
        while (tally := lives[-1].tally) is not None and tally.earlier is not None:
            earlier = await self._run(tally.earlier)
            if earlier is None:
                break
            lives.append(earlier)
        for first in range(begin, run.tally.total, _PAGE):
            places = range(first, min(first + _PAGE, run.tally.total))
            found: dict[int, RunRecord] = {}
            for life in lives:
                ids = {
                    member_id(life_of(life.key, life.created_at), place): place
                    for place in places
                    if place not in found
                }
                for key, record in (await self._store.load(tuple(ids))).items():
                    if isinstance(record, RunRecord) and (life is run or record.status is RunStatus.SUCCEEDED):
                        found[ids[key]] = record
            for place in places:
                yield place, member_id(life_of(run.key, run.created_at), place), found.get(place)

    async def answer(self, run: RunRecord) -> RunRecord:
        """Give the run whose result or failure is that of `run`: a chain's is that of its member that ended last."""
        while run.answer is not None:
            inner = await self._run(run.answer)
            if inner is None:
                return run
            run = inner
        return run

    async def value(self, run: RunRecord, read: Callable[[RunRecord], Any] = result_of) -> Any:
        """Give the result of an ended run; a swarm's is the list of those of its members that succeeded.

        Args:
            run: the run.
            read: gives the result of a task's run.
        """
        if run.status is not RunStatus.SUCCEEDED:
            return None
        run = await self.answer(run)
        if run.form is not Form.SWARM:
            return read(run)
        return [
            await self.value(member, read)
            async for _, _, member in self.members(run)
            if member is not None and member.status is RunStatus.SUCCEEDED
        ]

    async def failure(self, run: RunRecord) -> dict[str, Any]:
        """Give the fields of the `TaskFailure` of a failed run: a chain's is that of the step that failed."""
        return failure_fields(await self.answer(run))

    async def failures(self, swarm: RunRecord) -> list[dict[str, Any]]:
        """Give the failures of the members of a swarm, in member order."""
        return [
            await self.failure(member)
            async for _, _, member in self.members(swarm)
            if member is not None and member.status is RunStatus.FAILED
        ]

    async def outcome(self, run: RunRecord, read: Callable[[RunRecord], Any] = result_of) -> dict[str, Any]:
        """Give the fields of the `Outcome` of an ended run."""
        return {
            "status": run.status.value,
            "value": await self.value(run, read),
            "failure": await self.failure(run) if run.status is RunStatus.FAILED else None,
            "attempts": run.attempt,
            "member": run.signature if run.place is not None else None,
            "task_name": run.task,
            "run_id": run.key,
        }

    async def outcomes(self, swarm: RunRecord, read: Callable[[RunRecord], Any] = result_of) -> list[dict[str, Any]]:
        """Give the outcomes of all members of an ended swarm, in member order; those that never began are cancelled."""
        return [
            await self.outcome(member, read) if member is not None else _never_began(swarm, run_id)
            async for _, run_id, member in self.members(swarm)
        ]

    async def _run(self, key: str) -> RunRecord | None:
        record = (await self._store.load((key,)))[key]
        return record if isinstance(record, RunRecord) else None


def _never_began(swarm: RunRecord, run_id: str) -> dict[str, Any]:
    return {
        "status": RunStatus.CANCELLED.value,
        "attempts": 0,
        "task_name": swarm.task,
        "run_id": run_id,
    }
