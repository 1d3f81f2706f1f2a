"""Which store `ls` and `show` look into, and what they say where they cannot."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Kept
from tests.cli.processes import mageflow, refusal


@pytest.mark.parametrize("command", [["ls"], ["ls", "--json"], ["show", "run_1"]], ids=" ".join)
@pytest.mark.parametrize("store", ["flows.db", "sqlite:///flows.db", "folder/flows.db"])
def test_a_missing_store_is_named_and_not_made(command: list[str], store: str, tmp_path: Path) -> None:
    said = refusal(mageflow(*command, "--store", store, cwd=tmp_path))
    assert f"there is no store {store}" in said
    assert "--store" in said
    assert "MAGEFLOW_STORE" in said
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_mageflow_db_in_the_current_folder(kept: Kept, tmp_path: Path) -> None:
    assert "there is no store mageflow.db" in refusal(mageflow("ls", cwd=tmp_path))
    kept.path.rename(tmp_path / "mageflow.db")
    assert kept.good in mageflow("ls", cwd=tmp_path).stdout


def test_the_environment_names_the_store_and_the_option_beats_it(kept: Kept) -> None:
    assert kept.good in mageflow("ls", MAGEFLOW_STORE=kept.store).stdout
    assert kept.good in mageflow("ls", MAGEFLOW_STORE=f"sqlite:///{kept.store}").stdout
    assert "missing.db" in refusal(mageflow("ls", "--store", "missing.db", MAGEFLOW_STORE=kept.store))


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("memory://", "is gone with the program"),
        ("redis://127.0.0.1:1", "cannot be reached"),
        ("sqlite://flows.db", "names no file"),
        ("mysql://x", "not known"),
        (".", "this is a folder"),
    ],
)
def test_a_store_that_cannot_be_looked_into_is_refused(store: str, words: str) -> None:
    assert words in refusal(mageflow("ls", "--store", store))


def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database at all, but more than a few bytes of text\n" * 100, encoding="utf-8")
    before = text.read_bytes()
    assert "notes.txt" in refusal(mageflow("ls", "--store", str(text)))
    assert text.read_bytes() == before

    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    assert "another program's" in refusal(mageflow("ls", "--store", str(other)))
