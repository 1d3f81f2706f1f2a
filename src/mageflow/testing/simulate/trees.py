"""Random trees: chains and swarms in each other, with callbacks on every level, as somebody might sign them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mageflow.core.members import Form

__all__ = ["ALERT", "DEEPEST", "TASKS", "TREES", "Node", "Place", "Tree", "draw_trees"]

DEEPEST = 4
ALERT = "alert"
"""The task of error callbacks that take the failures of all members."""
TASKS = ("step", "stage", ALERT)
TREES = 4
"""How many trees have one seed: side by side they cost less, and get into each other's way."""

_ACTS = ("succeed", "succeed", "succeed", "succeed", "fail", "fail", "break", "refuse", "mend")


@dataclass(slots=True, eq=False)
class Place:
    """A member of a chain or swarm."""

    node: Node
    own: dict[str, Any] | None = None
    """Its own message."""


@dataclass(slots=True, eq=False)
class Node:
    """A signature that is to be made."""

    name: str
    form: Form = Form.TASK
    task: str = "step"
    """The name of its task."""
    act: str = "succeed"
    """What the body does: `fail` so many `times` and then succeed, `break` at each attempt, `refuse` to be tried
    again, `mend` in a tree that is tried again and break before."""
    times: int = 0
    retries: int = 0
    span: float = 0.0
    delay: float | None = None
    bound: dict[str, Any] = field(default_factory=dict[str, Any])
    members: list[Place] = field(default_factory=list["Place"])
    later: list[Place] = field(default_factory=list["Place"])
    """The members that are added while it is open."""
    window: int = 1
    stop_after: int | None = None
    closed: bool = True
    auto_close: bool = False
    success: list[Node] = field(default_factory=list["Node"])
    error: list[Node] = field(default_factory=list["Node"])
    done: list[Node] = field(default_factory=list["Node"])
    key: str = ""
    """The signature's key, once it is made."""

    def callbacks(self) -> Iterator[tuple[str, list[Node]]]:
        yield "success", self.success
        yield "error", self.error
        yield "done", self.done


@dataclass(slots=True, eq=False)
class Tree:
    """All of it, and what is sent to its root."""

    root: Node
    sent: dict[str, Any]

    def nodes(self) -> list[Node]:
        """Give every node once, those that others name before these."""
        found: dict[Node, None] = {}
        self._visit(self.root, found)
        return list(found)

    def _visit(self, node: Node, found: dict[Node, None]) -> None:
        if node in found:
            return
        for place in (*node.members, *node.later):
            self._visit(place.node, found)
        for _, nodes in node.callbacks():
            for callback in nodes:
                self._visit(callback, found)
        found[node] = None

    def picture(self) -> str:
        """Draw it, a line for each place."""
        return "\n".join([f"sent: {self.sent}", *_drawn(self.root, "")])


def _drawn(node: Node, indent: str, mark: str = "", own: dict[str, Any] | None = None) -> Iterator[str]:
    yield f"{indent}{mark}{node.name} {_described(node)}{f' own message {own}' if own else ''}"
    for number, place in enumerate((*node.members, *node.later)):
        added = "+" if number >= len(node.members) else ""
        yield from _drawn(place.node, indent + "    ", f"{added}{number}. ", place.own)
    for slot, nodes in node.callbacks():
        for callback in nodes:
            yield from _drawn(callback, indent + "    ", f"on {slot}: ")


def _described(node: Node) -> str:
    if node.form is Form.TASK:
        times = f" {node.times} times" if node.act == "fail" else ""
        words = [
            f"{'alert' if node.task == ALERT else 'task'}: {node.act}{times}",
            f"retries {node.retries}",
            f"{node.span:g} s" if node.span else "",
        ]
    elif node.form is Form.CHAIN:
        words = ["chain"]
    else:
        stops = f"stops after {node.stop_after}" if node.stop_after is not None else ""
        opened = "" if node.closed else "open, closes by itself" if node.auto_close else "open"
        words = [f"swarm of {len(node.members)}", f"window {node.window}", stops, opened]
    words += [f"delay {node.delay:g} s" if node.delay else "", f"bound {node.bound}" if node.bound else ""]
    return ", ".join(word for word in words if word)


def draw_trees(seed: int) -> list[Tree]:
    """Draw the trees of a seed, which grow side by side."""
    rng = random.Random(f"trees {seed}")
    return [_Drawer(rng, letter).tree() for letter in "abcd"[:TREES]]


class _Drawer:
    def __init__(self, rng: random.Random, letter: str) -> None:
        self._rng = rng
        self._letter = letter
        self._left = rng.choice((3, 6, 9, 14))
        """How many nodes it may have, more or less."""
        self._count = 0
        self._tasks: list[Node] = []
        """Those that may stand in another place too."""

    def tree(self) -> Tree:
        rng = self._rng
        root = self._composite(1) if rng.random() < 0.95 else self._task(1)
        return Tree(root, rng.choice(({}, {"k": "sent"}, {"k": "sent", "x": {"sent": 1}})))

    def _some(self, chance: float) -> bool:
        return self._rng.random() < chance

    def _new(self, form: Form) -> Node:
        self._count += 1
        self._left -= 1
        node = Node(f"{self._letter}{self._count}", form)
        if self._some(0.3):
            node.bound["k"] = node.name
        if self._some(0.3):
            node.bound["x"] = {node.name: 1}
        if self._some(0.1):
            node.delay = self._rng.choice((0.3, 2.0))
        return node

    def _task(self, depth: int) -> Node:
        rng = self._rng
        node = self._new(Form.TASK)
        node.bound["node"] = node.name
        node.task = rng.choice(TASKS[:2])
        node.act = rng.choice(_ACTS)
        node.times = rng.randint(1, 2)
        node.retries = rng.choice((0, 0, 1, 2))
        node.span = rng.choice((0.0, 0.0, 0.1, 1.0))
        self._call_back(node, depth, 0.15)
        if not any(nodes for _, nodes in node.callbacks()):
            self._tasks.append(node)
        return node

    def _composite(self, depth: int) -> Node:
        rng = self._rng
        node = self._new(rng.choice((Form.CHAIN, Form.SWARM, Form.SWARM)))
        if node.form is Form.CHAIN:
            node.stop_after = 1
            node.members = self._places(rng.choice((2, 2, 3)), depth)
        else:
            node.window = rng.choice((1, 2, 3, 30))
            node.stop_after = rng.choice((None, None, 1, 2))
            node.members = self._places(rng.choice((0, 1, 2, 3, 4)), depth)
            if self._some(0.4):
                node.closed = False
                node.auto_close = self._some(0.3)
                node.later = self._places(rng.choice((1, 2, 3)), depth)
        self._call_back(node, depth, 0.35)
        return node

    def _places(self, count: int, depth: int) -> list[Place]:
        return [self._place(depth) for _ in range(count)]

    def _place(self, depth: int) -> Place:
        node = self._node(depth + 1, 0.35)
        if not self._some(0.25):
            return Place(node)
        return Place(node, self._rng.choice(({"k": "own"}, {"x": {"own": 1}})))

    def _node(self, depth: int, composite: float) -> Node:
        if depth < DEEPEST and self._left > 2 and self._some(composite):
            return self._composite(depth)
        if self._tasks and self._some(0.1 if self._left > 0 else 0.6):
            return self._rng.choice(self._tasks)  # one signature in two places
        return self._task(depth)

    def _call_back(self, node: Node, depth: int, chance: float) -> None:
        lists: Sequence[list[Node]] = (node.success, node.error, node.done)
        for nodes in lists:
            while depth < DEEPEST and self._left > 0 and self._some(chance):
                known = self._count
                nodes.append(self._node(depth + 1, 0.25))
                if nodes is node.error and self._count > known:
                    self._alert(nodes[-1])

    def _alert(self, node: Node) -> None:
        """Let a new error callback take failures, and stand nowhere else: only there are they known."""
        if node.form is Form.TASK and self._some(0.5):
            node.task = ALERT
            self._tasks = [each for each in self._tasks if each is not node]
