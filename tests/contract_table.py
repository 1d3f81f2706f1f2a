"""The table of docs/engines.md, made by the test run: which part of its contract each store and engine passes.

A run compares what it has run in full with what the page says, and fails where they differ; `--write-table` (`make
table`) writes it instead. What was not run, or only in part, stays as the page has it.
"""

from __future__ import annotations

import datetime
import json
import os
import urllib.request
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from mageflow.engines.local import LocalEngine
from mageflow.ports.engine import Capabilities
from mageflow.testing.contracts import StoreContract
from mageflow.testing.contracts.commits import CommitContract
from mageflow.testing.contracts.engines import EngineContract
from mageflow.testing.contracts.engines.deliveries import TestsOfDeliveries
from mageflow.testing.contracts.engines.flows import TestsOfFlows
from mageflow.testing.contracts.engines.steering import TestsOfSteering
from mageflow.testing.contracts.expiry import ExpiryContract
from mageflow.testing.contracts.listing import ListingContract
from mageflow.testing.contracts.outbox import DeliveryContract, PullContract
from mageflow.testing.contracts.races import LostReplyContract, RaceContract
from mageflow.testing.contracts.rings import RingContract

PAGE = Path(__file__).resolve().parents[1] / "docs" / "engines.md"
BEGIN, END = "<!-- table: the test run makes it, `make table` writes it -->", "<!-- end of the table -->"
ON_A_SERVER = "TestOnAServer"
"""The row that needs a server which cannot be installed by a test run."""
_PROPERTY = "contract"
_UNKNOWN = "–"


@dataclass(frozen=True)
class Contract:
    """A suite, its parts with their headings, and the test classes that keep it, with theirs."""

    suite: type[Any]
    heading: str
    parts: dict[type[Any], str]
    rows: dict[str, str]

    def tests_of(self, part: str) -> set[str]:
        """Give the names of the tests of a part."""
        found = next(each for each in self.parts if each.__name__ == part)
        return {name for name in vars(found) if name.startswith("test_")}


STORES = Contract(
    StoreContract,
    "store",
    {
        CommitContract: "commits",
        LostReplyContract: "lost replies",
        RaceContract: "races",
        PullContract: "pulls",
        DeliveryContract: "deliveries",
        ListingContract: "lists",
        ExpiryContract: "expiry",
        RingContract: "rings",
    },
    {
        "TestMemoryStore": "memory",
        "TestSqliteStore": "SQLite",
        "TestTwoHandlesOnOneFile": "SQLite, two handles on one file",
        "TestSqliteStoreAtFullDurability": 'SQLite, `durability="full"`',
        "TestRedisStore": "Redis",
        "TestTwoHandlesOnOneServer": "Redis, two handles on one server",
    },
)
ENGINES = Contract(
    EngineContract,
    "engine",
    {TestsOfFlows: "flows", TestsOfSteering: "steering", TestsOfDeliveries: "hostile deliveries"},
    {
        "TestEmbedded": "embedded, memory",
        "TestEmbeddedOnSqlite": "embedded, SQLite",
        "TestInMemory": "Taskiq, `InMemoryBroker`, memory",
        "TestRedisStream": "Taskiq, `RedisStreamBroker`, Redis",
        "TestRedisList": "Taskiq, `ListQueueBroker`, Redis",
        "TestNats": "Taskiq, `NatsBroker`, Redis",
        "TestJetStream": "Taskiq, `PullBasedJetStreamBroker`, Redis",
        "TestPlayed": "Hatchet, its SDK with a played server, memory",
        ON_A_SERVER: "Hatchet, a server, SQLite",
    },
)
CONTRACTS = (STORES, ENGINES)
Cell = tuple[str, str]
"""A test class and a part."""


def declared() -> dict[str, Capabilities]:
    """Give what the engines say of themselves; what that means stands beside `Capabilities`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK uses a library's names that have others by now
        from mageflow.engines.hatchet import HatchetEngine
        from mageflow.engines.taskiq import TaskiqEngine

    return {each.name: each.capabilities for each in (LocalEngine, TaskiqEngine, HatchetEngine)}


def render(cells: dict[Cell, str], last: str) -> str:
    """Give the tables, and the sentence that says when the last run on a Hatchet server was."""
    blocks = [_table(contract, cells) for contract in (ENGINES, STORES)]
    return "\n\n".join([blocks[0], last, _capabilities(), blocks[1]])


def _table(contract: Contract, cells: dict[Cell, str]) -> str:
    lines = [[contract.heading, *contract.parts.values()], ["---"] * (len(contract.parts) + 1)]
    for row, title in contract.rows.items():
        lines.append([title, *(cells.get((row, part.__name__), _UNKNOWN) for part in contract.parts)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _capabilities() -> str:
    engines = declared()
    lines = [["declares", *engines], ["---"] * (len(engines) + 1)]
    for name in Capabilities.__struct_fields__:
        values = [getattr(each, name) for each in engines.values()]
        lines.append([f"`{name}`", *(_said(value) for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _said(value: bool | int | None) -> str:
    if value is None:
        return _UNKNOWN
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:,}"


def on_the_page() -> str:
    """Give what stands between the marks."""
    _, begun, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    inside, ended, _ = rest.partition(END)
    assert begun, f"{PAGE.name} has no {BEGIN}"
    assert ended, f"{PAGE.name} has no {END}"
    return inside.strip()


def read(inside: str) -> tuple[dict[Cell, str], str]:
    """Give the cells, and the sentence on Hatchet."""
    rows = {title: (contract, row) for contract in CONTRACTS for row, title in contract.rows.items()}
    cells: dict[Cell, str] = {}
    for line in inside.splitlines():
        title, *values = [each.strip() for each in line.strip("| ").split(" | ")]
        if title in rows:
            contract, row = rows[title]
            parts = [each.__name__ for each in contract.parts]
            cells |= {(row, part): value for part, value in zip(parts, values, strict=True)}
    last = next((line for line in inside.splitlines() if line.startswith("The row")), "")
    return cells, last


class ContractTable:
    """Collects the outcomes of one run, those of all its processes."""

    def __init__(self) -> None:
        self.outcomes: dict[Cell, dict[str, str]] = {}
        self.said: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note on each test of a contract which row and part it belongs to: its report takes that along."""
        for item in items:
            kept = getattr(item, "cls", None)
            contract = next((each for each in CONTRACTS if kept and issubclass(kept, each.suite)), None)
            if kept is None or contract is None:
                continue
            if kept.__name__ not in contract.rows:
                raise pytest.UsageError(f"{kept.__name__} keeps a contract and has no row in tests/contract_table.py")
            name = getattr(item, "originalname", item.name)
            part = next((each.__name__ for each in contract.parts if name in vars(each)), None)
            if part is not None:
                item.user_properties.append((_PROPERTY, json.dumps([kept.__name__, part, name])))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst that was heard of a test, whatever its parameters."""
        for name, value in report.user_properties:
            if name == _PROPERTY and (report.when == "call" or report.outcome != "passed"):
                row, part, test = json.loads(str(value))
                seen = self.outcomes.setdefault((row, part), {})
                if seen.get(test, "passed") == "passed":
                    seen[test] = report.outcome

    def ran(self) -> dict[Cell, str]:
        """Give the cells of all that was run in full."""
        cells: dict[Cell, str] = {}
        for (row, part), seen in self.outcomes.items():
            contract = next(each for each in CONTRACTS if row in each.rows)
            if set(seen) == contract.tests_of(part) and "skipped" not in seen.values():
                passed = sum(outcome == "passed" for outcome in seen.values())
                cells[row, part] = f"{passed} of {len(seen)}"
        return cells

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Compare, or write, where the reports of all processes come together."""
        if hasattr(session.config, "workerinput"):
            return
        ran = self.ran()
        if session.config.getoption("--write-table"):
            self._write(ran)
            return
        page, _ = read(on_the_page())
        for cell, value in ran.items():
            if page.get(cell) != value and "failed" not in self.outcomes[cell].values():
                self.said.append(f"{' '.join(cell)}: {value}, and docs/engines.md says {page.get(cell)}: make table")
        if self.said and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for line in self.said:
            terminalreporter.line(line, red=True)

    def _write(self, ran: dict[Cell, str]) -> None:
        cells, last = read(on_the_page())
        if any(row == ON_A_SERVER for row, _ in ran):
            last = _last_run()
        text = PAGE.read_text(encoding="utf-8")
        made = f"{BEGIN}\n\n{render(cells | ran, last)}\n\n{END}"
        PAGE.write_text(
            text.replace(f"{BEGIN}{text.partition(BEGIN)[2].partition(END)[0]}{END}", made), encoding="utf-8"
        )
        self.said.append(f"docs/engines.md has {len(ran)} cells of this run")


def _last_run() -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    versions = f"Hatchet {_server_version()}, hatchet-sdk {version('hatchet-sdk')}"
    return f"The row of a Hatchet server is of the last run that had one: {today}, {versions}."


def _server_version() -> str:
    from hatchet_sdk import ClientConfig

    from tests.engines.hatchet.conftest import GIVEN

    with pytest.MonkeyPatch.context() as patch:
        for name, value in GIVEN.items():
            patch.setitem(os.environ, name, value)
        url = ClientConfig().server_url
    try:
        with urllib.request.urlopen(f"{url}/api/v1/version", timeout=10) as answer:
            return str(json.load(answer)["version"]).removeprefix("v")
    except (OSError, ValueError, KeyError):
        return "(of a version that it does not tell)"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write the table of docs/engines.md")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ContractTable(), "contract-table")
