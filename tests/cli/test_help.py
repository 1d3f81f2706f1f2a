"""`mageflow --help`, wrong usage, and what happens where an extra is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.cli.processes import environment, mageflow


def test_help_says_what_it_is_and_shows_the_commands_at_work() -> None:
    done = mageflow("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for words in (
        "callbacks",
        "mageflow demo",
        "mageflow ls --status failed",
        "mageflow show",
        "mageflow dev",
        "[tool.mageflow]",
        "MAGEFLOW_APP",
        "--store",
        "Exit codes",
    ):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_without_arguments_it_prints_the_help() -> None:
    done = mageflow()
    assert "Usage: mageflow" in done.stdout + done.stderr
    assert done.returncode == 2


def test_version() -> None:
    assert mageflow("--version").stdout == f"mageflow {version('mageflow')}\n"


COMMANDS = [
    "cancel",
    "close",
    "demo",
    "dev",
    "doctor",
    "explain",
    "graph",
    "interrupt",
    "ls",
    "purge",
    "resume",
    "retry",
    "run",
    "show",
    "suspend",
    "worker",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(command: str) -> None:
    done = mageflow(command, "--help")
    assert done.returncode == 0
    assert f"mageflow {command}" in done.stdout.split("Options:")[0].split("\n", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "list"),
        (["ls", "--nope"], "--nope"),
        (["ls", "--status", "done"], "succeeded"),
        (["ls", "--limit", "0"], "limit"),
        (["show"], "ID"),
        (["demo", "no-such-folder"], "no-such-folder"),
        (["cancel"], "ID"),
        (["run"], "TASK"),
        (["run", "t", "--priority", "4"], "priority"),
        (["run", "t", "--delay", "soon"], "delay"),
        (["worker", "a:b", "--processes", "0"], "processes"),
        (["dev", "a:b", "--concurrency", "many"], "concurrency"),
    ],
    ids=[
        "command",
        "option",
        "status",
        "limit",
        "no id",
        "no folder",
        "no ids",
        "no task",
        "priority",
        "delay",
        "processes",
        "concurrency",
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments: list[str], words: str) -> None:
    done = mageflow(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_how_to_install_it(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from mageflow.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"mageflow: the command line needs {missing}, which is not installed. Run: pip install 'mageflow[cli]'\n"
    )
