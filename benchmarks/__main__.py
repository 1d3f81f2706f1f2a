"""`make bench`: each figure beside its target and the machine's own limit, measured in the same run."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import flows, limits, processes, swarms

TARGETS = {
    "hop_ms": 0.35,
    "runs_per_s": 5_000.0,
    "import_s": 0.2,
    "pickup_ms": 2.0,
    "pickup_p99_ms": 5.0,
    "idle_percent": 1.0,
    "nothing_gain": 1.0,
    "spin_gain": 1.5,
    "made_per_s": 20_000.0,
    "ended_per_s": 5_000.0,
    "longest_commit_ms": 50.0,
}


def measure(sizes: list[int], repeats: int) -> dict[str, Any]:
    """Take all figures; times are medians."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    with tempfile.TemporaryDirectory(prefix="mageflow-bench-") as name:
        folder = Path(name)
        found["sqlite_commits_per_s"] = limits.sqlite_commits(folder, full=False)
        found["sqlite_full_commits_per_s"] = limits.sqlite_commits(folder, full=True)
        found["loop_tasks_per_s"] = asyncio.run(limits.tasks())
        found["import_pydantic_s"] = flows.import_time("pydantic.main, pydantic.type_adapter")
        found["import_s"] = flows.import_time("mageflow")
        hops = asyncio.run(flows.hop(folder / "hop.db", repeats=repeats))
        found["hop_ms"], found["hop_all_ms"] = median(hops), hops
        found["hop_memory_ms"] = median(asyncio.run(flows.hop("memory://", repeats=repeats)))
        found.update(_between_processes(folder, repeats))
        runs: dict[int, dict[str, float]] = {}
        for size in sizes:
            rounds = repeats if size <= 10_000 else 1
            pairs = [asyncio.run(flows.runs(folder / f"runs-{size}-{place}.db", size)) for place in range(rounds)]
            runs[size] = {
                "starts_per_s": median(pair[0] for pair in pairs),
                "runs_per_s": median(pair[1] for pair in pairs),
            }
    found["swarms"] = {
        size: {what: swarms.measure(size, what=what) for what in ("members", "callbacks", "cancel")} for size in sizes
    }
    found["runs"] = runs
    found["runs_per_s"] = runs[10_000 if 10_000 in runs else sizes[0]]["runs_per_s"]
    return found


def _between_processes(folder: Path, repeats: int) -> dict[str, float]:
    pairs = [asyncio.run(processes.pickup(folder / f"pickup-{place}.db")) for place in range(repeats)]
    found = {
        "pickup_ms": median(pair[0] for pair in pairs),
        "pickup_p99_ms": median(pair[1] for pair in pairs),
        "idle_percent": 100 * processes.idle_share(folder / "idle.db"),
        "machine_gain": limits.second_process(),
    }
    for task, count in (("nothing", 10_000), ("spin", 500)):
        for workers in (1, 2):
            rates = [
                asyncio.run(processes.throughput(folder / f"{task}-{workers}-{place}.db", task, count, workers))
                for place in range(min(repeats, 3))
            ]
            found[f"{task}_{workers}_per_s"] = median(rates)
        found[f"{task}_gain"] = found[f"{task}_2_per_s"] / found[f"{task}_1_per_s"]
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    limit = "the machine's limit"
    rows = [
        ("SQLite commits a second, one row each", f"{found['sqlite_commits_per_s']:,.0f}", limit),
        ("the same with synchronous=FULL", f"{found['sqlite_full_commits_per_s']:,.0f}", limit),
        ("event loop tasks a second", f"{found['loop_tasks_per_s']:,.0f}", limit),
        ("import pydantic's models, s", f"{found['import_pydantic_s']:.3f}", "pydantic's share"),
        ("import mageflow, s", f"{found['import_s']:.3f}", _verdict(found, "import_s", False)),
        ("hop to a success callback, ms", f"{found['hop_ms']:.3f}", _verdict(found, "hop_ms", False)),
        ("the same in memory, ms", f"{found['hop_memory_ms']:.3f}", ""),
        ("start in another process, ms", f"{found['pickup_ms']:.3f}", _verdict(found, "pickup_ms", False)),
        ("the same, 99th percentile", f"{found['pickup_p99_ms']:.3f}", _verdict(found, "pickup_p99_ms", False)),
        ("an idle worker, % of a core", f"{found['idle_percent']:.2f}", _verdict(found, "idle_percent", False)),
        ("a second process of pure Python, times", f"{found['machine_gain']:.2f}", limit),
        ("a second worker, bodies of 5 ms, times", f"{found['spin_gain']:.2f}", _verdict(found, "spin_gain", True)),
        ("the same, empty bodies, times", f"{found['nothing_gain']:.2f}", _verdict(found, "nothing_gain", True)),
        ("runs a second, in one process", f"{found['runs_per_s']:,.0f}", _verdict(found, "runs_per_s", True)),
    ]
    for size, pair in found["runs"].items():
        started = f"started alone: {pair['starts_per_s']:,.0f} a second"
        rows.append((f"us a run, of {size:,}", f"{1e6 / pair['runs_per_s']:.0f}", started))
    for size, swarm in found["swarms"].items():
        rows += _swarm_rows(size, swarm)
    print(f"Python {found['python']}, {found['machine']}; medians; bodies do nothing; synchronous=NORMAL\n")
    for what, figure, remark in rows:
        print(f"  {what:<40}{figure:>10}   {remark}".rstrip())


def _swarm_rows(size: int, swarm: dict[str, dict[str, float]]) -> list[tuple[str, str, str]]:
    plain, called, cancelled = swarm["members"], swarm["callbacks"], swarm["cancel"]
    longest = {"longest_commit_ms": cancelled["longest_commit_ms"]}
    return [
        (
            f"swarm of {size:,}: members listed a second",
            f"{plain['made_per_s']:,.0f}",
            _verdict(plain, "made_per_s", True),
        ),
        ("  their runs made a second", f"{cancelled['opened_per_s']:,.0f}", ""),
        (
            "  us a member, to its end",
            f"{1e6 / plain['ended_per_s']:.0f}",
            f"memory grew by {plain['memory_mb']:.0f} MB",
        ),
        ("  members with a callback a second", f"{called['ended_per_s']:,.0f}", _verdict(called, "ended_per_s", True)),
        ("  cancelled half way, members a second", f"{cancelled['cancelled_per_s']:,.0f}", ""),
        (
            "  longest commit of that, ms",
            f"{longest['longest_commit_ms']:.0f}",
            _verdict(longest, "longest_commit_ms", False),
        ),
    ]


def _verdict(found: dict[str, Any], name: str, more: bool) -> str:
    target = TARGETS[name]
    met = found[name] >= target if more else found[name] <= target
    return f"target {'at least' if more else 'at most'} {target:g}: {'met' if met else 'MISSED'}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000", help="how many runs, comma-separated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the figures for programs")
    given = parser.parse_args()
    found = measure([int(size) for size in given.sizes.split(",")], given.repeats)
    if given.json:
        json.dump(found, sys.stdout, indent=2)
        print()
    else:
        show(found)


if __name__ == "__main__":
    main()
