"""Which app a command takes: the argument's, else MAGEFLOW_APP's, else that of the nearest pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mageflow import RunInfo
from tests.cli.processes import MAGEFLOW, environment, mageflow, refusal

# `dev` and its workers are processes, each of which has much to import, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
PATIENCE = 100

APP = """\
import logging
from mageflow import Mageflow
from pydantic import BaseModel

mage = Mageflow(store="{store}")

class Order(BaseModel):
    order_id: int
    note: str = ""

@mage.task
async def process_order(order: Order) -> int:
    logging.getLogger("shop").info("order %d", order.order_id)
    print("printed", order.order_id)
    return order.order_id
"""
TABLE = '[project]\nname = "shop"\n\n[tool.mageflow]\napp = "{app}"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with three apps, each on a file of its own, and a pyproject.toml that names the third."""
    root = tmp_path / "shop"
    (root / "deep" / "deeper").mkdir(parents=True)
    for name in ("argued", "environed", "projected"):
        (root / f"{name}.py").write_text(APP.format(store=tmp_path / f"{name}.db"))
    (root / "pyproject.toml").write_text(TABLE.format(app="projected:mage"))
    return root


def started_in(project: Path) -> set[str]:
    return {path.stem for path in project.parent.glob("*.db")}


def test_arguments_beat_the_environment_which_beats_pyproject(project: Path) -> None:
    run = ["run", "process_order", '{"order_id": 7}']
    assert mageflow(*run, cwd=project).returncode == 0
    assert started_in(project) == {"projected"}
    assert mageflow(*run, cwd=project, MAGEFLOW_APP="environed:mage").returncode == 0
    assert started_in(project) == {"projected", "environed"}
    done = mageflow(*run, "--app", "argued:mage", cwd=project, MAGEFLOW_APP="environed:mage")
    assert (done.returncode, done.stderr) == (0, "")
    assert started_in(project) == {"projected", "environed", "argued"}
    one = json.loads(mageflow("ls", "--store", str(project.parent / "argued.db"), "--json").stdout)
    assert [RunInfo.model_validate(each).message for each in one] == [{"order_id": 7}]


def test_pyproject_is_found_from_below_and_its_folder_is_the_one_to_import_from(project: Path) -> None:
    (project / "deep" / "pyproject.toml").write_text('[project]\nname = "other"\n')  # it names no app: it is passed by
    done = mageflow("run", "process_order", '{"order_id": 7}', cwd=project / "deep" / "deeper")
    assert (done.returncode, done.stderr) == (0, "")
    assert started_in(project) == {"projected"}


@pytest.mark.parametrize("command", ["worker", "dev"])
def test_where_nothing_names_an_app_it_says_where_it_looked(command: str, tmp_path: Path) -> None:
    done = mageflow(command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = " ".join(done.stderr.split())
    for words in ("no app is named", "shop.tasks:mage", "MAGEFLOW_APP", "[tool.mageflow] app", str(tmp_path)):
        assert words in said


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('app = "projected:mgae"', ["app = 'projected:mgae'", "projected.py", "did you mean 'mage'", "projected:mage"]),
        ('app = "projectd:mage"', ["no module 'projectd'", "did you mean 'projected'"]),
        ("app = 3", ["app = 3, which is no import string"]),
        ('app = ""', ["app = '', which is no import string"]),
        ('ap = "projected:mage"', ["has 'ap', which is no setting", "did you mean 'app'"]),
        ("app = ", ["is no TOML", "line 2"]),
    ],
)
@pytest.mark.parametrize("command", [["worker"], ["run", "process_order"]], ids=["worker", "run"])
def test_a_wrong_one_says_the_file_what_was_tried_and_what_was_found(
    project: Path, command: list[str], table: str, words: list[str]
) -> None:
    (project / "pyproject.toml").write_text(f"[tool.mageflow]\n{table}\n")
    said = refusal(mageflow(*command, cwd=project / "deep"))
    for word in [str(project / "pyproject.toml"), *words]:
        assert word in said


def test_a_wrong_one_of_the_environment_says_so(project: Path) -> None:
    said = refusal(mageflow("worker", cwd=project, MAGEFLOW_APP="projected:mgae"))
    assert said.startswith("mageflow: MAGEFLOW_APP=projected:mgae: ")


# Started with an app


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('{"order_id": "seven"}', ["order_id", "int"]),
        ("{}", ["order_id", "Field required"]),
        ('{"order_id": null, "note": 3}', ["order_id", "null", "note"]),
    ],
)
def test_a_message_that_does_not_fit_is_refused_before_anything_starts(
    project: Path, message: str, words: list[str]
) -> None:
    done = mageflow("run", "process_order", message, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    for word in ["process_order", *words]:
        assert word in done.stderr
    assert "no runs" in mageflow("ls", "--store", str(project.parent / "projected.db")).stdout.lower()


def test_a_mistyped_task_is_refused_with_what_is_near(project: Path) -> None:
    done = mageflow("run", "proces_order", '{"order_id": 1}', cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no task is called 'proces_order'; did you mean 'process_order'?" in " ".join(done.stderr.split())


def test_a_store_that_is_named_beats_the_apps_own(project: Path) -> None:
    (project / "other.db").touch()
    done = mageflow("run", "process_order", '{"order_id": 7}', "--store", "other.db", cwd=project)
    assert done.returncode == 0
    assert started_in(project) == set()
    (run,) = json.loads(mageflow("ls", "--store", "other.db", "--json", cwd=project).stdout)
    assert run["task_name"] == "process_order"
    assert mageflow("run", "process_order", "{}", "--store", "other.db", cwd=project).returncode == 2


def test_an_app_in_memory_is_reached_by_nobody(project: Path) -> None:
    (project / "projected.py").write_text(APP.format(store="memory://"))
    assert "in memory" in refusal(mageflow("run", "process_order", '{"order_id": 7}', cwd=project))


def test_the_next_step_names_the_app(project: Path) -> None:
    run = mageflow("run", "process_order", '{"order_id": 7}', cwd=project).stdout.strip()
    store = str(project.parent / "projected.db")
    told = mageflow("explain", run, "--store", store, cwd=project).stdout
    assert told.splitlines()[-1].endswith("mageflow.cli worker projected:mage")
    whole = json.loads(mageflow("explain", run, "--store", store, "--json", cwd=project).stdout)
    assert whole["next_step"] == "mageflow worker projected:mage"
    (project / "pyproject.toml").write_text("[tool.mageflow]\napp = 3\n")
    assert "pkg.mod:mage" in mageflow("explain", run, "--store", store, cwd=project).stdout


# dev


class Dev:
    """`mageflow dev` in a pipe or on a terminal."""

    def __init__(self, project: Path, *arguments: str, terminal: bool = False) -> None:
        ours, theirs = os.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [*MAGEFLOW, "dev", *arguments],
            cwd=project,
            env=environment(TERM="xterm-256color"),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._ours = ours
        self.said = ""

    def until(self, words: str) -> None:
        """Read on until these words are said."""
        until = time.monotonic() + PATIENCE
        while not re.search(words, self.said):
            ready = select.select([self._ours], [], [], max(0.0, until - time.monotonic()))[0]
            piece = os.read(self._ours, 65536) if ready else b""
            assert piece, f"it never said {words!r}:\n{self.said}"
            self.said += piece.decode()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
        os.close(self._ours)


@pytest.fixture
def devs() -> Iterator[list[Dev]]:
    begun: list[Dev] = []
    yield begun
    for each in begun:
        each.end()


@pytest.mark.skipif(os.name != "posix", reason="signals and terminals as POSIX has them")
def test_dev_says_what_happens_and_begins_anew_when_a_file_changes(project: Path, devs: list[Dev]) -> None:
    dev = Dev(project)
    devs.append(dev)
    dev.until("worker of projected:mage is ready")
    run = mageflow("run", "process_order", '{"order_id": 7}', cwd=project).stdout.strip()
    dev.until(r"succeeded \(attempt 1")
    assert f"run {run} of 'process_order' begins" in dev.said
    assert re.search(rf"INFO    shop: order 7  \[process_order {run}, attempt 1\]\n", dev.said)
    assert "printed 7\n" in dev.said
    assert "\x1b" not in dev.said
    app = project / "projected.py"
    app.write_text(app.read_text() + "1 / 0\n")
    dev.until("tried again when a file changes")
    assert re.search(r"WARNING mageflow.serving: projected.py changed; the workers start anew\n", dev.said)
    assert f"{project / 'pyproject.toml'}, [tool.mageflow] app = 'projected:mage'" in dev.said
    assert "ZeroDivisionError" in dev.said
    app.write_text(app.read_text().replace("1 / 0\n", ""))
    dev.until(r"(?s)ZeroDivisionError.*is ready")
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(PATIENCE) == 0
    assert "Traceback" not in dev.said


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal of one's own needs a POSIX system")
def test_dev_is_in_colour_on_a_terminal_and_an_argument_beats_pyproject(project: Path, devs: list[Dev]) -> None:
    dev = Dev(project, "argued:mage", "--processes", "2", "--concurrency", "3", terminal=True)
    devs.append(dev)
    dev.until(r"(?s)argued:mage is ready.*argued:mage is ready")
    assert "\x1b[32mINFO   \x1b[0m mageflow.serving: worker of argued:mage" in dev.said


def test_an_app_that_sets_up_logging_itself_has_the_last_word(project: Path, devs: list[Dev]) -> None:
    app = project / "projected.py"
    app.write_text(app.read_text() + "logging.basicConfig(format='mine %(message)s', level='INFO')\n")
    dev = Dev(project)
    devs.append(dev)
    dev.until("mine worker of projected:mage is ready")
    assert "INFO    mageflow" not in dev.said


def test_a_worker_logs_in_the_same_form(project: Path) -> None:
    process = subprocess.Popen(
        [*MAGEFLOW, "worker"], cwd=project, env=environment(), stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        ready = r"worker of projected:mage is ready: process \d+, 1 task, .+"
        assert re.fullmatch(rf"[-0-9]+ [:0-9]+,\d+ INFO    mageflow\.serving: {ready}\n", line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
