"""Every code block of README.md and docs/ is held by a test, so that what a page shows is what happens.

A ```python block is a program. It is run in an empty folder with a store of its own, and must end well.
A ```text block that follows it directly, or any block below an `<!-- output -->` comment, is what it prints.
`<!-- continues -->` above a block adds it to the program of the block before, as if both stood in one file.
A block below `<!-- imported -->` is imported as a module, so that what its main guard starts, on servers, is not.
In ```bash and ```console blocks, `make` and `mageflow` lines must name a target and a command that exist.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("README.md"), *sorted((ROOT / "docs").rglob("*.md"))]
# A fence in another language is refused: a ```py block would look the same and be run by nobody.
LANGUAGES = {
    "bash",
    "console",
    "diff",
    "ini",
    "json",
    "lua",
    "mermaid",
    "python",
    "sql",
    "text",
    "toml",
    "yaml",
}
# Printed between the blocks of one program, to tell their outputs apart.
SEAM = "----- next block -----"


# A Hatchet client is made by a token, which is read and not used: nothing is opened.
CLAIMS = {"sub": "tenant", "server_url": "http://localhost:1", "grpc_broadcast_address": "localhost:1"}
UNSIGNED = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": ""}, CLAIMS, {}))


@dataclass
class Block:
    """A fenced block of a page; `line` is that of its opening fence."""

    page: Path
    line: int
    language: str
    source: str
    continues: bool = False
    imported: bool = False
    output: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


@dataclass
class Program:
    """A ```python block and those that continue it."""

    blocks: list[Block] = field(default_factory=list[Block])

    def text(self) -> str:
        """The blocks as one file, each at the lines of the page, so that a traceback names those."""
        lines: list[str] = []
        for block in self.blocks:
            seam = f"print({SEAM!r}, flush=True)" if lines else ""
            lines += [""] * (block.line - 1 - len(lines)) + [seam] + block.source.splitlines()
        return "\n".join(lines) + "\n"


def blocks_of(page: Path) -> list[Block]:
    blocks: list[Block] = []
    program: Block | None = None
    comment, adjacent = "", False
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
            continue
        if token.type == "fence":
            line = token.map[0] + 1 if token.map else 1
            block = Block(page, line, token.info.strip(), token.content, comment == "continues", comment == "imported")
            blocks.append(block)
            if comment == "output" or (adjacent and block.language == "text"):
                assert program is not None, f"{block.place}: an output, but no ```python block before it"
                program.output = block.source
            elif block.language == "python":
                program = block
        comment, adjacent = "", token.type == "fence" and blocks[-1] is program
    return blocks


def programs(blocks: list[Block]) -> list[Program]:
    found: list[Program] = []
    for block in blocks:
        if block.language != "python":
            continue
        if not (block.continues and found and found[-1].blocks[0].page == block.page):
            found.append(Program())
        found[-1].blocks.append(block)
    return found


def commands(block: Block) -> list[list[str]]:
    """The command lines of a shell block, word by word; in ```console they are those behind a `$`."""
    lines = block.source.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language in {"bash", "console"}]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "MAGEFLOW_STORE": f"sqlite:///{folder / 'mageflow.db'}",
        "PYTHONIOENCODING": "utf-8",
        "NO_COLOR": "1",
        "HATCHET_CLIENT_TOKEN": UNSIGNED,
    }
    return subprocess.run(  # noqa: PLW1510 - each caller reports a failure in its own words
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


@pytest.mark.parametrize("program", programs(BLOCKS), ids=lambda program: program.blocks[0].place)
def test_python_block_runs_and_prints_what_the_page_says(program: Program, tmp_path: Path) -> None:
    first = program.blocks[0]
    # A page may be called as a package is that it imports.
    script = tmp_path / f"page_{re.sub(r'[^a-z0-9]', '_', first.page.stem)}.py"
    script.write_text(program.text(), encoding="utf-8")
    result = run(["-c", f"import {script.stem}"] if first.imported else [script.name], tmp_path)
    assert result.returncode == 0, (
        f"{first.place}: the program failed. The lines named below are those of the page.\n"
        f"{result.stderr}\nIt had printed:\n{result.stdout}"
    )
    for block, printed in zip(program.blocks, result.stdout.split(f"{SEAM}\n"), strict=True):
        if block.output is not None:
            assert printed.rstrip() == block.output.rstrip(), f"{block.place}: it prints something else"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_block_names_a_language_that_is_held_by_a_test(block: Block) -> None:
    assert block.language in LANGUAGES, f"{block.place}: write one of {sorted(LANGUAGES)} behind the fence"


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_make_line_names_a_target(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name, *arguments in commands(block):
        named = {word for word in arguments if "=" not in word and not word.startswith("-")}
        assert name != "make" or named <= targets, f"{block.place}: no such target: {named - targets}"


@cache
def command_exists(name: str, folder: Path) -> bool:
    return run(["-c", "from mageflow.cli import main; main()", name, "--help"], folder).returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("mageflow.cli") is None, reason="mageflow.cli does not exist yet")
@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_mageflow_line_names_a_command(block: Block, tmp_path: Path) -> None:
    for name, *arguments in commands(block):
        if name == "mageflow" and arguments:
            assert command_exists(arguments[0], tmp_path), f"{block.place}: no command `mageflow {arguments[0]}`"
