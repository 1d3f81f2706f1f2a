"""The tasks that the tests of chains, swarms and trees are made of, and the models of their messages."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from mageflow import Mageflow, ReturnValue

Log = list[tuple[str, Any]]
"""What the notes received, in order: the name that is bound to each, and the results."""


class Number(BaseModel):
    value: Annotated[int, ReturnValue()] = 0
    plus: int = 1


class Numbers(BaseModel):
    values: ReturnValue[list[int]]


class Item(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 0
    by: int = 2
    note: str = ""


class Seen(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    results: Any = None


def register(mage: Mageflow) -> Log:
    """Register the tasks with a client; give the log that its notes write."""
    seen: Log = []

    @mage.task
    async def add(msg: Number) -> int:
        return msg.value + msg.plus

    @mage.task
    async def total(msg: Numbers) -> int:
        return sum(msg.values)

    @mage.task
    async def number(msg: Item) -> int:
        return msg.n

    @mage.task
    async def times(msg: Item) -> int:
        return msg.n * msg.by

    @mage.task
    async def even(msg: Item) -> int:
        if msg.n % 2:
            raise ValueError(f"{msg.n} is odd")
        return msg.n

    @mage.task
    async def fail(msg: dict[str, Any]) -> None:
        raise ValueError(f"{msg.get('n', 0)} fails")

    @mage.task
    async def refuse(msg: Number) -> int:
        raise ValueError(f"not {msg.value}")

    @mage.task
    async def note(msg: Seen) -> str:
        seen.append((msg.name, msg.results))
        return msg.name

    return seen


def closed(**given: Any) -> dict[str, Any]:
    """What a swarm is given that takes no members later."""
    return {"is_swarm_closed": True, **given}
