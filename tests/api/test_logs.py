"""Logs: which run a record is about, what workers log, and what they do not."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from pydantic import BaseModel

import mageflow.logs
from mageflow import ConfigurationError, Mageflow, MageflowConfig, current_run
from mageflow.logs import JsonFormatter, RunContextFilter, TextFormatter, configure, for_stream
from mageflow.runtime.quotes import without_quotes
from tests.api.conftest import Sign, until_status, work

SECRET = "ada-4711@example.com"


class Kept(logging.Handler):
    """Keeps the records as JSON, as a production log would have them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.addFilter(RunContextFilter())
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [entry for line in self.lines if (entry := json.loads(line))["logger"] == logger]


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept, root = Kept(), logging.getLogger()
    level, ours = root.level, logging.getLogger("mageflow")
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(kept)
    root.setLevel(level)
    ours.setLevel(logging.NOTSET)


async def test_what_a_body_logs_carries_its_run(mage: Mageflow, sign: Sign, kept: Kept) -> None:
    log = logging.getLogger("app")

    @mage.task
    async def asynchronous() -> None:
        log.info("here %d", 1, extra={"order": 7})

    @mage.task
    def synchronous() -> None:
        log.info("here")

    runs = [await (await sign(task)).start() for task in (asynchronous, synchronous)]
    await work(mage)
    log.info("outside")
    first, second, outside = sorted(kept.of("app"), key=lambda entry: entry.get("task_name", "z"))
    for entry, run in zip((first, second), runs, strict=True):
        assert (entry["run_id"], entry["task_name"], entry["attempt"]) == (run.id, run.task_name, 1)
        assert (entry["level"], entry["time"][-6:]) == ("INFO", "+00:00")
    assert (first["message"], first["order"]) == ("here 1", 7)
    assert "run_id" not in outside


async def test_levels_are_such_that_a_production_log_does_not_drown(mage: Mageflow, sign: Sign, kept: Kept) -> None:
    entered = asyncio.Event()

    @mage.task
    async def good() -> None:
        return

    @mage.task(retries=1)
    async def bad() -> None:
        raise ValueError(f"attempt {current_run().attempt}\nand more \x1b")

    @mage.task
    async def endless() -> None:
        entered.set()
        await asyncio.sleep(600)

    await (await sign(good)).start()
    failing = await (await sign(bad)).start()
    stopped = await (await sign(endless)).start()
    async with mage.worker():
        await entered.wait()
        await stopped.cancel()
        await until_status(failing, mageflow.RunStatus.FAILED)
    said = [(entry["level"], entry["status"]) for entry in kept.of("mageflow.runs") if "status" in entry]
    assert sorted(said) == [
        ("DEBUG", "succeeded"),
        ("ERROR", "failed"),
        ("INFO", "cancelled"),
        ("INFO", "queued"),
    ]
    again, failed = [entry for entry in kept.of("mageflow.runs") if entry.get("status") in ("queued", "failed")]
    assert again["message"].startswith(f"run {failing.id} of 'bad' failed and is tried again in 0.0 s: ValueError: ")
    assert failed["message"].startswith(f"run {failing.id} of 'bad' failed: ValueError: attempt 2 (attempt 2, ")
    assert (again["run_id"], again["task_name"], again["attempt"]) == (failing.id, "bad", 1)
    assert failed["seconds"] >= 0
    begun = [entry for entry in kept.of("mageflow.runs") if " begins" in entry["message"]]
    assert {entry["level"] for entry in begun} == {"DEBUG"}
    assert len(begun) == 4


class Customer(BaseModel):
    email: str
    age: int = 0


@pytest.mark.parametrize("asked_for", [False, True])
async def test_contents_are_logged_only_if_asked_for(tmp_path: Path, kept: Kept, asked_for: bool) -> None:
    async with Mageflow(store=tmp_path / "flows.db", config=MageflowConfig(log_messages=asked_for)) as mage:

        @mage.task
        async def echo(msg: Customer) -> str:
            return msg.email

        @mage.task
        async def validate(msg: Customer) -> None:
            Customer.model_validate({"email": msg.email, "age": msg.email})

        for task in (echo, validate):
            await (await mage.sign(task)).start(Customer(email=SECRET))
            await (await mage.sign(task)).start({"email": "x", "age": SECRET})  # does not fit the model
        await work(mage)
    assert [entry["level"] for entry in kept.of("mageflow.runs") if entry.get("status") == "failed"] == ["ERROR"] * 3
    leaked = [line for line in kept.lines if SECRET in line]
    assert bool(leaked) is asked_for, leaked
    if asked_for:
        ended = [entry for entry in kept.of("mageflow.runs") if entry.get("status") == "succeeded"]
        assert json.loads(ended[0]["run_message"]) == {"email": SECRET, "age": 0}
        assert json.loads(ended[0]["run_result"]) == SECRET
        assert any("Traceback" in entry.get("run_traceback", "") for entry in kept.of("mageflow.runs"))


@pytest.mark.parametrize("asked_for", [False, True])
async def test_a_failure_is_told_in_its_own_words_without_what_it_quotes(
    tmp_path: Path, kept: Kept, asked_for: bool
) -> None:
    async with Mageflow(store=tmp_path / "flows.db", config=MageflowConfig(log_messages=asked_for)) as mage:

        @mage.task
        async def parse(msg: dict[str, Any]) -> None:
            int(msg["order"]["email"])

        await (await mage.sign(parse)).start({"order": {"email": SECRET, "base": 10, "with": "with"}})
        await work(mage)
    (failed,) = [entry for entry in kept.of("mageflow.runs") if entry.get("status") == "failed"]
    said = SECRET if asked_for else "…"
    with_ = "with" if asked_for else "…"
    assert f"failed: ValueError: invalid literal for int() {with_} base 10: '{said}' (attempt 1, " in failed["message"]


@pytest.mark.parametrize(
    ("text", "message", "told"),
    [
        ("no order 4711 for 'ada@example.com'", {"id": 4711, "to": "ada@example.com"}, "no order … for '…'"),
        ("no order 47110 or x4711", {"id": 4711}, "no order 47110 or x4711"),  # no part of a longer word
        ("it's \\x1b", {"x": "\x1b[0m", "y": "it's"}, "… \\x1b"),
        ("KeyError: 'email'", {"email": "ada@example.com"}, "KeyError: 'email'"),  # a name is the code's own
        ("no 1 true None", {"x": "no", "y": 1, "z": [True, None]}, "no 1 true None"),
        ("deep secret and secret", [{"x": ["secret"]}, {"y": {"z": "deep secret"}}], "… and …"),
        ("nothing", None, "nothing"),
    ],
)
def test_what_counts_as_a_quote(text: str, message: Any, told: str) -> None:
    raw = Raw(json.dumps(message).encode()) if message is not None else None
    assert without_quotes(text, raw) == told


# The set-up


@pytest.fixture
def clean_root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_configure_writes_a_line_for_people(clean_root: logging.Logger, tmp_path: Path) -> None:
    stream = io.StringIO()
    configure("debug", stream=stream)
    async with Mageflow(store=tmp_path / "flows.db") as mage:

        @mage.task
        async def greet() -> None:
            logging.getLogger("app").warning("hello")

        run = await (await mage.sign(greet)).start()
        await work(mage)
    (line,) = [line for line in stream.getvalue().splitlines() if " app: " in line]
    assert line.endswith(f" WARNING app: hello  [greet {run.id}, attempt 1]")
    (begins,) = [line for line in stream.getvalue().splitlines() if " begins" in line]
    assert begins.count(run.id) == 1


def test_configure_again_replaces_what_it_did_and_leaves_the_rest(clean_root: logging.Logger) -> None:
    others = len(clean_root.handlers)
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure(logging.WARNING, json=True, stream=second)
    logging.getLogger("app").info("not this")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("app").exception("this %s", "ü", extra={"at": Path("/tmp")})
    assert len(clean_root.handlers) == others + 1
    assert first.getvalue() == ""
    entry = json.loads(second.getvalue())
    assert (entry["message"], entry["level"], entry["at"]) == ("this ü", "ERROR", "/tmp")
    assert entry["exception"].endswith("ValueError: why")


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'WARNING'"):
        mageflow.logs.configure("WARNIN")


def test_on_a_terminal_levels_are_coloured_and_the_record_stays_as_it_is() -> None:
    record = logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "name": "shop", "msg": "no"})
    record.run_id, record.task_name, record.attempt = "run_1", "pack", 2
    plain, coloured = TextFormatter().format(record), TextFormatter(color=True).format(record)
    assert plain.endswith(" ERROR   shop: no  [pack run_1, attempt 2]")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert "\x1b[31mERROR  \x1b[0m" in coloured
    assert record.levelname == "ERROR"


def test_colour_is_for_terminals_and_not_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    record = logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "name": "shop", "msg": "yes"})
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" in for_stream(Terminal()).format(record)
    assert "\x1b" not in for_stream(io.StringIO()).format(record)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in for_stream(Terminal()).format(record)
