"""`mageflow demo`, on a small folder of good and broken files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mageflow import Mageflow, RunInfo
from tests.cli.processes import MAGEFLOW, HeldFile, environment, mageflow, refusal

# A demo is some processes, each of which has much to import, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
PATIENCE = 100

GOOD = b"""\
import os

class Box:
    def open(self):
        def lid(): ...
        return lid

async def main():
    if os.name == "posix":
        def inner(): pass
    return r"\\d", "\\d", 1 is 1
"""
FILES = {
    "good.py": GOOD,
    "empty.py": b"",
    "package/deep.py": b"x = 1\ny = lambda: 2",
    "package/nulls.py": b"x = 1\0",
    "syntax.py": b"def broken(:\n",
    "encoding.py": b"# -*- coding: uft-8 -*-\n",
    # None of these is to be read:
    "notes.txt": b"no Python",
    ".hidden/secret.py": b"broken(",
    "site-packages/other.py": b"broken(",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def report_of(where: Path) -> Any:
    return json.loads((where / "report.json").read_text(encoding="utf-8"))


def test_report_json_tells_of_each_file(folder: Path, tmp_path: Path) -> None:
    done = mageflow("demo", str(folder), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    report = report_of(tmp_path)
    runs = [entry.pop("run") for entry in (*report["figures"], *report["failures"])]
    assert len(set(runs)) == 6
    reasons = {entry["path"]: entry.pop("reason") for entry in report["failures"]}
    assert report == {
        "folder": str(folder),
        "python": platform.python_version(),
        "files": 6,
        "parsed": 3,
        "failed": 3,
        "figures": [
            figures("empty.py", lines=0, functions=0, classes=0),
            figures("good.py", lines=11, functions=4, classes=1),
            figures("package/deep.py", lines=2, functions=0, classes=0),
        ],
        "failures": [
            {"path": "encoding.py", "error": "SyntaxError"},
            {
                "path": "package/nulls.py",
                "error": "ValueError" if sys.version_info < (3, 11, 4) else "SyntaxError",
            },
            {"path": "syntax.py", "error": "SyntaxError"},
        ],
    }
    assert "uft-8" in reasons["encoding.py"]
    assert "null bytes" in reasons["package/nulls.py"]
    assert "invalid syntax (syntax.py, line 1)" in reasons["syntax.py"]


def figures(path: str, *, lines: int, functions: int, classes: int) -> dict[str, Any]:
    digest = hashlib.sha256(FILES[path]).hexdigest()
    return {"path": path, "sha256": digest, "lines": lines, "functions": functions, "classes": classes}


def test_into_a_pipe_it_says_what_it_found_in_plain_text(folder: Path, tmp_path: Path) -> None:
    said = mageflow("demo", str(folder), cwd=tmp_path).stdout
    assert "\x1b" not in said
    assert "\r" not in said
    assert said.startswith(f"Reading 6 Python files of {folder}\n\nLargest files\n")
    assert re.search(r"^ +11 +4 +1 +good\.py$", said, re.MULTILINE)
    assert re.search(r"^ syntax\.py +SyntaxError: invalid syntax", said, re.MULTILINE)
    assert re.search(r"^6 files, 3 parsed, 3 failed\. 26 runs in [0-9.]+ s: [0-9,]+ runs/s\.$", said, re.MULTILINE)


def test_the_commands_at_its_end_look_further(folder: Path, tmp_path: Path) -> None:
    said = mageflow("demo", str(folder), cwd=tmp_path).stdout
    shown: dict[str, str] = {}
    for line in said.splitlines()[-3:]:
        words = shlex.split(line)
        assert words[: len(MAGEFLOW)] == MAGEFLOW
        done = mageflow(*words[len(MAGEFLOW) :], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown[words[len(MAGEFLOW)]] = done.stdout
    assert shown["graph"].startswith("swarm examine_folder  succeeded  run_")
    assert "6 members: 3 succeeded and 3 failed" in shown["graph"]
    assert "on success: write_report  succeeded" in shown["graph"]
    assert "It failed at step 3 of 3, at " in shown["explain"]
    assert " of 6 of the swarm 'examine_folder' (run_" in shown["explain"]
    assert "chain examine_file  failed" in shown["show"]
    assert "parse_file  failed" in shown["show"]


def test_a_second_run_begins_anew(folder: Path, tmp_path: Path) -> None:
    first = mageflow("demo", str(folder), cwd=tmp_path)
    (folder / "syntax.py").unlink()
    second = mageflow("demo", str(folder), cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert report_of(tmp_path)["files"] == 5
    listed = json.loads(mageflow("ls", "--store", "mageflow-demo.db", "--limit", "99", "--json", cwd=tmp_path).stdout)
    assert len(listed) == 2 + 4 * 5


def test_the_report_goes_where_it_is_wanted(folder: Path, tmp_path: Path) -> None:
    done = mageflow("demo", str(folder), "--report", "mine.json", cwd=tmp_path)
    assert done.returncode == 0
    assert "mine.json" in done.stdout
    assert json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))["files"] == 6
    assert not (tmp_path / "report.json").exists()


def test_what_cannot_work_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no .py file is in" in refusal(mageflow("demo", str(empty), cwd=tmp_path))
    said = refusal(mageflow("demo", str(folder), "--report", "nowhere/report.json", cwd=tmp_path))
    assert "the folder of --report nowhere/report.json does not exist" in said
    assert not (tmp_path / "mageflow-demo.db").exists()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal of one's own needs a POSIX system")
def test_on_a_terminal_a_bar_shows_the_progress(folder: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*MAGEFLOW, "demo", str(folder)],
        cwd=tmp_path,
        env=environment(TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = read_terminal(ours)
    assert process.wait(PATIENCE) == 0, said
    assert "6/6 3 failed" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("  ", " ")
    assert "26 runs in" in said


def read_terminal(terminal: int) -> str:
    said = b""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and select.select([terminal], [], [], PATIENCE)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        said += piece
    os.close(terminal)
    return said.decode()


# Interrupted, and started again


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Files that take two processes a few seconds."""
    large = tmp_path / "large"
    large.mkdir()
    for number in range(FILES_OF_LARGE):
        (large / f"m{number}.py").write_text("value = [1, 2, (3, 4)]\n" * 3000, encoding="utf-8")
    (large / "broken.py").write_text("def broken(:\n", encoding="utf-8")
    return large


FILES_OF_LARGE = 60


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MAGEFLOW, "demo", str(folder), *arguments],
        cwd=folder.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


async def runs_of(where: Path, **wanted: Any) -> dict[str, RunInfo]:
    """The runs in the demo's store, by id."""
    found: dict[str, RunInfo] = {}
    async with Mageflow(store=where / "mageflow-demo.db") as mage:
        cursor: str | None = None
        while True:
            page = await mage.find_runs(limit=500, cursor=cursor, **wanted)
            found |= {run.id: run.seen for run in page}
            cursor = page.cursor
            if cursor is None:
                return found


async def half_done(process: subprocess.Popen[str], large: Path) -> tuple[str, HeldFile]:
    """Wait until a third of the files are done; give what it said until then, and the file that it waits for.

    More of them are done by the time that a signal is heard, but never all.
    """
    until = time.monotonic() + PATIENCE
    assert process.stdout is not None
    said = process.stdout.readline()  # it knows by now which files there are
    held = HeldFile(large / "m9.py")
    store = large.parent / "mageflow-demo.db"
    while not store.exists() or not store.stat().st_size:
        assert time.monotonic() < until
        assert process.poll() is None
        await asyncio.sleep(0.01)
    async with Mageflow(store=store) as mage:
        while await files_done(mage) < FILES_OF_LARGE // 3:
            assert time.monotonic() < until, "it never came half way"
            assert process.poll() is None, "it was over before half of it"
            await asyncio.sleep(0.01)
    return said, held


async def files_done(mage: Mageflow) -> int:
    swarms = await mage.find_runs(task_name="examine_folder", limit=1)
    return swarms[0].seen.progress.ended if swarms and swarms[0].seen.progress is not None else 0


async def workers_gone(where: Path) -> None:
    async with Mageflow(store=where / "mageflow-demo.db") as mage:
        until = time.monotonic() + PATIENCE
        while [worker for worker in await mage.workers() if not worker.gone]:
            assert time.monotonic() < until, "its workers go on without it"
            await asyncio.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGKILL"])
async def test_interrupted_half_way_and_started_again_it_reads_no_file_twice(large: Path, how: str) -> None:
    where = large.parent
    process = begin(large, "--processes", "2")
    said, held = await half_done(process, large)
    process.send_signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGKILL)
    held.read_once()
    more, complained = process.communicate(timeout=PATIENCE)
    if how == "Ctrl-C":
        assert process.returncode == 130
        first, last = complained.splitlines()
        assert re.fullmatch(r"mageflow: \d+ of 61 files are done; the same command goes on from there", first), (
            complained
        )
        assert last == "mageflow: interrupted"
    assert (said, more) == (f"Reading 61 Python files of {large}\n", "")
    assert not (where / "report.json").exists()
    await workers_gone(where)
    before = {key: run for key, run in (await runs_of(where)).items() if run.status.is_terminal}
    done_before = [run for run in before.values() if run.kind == "chain"]
    assert FILES_OF_LARGE / 3 <= len(done_before) <= FILES_OF_LARGE

    held.as_it_was()
    done = mageflow("demo", str(large), "--processes", "2", "--report", "other.json", cwd=where)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Going on where it was left: {len(done_before)} of them are done" in done.stdout
    assert f"61 files, 60 parsed, 1 failed. 246 runs, {len(before)} of them before; the others in " in done.stdout
    after = await runs_of(where)
    assert {key: after[key] for key in before} == before, "what had ended was touched again"
    for step in ("read_file", "hash_file", "parse_file"):
        runs = [run for run in after.values() if run.task_name == step]
        assert len(runs) == len({run.parent for run in runs}) == FILES_OF_LARGE + 1
    assert sum(run.task_name == "write_report" for run in after.values()) == 1
    # A body that was under way at the kill may have been begun twice: there are eight places in two processes.
    assert sum(run.attempts > 1 for run in after.values()) <= 8
    report = json.loads((where / "other.json").read_text(encoding="utf-8"))
    assert (report["files"], report["parsed"], report["failed"]) == (61, 60, 1)
    assert not (where / "report.json").exists(), "the report goes where the last start wants it"

    anew = mageflow("demo", str(large), cwd=where)  # it has ended: the next one begins anew
    assert "Going on" not in anew.stdout
    assert not set(await runs_of(where)) & {run.id for run in after.values() if run.task_name == "examine_folder"}


async def test_fresh_begins_anew_and_so_does_another_folder(large: Path, folder: Path) -> None:
    where = large.parent
    process = begin(large)
    _, held = await half_done(process, large)
    process.kill()
    process.communicate()
    held.as_it_was()
    (first,) = await runs_of(where, task_name="examine_folder")
    process = begin(large, "--fresh")  # while the workers of the killed one may still be there
    until = time.monotonic() + PATIENCE
    while not (fresh := await runs_of(where, task_name="examine_folder")) or first in fresh:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    process.kill()
    process.communicate()
    other = mageflow("demo", str(folder), cwd=where)
    assert (other.returncode, other.stderr) == (0, "")
    assert "Going on" not in other.stdout
    assert report_of(where)["files"] == 6
    assert len(await runs_of(where)) == 2 + 4 * 6


async def test_a_store_on_which_others_work_is_not_removed(folder: Path, tmp_path: Path) -> None:
    async with Mageflow(store=tmp_path / "mageflow-demo.db") as mage:

        @mage.task
        async def theirs() -> None:
            return

        run = await (await mage.sign(theirs)).start()
        async with mage.worker():
            said = refusal_beside_what_it_said(await asyncio.to_thread(mageflow, "demo", str(folder), cwd=tmp_path))
            assert f"process {os.getpid()} works on mageflow-demo.db: another demo is running in this folder" in said
            await run.result(timeout=10)


def refusal_beside_what_it_said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    return line


def test_modules_of_the_users_folder_are_not_taken_for_ours(folder: Path, tmp_path: Path) -> None:
    for name in ("ast", "json", "logging", "pydantic", "mageflow"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not yours')", encoding="utf-8")
    program = "import sys; sys.path.pop(0); sys.argv[0] = 'mageflow'; from mageflow.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", str(folder)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
