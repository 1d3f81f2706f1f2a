"""`mageflow explain`, and what `show` and `ls` say of runs that have not ended."""

from __future__ import annotations

import json
import shlex

from mageflow import Explanation, Mageflow, RunStatus
from mageflow.testing.contracts.engines.acting import until_status
from tests.cli.conftest import Stock, Work
from tests.cli.processes import MAGEFLOW, mageflow, refusal


def test_a_queued_run_says_that_no_worker_is_running(stock: Stock) -> None:
    done = mageflow("explain", stock["queued"], "--store", stock.store)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{stock['queued']}  echo  queued"
    assert lines[2] == f"It is due, but no worker is running on {stock.store}."
    assert lines[4] == "waits for  a worker that knows the task 'echo'"
    assert lines[5].startswith("since      20")
    assert lines[6].endswith(" worker pkg.mod:mage")


def test_the_next_step_is_a_command_that_works_from_here(stock: Stock) -> None:
    told = mageflow("explain", stock["to resume"], "--store", stock.store).stdout
    assert "It is held before its body begins: it was suspended itself." in told
    step = next(line for line in told.splitlines() if line.startswith("next step"))
    words = shlex.split(step.removeprefix("next step"))
    assert words[: len(MAGEFLOW)] == MAGEFLOW
    done = mageflow(*words[len(MAGEFLOW) :])
    assert (done.returncode, done.stdout) == (0, f"{stock['to resume']}  echo  queued\n")


def test_json_holds_the_explanation(stock: Stock) -> None:
    done = mageflow("explain", stock["pausing"], "--store", stock.store, "--json")
    told = Explanation.model_validate(json.loads(done.stdout))
    assert (told.key, told.status) == (stock["pausing"], "scheduled")
    assert "retry 1 of 5" in told.reason


def test_a_signature_is_explained_too_and_a_beginning_will_do(stock: Stock) -> None:
    key = stock["held signature"]
    told = mageflow("explain", key[:-1], "--store", stock.store).stdout
    assert told.startswith(f"{key}  echo  suspended\n")
    assert f"resume {key}" in told


def test_a_failure_cannot_move_the_cursor(stock: Stock) -> None:
    told = mageflow("explain", stock["failed"], "--store", stock.store).stdout
    assert "\x1b" not in told
    assert "ValueError: no \\x1b[31mluck" in told


def test_what_is_not_there_is_refused(stock: Stock) -> None:
    assert "no run or signature run_zzz is in" in refusal(mageflow("explain", "run_zzz", "--store", stock.store))


def test_show_says_why_a_run_has_not_ended(stock: Stock) -> None:
    shown = mageflow("show", stock["held by signature"], "--store", stock.store).stdout
    assert f"\nwhy       It is held before its body begins: its signature {stock['held signature']} was" in shown
    assert f" resume {stock['held signature']} --store {stock.store}\n" in shown
    whole = json.loads(mageflow("show", stock["delayed"], "--store", stock.store, "--json").stdout)
    assert whole["explanation"]["reason"].startswith("It was started to begin at")


def test_ls_says_beside_the_output_that_nobody_takes_what_is_due(stock: Stock) -> None:
    done = mageflow("ls", "--store", stock.store)
    assert f"No worker is running on {stock.store}, and " in done.stderr
    assert "No worker is running" not in done.stdout
    assert mageflow("ls", "--store", stock.store, "--status", "failed").stderr == ""


async def test_a_running_run_names_its_worker_and_its_pulse(served: Work) -> None:
    begun = mageflow("run", "sleep", "{}", "--store", served.store).stdout.strip()
    async with Mageflow(store=served.path) as mage:
        run = await mage.load_run(begun)
        assert run is not None
        await until_status(run, RunStatus.RUNNING)
    told = mageflow("explain", begun, "--store", served.store).stdout
    assert f"Its body runs in the worker press (process {served.process.pid} on " in told
    assert ", attempt 1, and the worker beats." in told
