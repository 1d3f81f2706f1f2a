"""Random trees of chains and swarms, in all weathers, against a plain recursive model.

Each seed grows a few trees. MAGEFLOW_SIMULATE_TREES=20000 grows more of them, MAGEFLOW_SIMULATE_FROM=5000 others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mageflow.core.members import Form
from mageflow.runtime.gathering import Gathering
from mageflow.testing.simulate import TreeFailed, simulate_trees
from mageflow.testing.simulate.trees import ALERT, DEEPEST, TREES, Node, draw_trees
from mageflow.testing.simulate.trees_shrink import shrink, told_shrunk

# Read at import: the house's fixture hides MAGEFLOW_* from the tests themselves.
COUNT = int(os.environ.get("MAGEFLOW_SIMULATE_TREES", "2000"))
FIRST = int(os.environ.get("MAGEFLOW_SIMULATE_FROM", "0"))
AT_ONCE = 10

EVENTS = {
    "what people ask": ["suspend", "interrupt", "resume", "cancel", "retry", "add", "close", "resize"],
    "what people ask of signatures": [
        "signature's suspend",
        "signature's interrupt",
        "signature's resume",
        "signature's cancel",
        "remove",
    ],
    "what goes wrong": ["death", "freeze", "cut off", "lost reply", "unreachable", "taken back"],
    "what the engine does": ["dropped", "doubled", "redelivery"],
    "how runs end": ["succeeded", "failed", "cancelled"],
}


@pytest.mark.timeout(max(120, COUNT // 20))
@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT // TREES, AT_ONCE))
def test_trees_come_to_what_they_must(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        simulate_trees(seed)


def test_a_few_seeds_exercise_everything() -> None:
    counts: Counter[str] = Counter()
    for seed in range(40):
        counts += simulate_trees(seed).counts
    absent = {group: [kind for kind in kinds if not counts[kind]] for group, kinds in EVENTS.items()}
    assert not any(absent.values()), f"40 seeds without these events show little: {absent}"


def test_trees_are_of_all_shapes() -> None:
    trees = [tree for seed in range(500) for tree in draw_trees(seed)]
    assert max(depth(tree.root) for tree in trees) == DEEPEST
    nodes = [node for tree in trees for node in tree.nodes()]
    called = [callback for node in nodes for _, callbacks in node.callbacks() for callback in callbacks]
    inner = [place.node.form for node in nodes for place in node.members]
    assert {node.form for node in called} == set(Form), "chains and swarms are callbacks too"
    assert {node.form for node in nodes if node.success and node.error and node.done} == set(Form)
    assert set(inner) == set(Form), "and members"
    assert any(not node.members and node.form is Form.SWARM and node.closed for node in nodes), "a swarm may be empty"
    assert any(each.task == ALERT for node in nodes for each in node.error), "error callbacks take all failures"
    assert len({tree.picture() for tree in trees}) > 1900


def depth(node: Node) -> int:
    """Count the levels of chains, swarms and callbacks below each other."""
    below = [place.node for place in (*node.members, *node.later)]
    below += [callback for _, callbacks in node.callbacks() for callback in callbacks]
    return 1 + max((depth(each) for each in below), default=0)


def test_a_seed_gives_one_history() -> None:
    assert simulate_trees(3).digest == simulate_trees(3).digest
    assert simulate_trees(3).digest != simulate_trees(4).digest


def first_failure() -> TreeFailed:
    for seed in range(20):
        try:
            simulate_trees(seed)
        except TreeFailed as failure:
            return failure
    raise AssertionError("no seed noticed that callbacks of swarms get no results")


def test_a_failing_tree_shows_its_picture_and_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Gathering, *args: object) -> None: ...

    monkeypatch.setattr(Gathering, "value", nothing)
    failure = first_failure()
    text = str(failure)
    assert "a body gets its message" in text
    assert f"python -m mageflow.testing.simulate --trees --seed {failure.seed}" in text
    culprits = [tree for tree in draw_trees(failure.seed) if tree.picture() in text]
    assert len(culprits) == 1, "the picture of the tree that failed, and of no other"
    assert len(text.splitlines()) > 10, "the history is missing"


def test_a_failing_tree_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Gathering, *args: object) -> None: ...

    monkeypatch.setattr(Gathering, "value", nothing)
    failure = first_failure()

    small = shrink(failure, most=300)

    assert small.invariant == failure.invariant
    (tree,) = small.trees
    assert len(tree.nodes()) <= 4, tree.picture()
    assert tree.picture() in told_shrunk(small)
    with pytest.raises(TreeFailed, match=small.invariant):
        simulate_trees(small.seed, small.trees, without=small.without)


def test_the_command_line_grows_trees(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mageflow.testing.simulate", "--trees", "--seed", "3", "--count", "2"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "2 seeds from 3 on" in process.stdout
