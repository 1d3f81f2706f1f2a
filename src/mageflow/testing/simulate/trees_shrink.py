"""Makes a failing tree smaller, while it still fails: fewer trees, acts, members and callbacks, and plainer ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

from mageflow.core.members import Form
from mageflow.testing.simulate.trees import Node, Tree
from mageflow.testing.simulate.trees_owner import ACTS
from mageflow.testing.simulate.trees_world import TreeFailed, simulate_trees

__all__ = ["shrink", "told_shrunk"]

_WEATHERS = 5
"""In how many seeds' weather something smaller is tried: each change shifts all that happens after it."""

Change = Callable[[Sequence[Tree]], None]


def shrink(failure: TreeFailed, *, most: int = 600) -> TreeFailed:
    """Give the smallest failure of the same invariant that is found.

    Args:
        failure: where to begin.
        most: after how many simulations to stop.
    """
    best, left = failure, most
    found: TreeFailed | None = best
    while found is not None:
        best, found = found, None
        for trees, without in _smaller(best):
            for seed in range(best.seed, best.seed + _WEATHERS):
                if not left:
                    return best
                left -= 1
                found = found or _failure(seed, trees, without, best.invariant)
            if found is not None:
                break
    return best


def told_shrunk(failure: TreeFailed) -> str:
    """Tell of a failure that was made smaller, which no seed alone repeats."""
    pictures = "\n\n".join(tree.picture() for tree in failure.trees)
    left = [act for act in ACTS if act not in failure.without]
    acts = f"Acts of its owner: {', '.join(left) or 'none'}"
    return f"The smallest that was found:\n\n{failure.told}\n\n{pictures}\n\n{acts}; weather of seed {failure.seed}"


def _failure(seed: int, trees: Sequence[Tree], without: Sequence[str], invariant: str) -> TreeFailed | None:
    try:
        simulate_trees(seed, trees, without=without)
    except TreeFailed as failure:
        return failure if failure.invariant == invariant else None
    return None


def _smaller(failure: TreeFailed) -> Iterator[tuple[Sequence[Tree], Sequence[str]]]:
    """Give what is smaller by one step, the larger steps first."""
    trees, without = failure.trees, tuple(failure.without)
    if len(trees) > 1:
        for tree in trees:
            yield [tree], without
    for act in ACTS:
        if act not in without:
            yield trees, (*without, act)
    for change in _changes(trees):
        copies = copy.deepcopy(trees)
        change(copies)
        yield copies, without


def _changes(trees: Sequence[Tree]) -> Iterator[Change]:
    for at, tree in enumerate(trees):
        if tree.sent:
            yield lambda copies, at=at: copies[at].sent.clear()  # type: ignore[misc]
        for number in range(len(tree.root.members)):
            yield lambda copies, at=at, number=number: _hoist(copies[at], number)  # type: ignore[misc]
        nodes = tree.nodes()
        for place in reversed(range(len(nodes))):
            for alter in (*_drops(nodes[place]), *_plainer(nodes[place])):
                yield lambda copies, at=at, place=place, alter=alter: alter(copies[at].nodes()[place])  # type: ignore[misc]


def _hoist(tree: Tree, number: int) -> None:
    tree.root = tree.root.members[number].node


def _drops(node: Node) -> Iterator[Callable[[Node], None]]:
    fewest = {"members": 1 if node.form is Form.CHAIN else 0}
    for name in ("members", "later", "success", "error", "done"):
        count = len(getattr(node, name))
        for number in range(count if count > fewest.get(name, 0) else 0):
            yield lambda node, name=name, number=number: getattr(node, name).pop(number)  # type: ignore[misc]


def _plainer(node: Node) -> Iterator[Callable[[Node], None]]:
    for name, plain in (("delay", None), ("span", 0.0), ("retries", 0), ("act", "succeed"), ("stop_after", None)):
        given = getattr(node, name)
        if given != plain and not (name == "stop_after" and node.form is Form.CHAIN):
            yield lambda node, name=name, plain=plain: setattr(node, name, plain)  # type: ignore[misc]
    if not node.closed and not node.later:
        yield lambda node: setattr(node, "closed", True)
    for name in sorted(node.bound.keys() - {"node"}):
        yield lambda node, name=name: node.bound.pop(name)  # type: ignore[misc]
    for number, place in enumerate(node.members):
        if place.own:
            yield lambda node, number=number: setattr(node.members[number], "own", None)  # type: ignore[misc]
