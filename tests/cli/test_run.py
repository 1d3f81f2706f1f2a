"""`mageflow run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from mageflow import RunInfo
from tests.cli.conftest import Stock, Work
from tests.cli.processes import MAGEFLOW, environment, mageflow, refusal


def test_with_wait_it_prints_the_result(served: Work) -> None:
    done = mageflow("run", "double", '{"x": 21}', "--wait", "--store", served.store)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"doubled": 42}\n', "")


def test_without_it_prints_the_id_for_the_next_command(served: Work) -> None:
    done = mageflow("run", "double", '{"x": 1}', "--store", served.store, "--priority", "3", "--retries", "2")
    assert (done.returncode, done.stderr) == (0, "")
    whole = json.loads(mageflow("show", done.stdout.strip(), "--store", served.store, "--json").stdout)
    run = RunInfo.model_validate(whole)
    assert (run.task_name, run.message, run.priority, run.retries) == ("double", {"x": 1}, 3, 2)


def test_json_is_the_whole_run_and_a_message_may_come_by_a_pipe(served: Work) -> None:
    done = subprocess.run(
        [*MAGEFLOW, "run", "double", "-", "--wait", "--json", "--store", served.store],
        input='{"x": 4}',
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    run = RunInfo.model_validate(json.loads(done.stdout))
    assert (run.status, run.result) == ("succeeded", {"doubled": 8})


def test_a_run_that_fails_is_exit_code_1_with_the_reason(served: Work) -> None:
    said = refusal(mageflow("run", "fail", "--wait", "--store", served.store))
    assert said.endswith(" failed: ValueError: the body said no")


def test_an_idempotency_key_gives_the_same_run_again(stock: Stock) -> None:
    said = {
        mageflow("run", "echo", "--idempotency-key", "k", "--delay", "60", "--store", stock.store).stdout
        for _ in range(2)
    }
    assert len(said) == 1


def test_out_of_time_the_run_goes_on(stock: Stock) -> None:
    said = refusal(mageflow("run", "echo", "--timeout", "0.1", "--store", stock.store))
    assert "has not ended within 0.1 s; it goes on" in said
    assert f"--store {stock.store}" in said


def test_a_name_that_nobody_registered_is_told_with_what_is_near(stock: Stock) -> None:
    done = mageflow("run", "ecco", "--delay", "60", "--store", stock.store)
    assert done.returncode == 0
    assert "no process has registered a task 'ecco' so far; did you mean 'echo'?" in done.stderr


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{"x": }', "Expecting value at line 1, column 7 behind '{\"x\": '"),
        ("{x: 1}", "property name enclosed in double quotes at line 1, column 2 behind '{'"),
        ('{"x": NaN}', "NaN does not exist in JSON"),
        ("[1]", "a message is a JSON object"),
        ("", "Expecting value at line 1, column 1."),
    ],
)
def test_what_is_no_message_is_wrong_usage_with_the_place(stock: Stock, message: str, words: str) -> None:
    done = mageflow("run", "echo", message, "--store", stock.store)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="an interrupt is sent as POSIX has it")
def test_ctrl_c_while_it_waits_leaves_the_run_alone(stock: Stock) -> None:
    process = subprocess.Popen(
        [*MAGEFLOW, "run", "echo", "--wait", "--store", stock.store],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    hint = process.stderr.readline()  # said after two seconds of waiting in vain
    assert "is queued. It is due, but no worker is running" in hint
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    run_id = hint.split()[1]
    first, last = complained.splitlines()
    assert first.startswith(f"mageflow: {run_id} goes on; stop it with: ")
    assert last == "mageflow: interrupted"
    assert json.loads(mageflow("show", run_id, "--store", stock.store, "--json").stdout)["status"] == "queued"
