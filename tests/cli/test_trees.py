"""Chains and swarms on the command line: `graph`, and what the other commands say and do of them."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mageflow import Drawing, Explanation, Mageflow, SwarmConfig
from tests.api.test_drawing import check, check_mermaid
from tests.cli.conftest import Stock
from tests.cli.processes import MAGEFLOW, mageflow, refusal


def tasks(mage: Mageflow) -> None:
    @mage.task
    async def read(msg: dict[str, Any]) -> dict[str, Any]:
        return msg

    @mage.task
    async def parse(msg: dict[str, Any]) -> dict[str, Any]:
        if msg.get("bad"):
            raise ValueError("no \x1b[31mluck")
        return msg

    @mage.task
    async def report(msg: dict[str, Any]) -> None:
        return


@pytest.fixture(scope="module")
def grove(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    path = tmp_path_factory.mktemp("grove") / "trees.db"
    return Stock(path=path, keys=asyncio.run(_plant(path)))


async def _plant(path: Path) -> dict[str, str]:
    keys: dict[str, str] = {}
    async with Mageflow(store=path) as mage:
        tasks(mage)
        chain = await mage.chain(["read", await mage.sign("parse", bad=True), "report"], "import", success="report")
        swarm = await mage.swarm(
            task="parse",
            inputs=[{"bad": n in (2, 9)} for n in range(15)],
            task_name="pages",
            success_callbacks=["report"],
        )
        opened = await mage.swarm(["read"], "open pages")
        keys["chain signature"], keys["open signature"] = chain.key, opened.key
        async with mage.worker():
            for name, signature in (("chain", chain), ("swarm", swarm)):
                run = await signature.start({})
                await run.settled(timeout=20)
                keys[name] = run.id
            keys["open"] = (await opened.start({})).id
            keys["to close"] = (await (await mage.swarm(["read"], "to close")).start({})).id
        for name in ("waiting", "to cancel", "to suspend", "to interrupt", "to resume"):
            many = await mage.swarm(["read"] * 6, name, config=SwarmConfig(max_concurrency=2), is_swarm_closed=True)
            waiting = await many.start({})
            keys[name] = waiting.id
            if name == "to resume":
                await waiting.suspend()
    return keys


# graph


def test_graph_draws_a_run_as_a_list_in_plain_text(grove: Stock) -> None:
    done = mageflow("graph", grove["chain"], "--store", grove.store)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == f"chain import  failed  {grove['chain']}"
    assert lines[1] == "│  1 of 3 steps succeeded"
    assert lines[2] == "│  ValueError: no \\x1b[31mluck"
    assert lines[3].startswith("├─ 1. read  succeeded  run_")
    assert any(line.startswith("└─ on success: report  not called") for line in lines)


def test_graph_as_mermaid_as_json_and_as_an_image(grove: Stock, tmp_path: Path) -> None:
    drawn = mageflow("graph", grove["swarm"], "--store", grove.store, "--json").stdout
    drawing = Drawing.model_validate_json(drawn)
    check(drawing)
    assert drawing.boxes[0].notes[0] == "15 members: 13 succeeded and 2 failed"
    source = mageflow("graph", grove["swarm"], "--store", grove.store, "--mermaid").stdout
    check_mermaid(source)
    file = tmp_path / "flow.svg"
    done = mageflow("graph", grove["chain signature"], "--store", grove.store, "--svg", str(file))
    assert (done.returncode, done.stdout) == (0, f"Wrote {file}\n")
    assert ElementTree.parse(file).getroot().tag.endswith("svg")


def test_graph_refuses_what_it_cannot_do(grove: Stock, tmp_path: Path) -> None:
    assert "no run or signature run_zzz" in refusal(mageflow("graph", "run_zzz", "--store", grove.store))
    nowhere = str(tmp_path / "nowhere" / "flow.svg")
    assert "cannot be written" in refusal(mageflow("graph", grove["chain"], "--store", grove.store, "--svg", nowhere))
    assert mageflow("graph", grove["chain"], "--store", grove.store, "--mermaid", "--json").returncode == 2


# explain


def test_explain_lists_the_members_that_block(grove: Stock) -> None:
    told = mageflow("explain", grove["waiting"], "--store", grove.store).stdout
    lines = told.splitlines()
    assert lines[0] == f"{grove['waiting']}  waiting  running"
    assert lines[2] == (
        "0 of its 6 members have ended. 2 are on their way, and its window of 2 is full: 4 wait for room in it."
    )
    assert "members on their way" in lines
    assert lines[-1].startswith("  run_")
    assert lines[-1].endswith(f"  read  queued: It is due, but no worker is running on {grove.store}.")
    whole = json.loads(mageflow("explain", grove["waiting"], "--store", grove.store, "--json").stdout)
    explained = Explanation.model_validate(whole)
    assert [each.facts["place"] for each in explained.members] == [0, 1]
    member = mageflow("explain", explained.members[1].key, "--store", grove.store).stdout
    assert f"member of  member 2 of 6 of the swarm 'waiting' ({grove['waiting']})" in member


def test_an_open_swarm_is_closed_by_the_command_that_explain_gives(grove: Stock) -> None:
    told = mageflow("explain", grove["to close"], "--store", grove.store).stdout
    step = next(line for line in told.splitlines() if line.startswith("next step"))
    words = shlex.split(step.removeprefix("next step"))
    assert words[len(MAGEFLOW)] == "close"
    done = mageflow(*words[len(MAGEFLOW) :])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": no member can be added any more\n")
    assert mageflow("close", grove["to close"], "--store", grove.store).stdout == (
        f"{grove['to close']}  to close  succeeded: it was closed before\n"
    )
    assert "only swarms are closed" in refusal(mageflow("close", grove["chain"], "--store", grove.store))


def test_the_failed_members_of_a_run_that_failed(grove: Stock) -> None:
    told = mageflow("explain", grove["chain"], "--store", grove.store).stdout
    assert "It failed at step 2 of 3, at " in told
    assert "\nfailed members\n  run_" in told
    assert "\x1b" not in told


# ls and show


def test_ls_says_which_runs_are_of_chains_and_swarms_and_how_far_they_are(grove: Stock) -> None:
    listed = mageflow("ls", "--store", grove.store, "--limit", "200").stdout
    (chain,) = [line for line in listed.splitlines() if line.startswith(grove["chain"])]
    assert "  chain import  " in chain
    (swarm,) = [line for line in listed.splitlines() if line.startswith(grove["swarm"])]
    assert swarm.endswith("  15 members: 13 succeeded and 2 failed")


def test_show_tells_progress_and_members(grove: Stock) -> None:
    shown = mageflow("show", grove["chain"], "--store", grove.store).stdout
    assert shown.startswith(f"{grove['chain']}  chain import  failed\n")
    assert "\nchain     3 members: 1 succeeded, 1 failed and 1 cancelled\n" in shown
    assert "\nmembers\n  1. run_" in shown
    assert "  ValueError: no \\x1b[31mluck" in shown
    shown = mageflow("show", grove["swarm"], "--store", grove.store).stdout
    assert "\nmembers\n   3. run_" in shown, "those that failed, of many"
    assert "\n  10. run_" in shown
    assert "\n  and 13 more\n" in shown
    assert "\ncaused\n  run_" in shown
    whole = json.loads(mageflow("show", grove["swarm"], "--store", grove.store, "--json").stdout)
    assert len(whole["members"]) == 15
    assert len(whole["caused"]) == 1
    assert whole["progress"]["failed"] == 2
    shown = mageflow("show", whole["members"][0], "--store", grove.store).stdout
    assert f"\nmember    1 of  {grove['swarm']}  swarm pages  succeeded" in shown


# cancel, suspend, interrupt, resume, retry


@pytest.mark.parametrize(
    ("verb", "status", "remark"),
    [
        ("cancel", "running", "no member of it begins any more, and what runs is asked to stop"),
        ("suspend", "suspended", "no member of it begins; those that run go on to their end"),
        ("interrupt", "interrupted", "no member of it begins, and what runs is asked to stop"),
    ],
)
def test_a_swarm_is_held_and_cancelled_as_a_whole(grove: Stock, verb: str, status: str, remark: str) -> None:
    key = grove[f"to {verb}"]
    done = mageflow(verb, key, "--store", grove.store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{key}  to {verb}  {status}: {remark}\n"


def test_a_swarm_is_resumed_with_another_window(grove: Stock) -> None:
    key = grove["to resume"]
    done = mageflow("resume", key, "--store", grove.store, "--max-concurrency", "5")
    assert (done.returncode, done.stdout) == (0, f"{key}  to resume  running\n")
    told = Explanation.model_validate_json(mageflow("explain", key, "--store", grove.store, "--json").stdout)
    assert told.facts["window"] == 5
    assert told.facts["members"]["running"] == 5
    refused = mageflow("resume", grove["chain"], "--store", grove.store, "--max-concurrency", "5")
    assert "max_concurrency= is for swarms" in refusal(refused)
    refused = mageflow("resume", grove["chain signature"], "--store", grove.store, "--max-concurrency", "5")
    assert "--max-concurrency is for swarms" in refusal(refused)


def test_a_chain_is_tried_again_from_the_step_that_failed(grove: Stock) -> None:
    done = mageflow("retry", grove["chain"], "--store", grove.store)
    assert done.returncode == 0, done.stderr
    again = done.stdout.split()[0]
    told = Explanation.model_validate_json(mageflow("explain", again, "--store", grove.store, "--json").stdout)
    assert told.reason == "It is at step 2 of 3."
