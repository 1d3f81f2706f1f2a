"""Both type checkers accept what users write, and refuse exactly what they must not write.

A pair of files, `accepted*.py` and `refused*.py`, is one row; more are found by their names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted([*HERE.glob("accepted*.py"), *HERE.glob("refused*.py")])

pytestmark = pytest.mark.timeout(300)


@lru_cache(maxsize=1)
def pyright_refuses() -> dict[Path, dict[int, str]]:
    """Run pyright once over all files, strictly, and give what it refuses by line."""
    with tempfile.TemporaryDirectory() as folder:  # a project of its own: ours leaves out the files that are wrong
        settings = {
            "include": [os.path.relpath(file, folder) for file in FILES],
            "extraPaths": [str(ROOT / "src")],
            "typeCheckingMode": "strict",
            "pythonVersion": "3.11",
            "reportUnusedExpression": "none",
        }
        (Path(folder) / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(FILES), done.stdout + done.stderr
    found: dict[Path, dict[int, str]] = {file: {} for file in FILES}
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            found.setdefault(Path(each["file"]), {})[each["range"]["start"]["line"] + 1] = each["message"]
    return found


@lru_cache(maxsize=1)
def mypy_refuses() -> dict[Path, dict[int, str]]:
    """Run mypy once over all files, strictly, and give what it refuses by line."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--no-error-summary",
        "--follow-imports=silent",
    ]
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}"
    done = subprocess.run(
        [*command, cache, "--explicit-package-bases", *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[Path, dict[int, str]] = {file: {} for file in FILES}
    for line in done.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match:
            found.setdefault(ROOT / match[1], {})[int(match[2])] = match[3]
    return found


CHECKERS = {"mypy": mypy_refuses, "pyright": pyright_refuses}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("checker", list(CHECKERS))
def test_checkers_refuse_the_marked_lines_and_no_other(checker: str, file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if line.rstrip().endswith("# refused")}
    refused = CHECKERS[checker]().get(file, {})
    accepted = {number: lines[number - 1].strip() for number in marked - refused.keys()}
    surplus = {number: message for number, message in refused.items() if number not in marked}
    assert not accepted, f"{checker} accepts in {file.name}: {accepted}"
    assert not surplus, f"{checker} refuses in {file.name}: {surplus}"
