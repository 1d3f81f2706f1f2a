"""`mageflow demo`, on a small folder of good and broken files."""

from __future__ import annotations

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

from tests.cli.processes import MAGEFLOW, environment, mageflow, refusal

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
    assert report.pop("seconds") > 0
    assert report.pop("runs_per_second") > 0
    runs = [entry.pop("run") for entry in (*report["figures"], *report["failures"])]
    assert len(set(runs)) == 6
    reasons = {entry["path"]: entry.pop("reason") for entry in report["failures"]}
    assert report == {
        "folder": str(folder),
        "python": platform.python_version(),
        "files": 6,
        "parsed": 3,
        "failed": 3,
        "runs": 12,
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
    assert re.search(r"^6 files, 3 parsed, 3 failed\. 12 runs in [0-9.]+ s: [0-9,]+ runs/s\.$", said, re.MULTILINE)


def test_the_command_at_its_end_shows_a_run(folder: Path, tmp_path: Path) -> None:
    said = mageflow("demo", str(folder), cwd=tmp_path).stdout
    program, *arguments = shlex.split(said.splitlines()[-1])
    assert [program, *arguments[:2]] == MAGEFLOW
    shown = mageflow(*arguments[2:], cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "examine_file  failed" in shown.stdout
    assert "record_problem  succeeded" in shown.stdout


def test_a_second_run_begins_anew(folder: Path, tmp_path: Path) -> None:
    first = mageflow("demo", str(folder), cwd=tmp_path)
    (folder / "syntax.py").unlink()
    second = mageflow("demo", str(folder), cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert report_of(tmp_path)["files"] == 5
    listed = json.loads(mageflow("ls", "--store", "mageflow-demo.db", "--limit", "99", "--json", cwd=tmp_path).stdout)
    assert len(listed) == 10


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
    assert process.wait(20) == 0, said
    assert "6/6 3 failed" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("  ", " ")
    assert "12 runs in" in said


def read_terminal(terminal: int) -> str:
    said = b""
    until = time.monotonic() + 40
    while time.monotonic() < until and select.select([terminal], [], [], 40)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        said += piece
    os.close(terminal)
    return said.decode()


@pytest.mark.skipif(os.name != "posix", reason="an interrupt is sent as POSIX has it")
def test_ctrl_c_in_the_middle_is_one_line_and_exit_code_130(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for number in range(300):
        (large / f"m{number}.py").write_text("value = [1, 2, (3, 4)]\n" * 3000, encoding="utf-8")
    process = subprocess.Popen(
        [*MAGEFLOW, "demo", str(large)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Reading 300 Python files")
    store = tmp_path / "mageflow-demo.db"
    until = time.monotonic() + 30
    while not (store.exists() and store.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=40)
    assert complained == "mageflow: interrupted\n"
    assert process.returncode == 130
    assert said == ""
    assert not (tmp_path / "report.json").exists()
