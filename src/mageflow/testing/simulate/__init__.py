"""The simulator: the real core and runtime, on a store, an engine and processes that fail as they may.

One seed decides everything: how many processes there are, what they do, when they die, freeze or lose their way to the
store, what the engine drops, doubles and delays. Time is virtual. Every commit and every body is checked against the
invariants of ARCHITECTURE.md as it happens; then the faults end, and all must come to its end.

    python -m mageflow.testing.simulate --seed 7

With `--trees` random trees of chains and swarms grow there, and a plain recursive model says what they must come to.
"""

from mageflow.testing.simulate.trees_world import TreeFailed, simulate_trees
from mageflow.testing.simulate.weather import SimulationFailed
from mageflow.testing.simulate.world import Outcome, simulate

__all__ = ["Outcome", "SimulationFailed", "TreeFailed", "simulate", "simulate_trees"]
