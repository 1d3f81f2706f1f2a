"""Run simulations: `python -m mageflow.testing.simulate --seed 7 --count 100`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from mageflow.testing.simulate import SimulationFailed, TreeFailed, simulate, simulate_trees
from mageflow.testing.simulate.trees_shrink import shrink, told_shrunk


def main() -> int:
    """Run what the command line asks for; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mageflow.testing.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--count", type=int, help="how many seeds (default: one, or as many as --seconds allow)")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument("--history", action="store_true", help="print all that happened")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failing seed")
    parser.add_argument("--trees", action="store_true", help="grow trees of chains and swarms, a few for each seed")
    parser.add_argument("--shrink", action="store_true", help="make trees that fail smaller, while they still do")
    given = parser.parse_args()
    run = simulate_trees if given.trees else simulate
    begun = time.perf_counter()
    counts: Counter[str] = Counter()
    failed = done = 0
    count = given.count if given.count is not None else sys.maxsize if given.seconds is not None else 1
    while done < count and (given.seconds is None or time.perf_counter() - begun < given.seconds):
        try:
            outcome = run(given.seed + done)
        except (SimulationFailed, TreeFailed) as error:
            failed += 1
            print(error, end="\n\n", flush=True)
            if given.shrink and isinstance(error, TreeFailed):
                print(told_shrunk(shrink(error)), end="\n\n", flush=True)
            if not given.keep_going:
                return 1
        else:
            counts += outcome.counts
            if given.history:
                print(outcome.history)
        done += 1
    spent = time.perf_counter() - begun
    for kind, times in counts.most_common():
        print(f"{times:9}  {kind}")
    print(f"{done} seeds from {given.seed} on in {spent:.1f} s, {done / spent:.1f} a second; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
