"""Which due rows are next: by priority, with a share for what has waited longest, whatever its priority."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mageflow.ports.store import OLDEST_EVERY

__all__ = ["choose", "shares"]

T = TypeVar("T")
Age = tuple[float, int]
"""When a row became due, and its place among those that were put."""


def shares(taken: int, limit: int) -> list[bool]:
    """Say for each of the next `limit` rows of one who has taken `taken` whether it is to be the longest due."""
    return [(taken + place) % OLDEST_EVERY == OLDEST_EVERY - 1 for place in range(limit)]


def choose(lanes: Sequence[Sequence[T]], oldest: Sequence[bool], age: Callable[[T], Age]) -> list[T]:
    """Take as many rows as `oldest` is long: the first of the highest lane, or the longest due of all lanes.

    Args:
        lanes: due rows of one priority each, the highest priority first, each lane in the order of its ages.
        oldest: which of the rows that are taken is to be the longest due.
        age: gives the age of a row; both ways of taking leave a lane in its order.
    """
    heads = [0] * len(lanes)
    chosen: list[T] = []
    for is_oldest in oldest:
        waiting = [place for place, lane in enumerate(lanes) if heads[place] < len(lane)]
        if not waiting:
            break
        place = min(waiting, key=lambda each: age(lanes[each][heads[each]])) if is_oldest else waiting[0]
        chosen.append(lanes[place][heads[place]])
        heads[place] += 1
    return chosen
