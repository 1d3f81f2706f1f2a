"""`mageflow ls`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mageflow import Mageflow, RunInfo, RunOptions
from tests.cli.conftest import Kept
from tests.cli.processes import mageflow


def test_it_lists_runs_newest_first_a_line_each(kept: Kept) -> None:
    done = mageflow("ls", "--store", kept.store)
    assert (done.returncode, done.stderr) == (0, "")
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["RUN", "STATUS", "TASK", "STARTED", "TOOK", "CAME", "TO"]
    assert [line.split()[0] for line in lines] == [kept.alert, kept.bad, kept.email, kept.good]
    assert [line.split()[1:3] for line in lines] == [
        ["succeeded", "alert"],
        ["failed", "process_order"],
        ["succeeded", "send_email"],
        ["succeeded", "process_order"],
    ]
    assert lines[1].endswith("ZeroDivisionError: integer division or modulo by zero")
    assert lines[3].endswith('"receipt 14"')


def test_into_a_pipe_it_writes_plain_text_that_stays_the_same(kept: Kept) -> None:
    first = mageflow("ls", "--store", kept.store)
    narrow = mageflow("ls", "--store", kept.store, COLUMNS="20")
    assert first.stdout == narrow.stdout
    assert "\x1b" not in first.stdout
    assert not [line for line in first.stdout.splitlines() if line != line.rstrip()]


def test_json_holds_each_run_whole(kept: Kept) -> None:
    done = mageflow("ls", "--store", kept.store, "--json")
    runs = [RunInfo.model_validate(run) for run in json.loads(done.stdout)]
    assert [run.id for run in runs] == [kept.alert, kept.bad, kept.email, kept.good]
    assert runs[0].cause == kept.bad
    assert runs[1].message == {"order_id": 0}
    assert runs[1].attempts == 2
    assert runs[3].result == "receipt 14"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--status", "failed"], ["bad"]),
        (["--task", "process_order"], ["bad", "good"]),
        (["--task", "process_order", "--status", "succeeded"], ["good"]),
        (["--limit", "2"], ["alert", "bad"]),
    ],
    ids=["status", "task", "both", "limit"],
)
def test_filters(kept: Kept, filters: list[str], expected: list[str]) -> None:
    done = mageflow("ls", "--store", kept.store, "--json", *filters)
    assert [run["id"] for run in json.loads(done.stdout)] == [getattr(kept, name) for name in expected]


def test_that_there_are_more_is_said_beside_the_output(kept: Kept) -> None:
    done = mageflow("ls", "--store", kept.store, "--limit", "3")
    assert len(done.stdout.splitlines()) == 1 + 3
    assert done.stderr == "There are more: --limit 30 lists up to 30 of them.\n"
    assert mageflow("ls", "--store", kept.store, "--limit", "4").stderr == ""


async def test_a_run_that_waits_has_not_started(tmp_path: Path) -> None:
    async with Mageflow(store=tmp_path / "waiting.db") as mage:

        @mage.task
        async def wait() -> None:
            return

        signature = await mage.sign(wait)
        queued = await signature.start()
        later = await signature.start(options=RunOptions(delay=3600))
    lines = mageflow("ls", "--store", "waiting.db", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        [later.id, "scheduled", "wait", "due"],
        [queued.id, "queued", "wait", "-"],
    ]
    shown = mageflow("show", later.id, "--store", "waiting.db", cwd=tmp_path).stdout
    assert "\ndue       " in shown
    assert "\nstarted" not in shown


def test_nothing_found_is_no_failure(kept: Kept) -> None:
    done = mageflow("ls", "--store", kept.store, "--status", "running")
    assert (done.returncode, done.stdout) == (0, f"No runs like these in {kept.store}.\n")
    assert mageflow("ls", "--store", kept.store, "--status", "running", "--json").stdout == "[]\n"
