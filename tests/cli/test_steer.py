"""`mageflow cancel`, `suspend`, `interrupt`, `resume`, `retry` and `purge`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mageflow import Mageflow, MageflowConfig, RunStatus, TTLConfig
from tests.cli.conftest import Stock
from tests.cli.processes import mageflow, refusal


@pytest.mark.parametrize(
    ("verb", "status"), [("cancel", "cancelled"), ("suspend", "suspended"), ("interrupt", "suspended")]
)
def test_a_run_that_waits(stock: Stock, verb: str, status: str) -> None:
    key = stock[f"to {verb}"]
    for expected in (f"{key}  echo  {status}\n", f"{key}  echo  {status}"):  # repeating it changes nothing
        done = mageflow(verb, key, "--store", stock.store)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(expected)


def test_several_at_once_and_one_that_is_refused_leaves_the_others_alone(stock: Stock) -> None:
    done = mageflow("suspend", "run_zzz", stock["delayed"], stock["signature"], "--store", stock.store, "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("mageflow: no run or signature run_zzz is in ")
    assert [(told["key"], told["status"]) for told in json.loads(done.stdout)] == [
        (stock["delayed"], "suspended"),
        (stock["signature"], "suspended"),
    ]
    done = mageflow("resume", stock["signature"], stock["delayed"], "--store", stock.store)
    assert done.stdout.splitlines() == [
        f"{stock['signature']}  echo  active: its runs go on",
        f"{stock['delayed']}  echo  scheduled",
    ]


def test_a_run_that_its_signature_holds_may_be_let_go_alone(stock: Stock) -> None:
    key, signature = stock["held by signature"], stock["held signature"]
    done = mageflow("resume", key, "--store", stock.store)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{key}  echo  queued")
    assert mageflow("resume", signature, "--store", stock.store).stdout.startswith(f"{signature}  echo  active")


def test_what_has_ended_is_left_as_it_is(stock: Stock) -> None:
    done = mageflow("cancel", stock["succeeded"], "--store", stock.store)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{stock['succeeded']}  echo  succeeded: it had ended before; ")


def test_retry_gives_the_new_run_and_twice_the_same(stock: Stock) -> None:
    said = [mageflow("retry", stock[name], "--store", stock.store).stdout for name in ("failed", "failed 2", "failed")]
    assert said[0] == said[2] != said[1]
    new, rest = said[0].split("  ", 1)
    assert new.startswith("run_")
    assert rest == f"fail  queued: tries {stock['failed']} again\n"


def test_retry_of_what_has_not_ended_or_is_a_signature_is_refused(stock: Stock) -> None:
    assert "only a run that has ended" in refusal(mageflow("retry", stock["pausing"], "--store", stock.store))
    assert "is the key of a signature" in refusal(mageflow("retry", stock["signature"], "--store", stock.store))


def test_a_beginning_that_several_have_is_refused(stock: Stock) -> None:
    said = refusal(mageflow("cancel", "sig_", "--store", stock.store))
    assert "4 runs or signatures begin with sig_" in said


def test_purge_removes_what_has_expired(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"

    async def fill() -> None:
        config = MageflowConfig(ttl=TTLConfig(ttl_when_sign_done=0.001))
        async with Mageflow(store=path, config=config) as mage:

            @mage.task
            async def step() -> None:
                return

            signature = await mage.sign(step)
            runs = [await signature.start() for _ in range(3)]
            async with mage.worker():
                for run in runs:
                    assert (await run.outcome(timeout=20)).status is RunStatus.SUCCEEDED

    asyncio.run(fill())
    assert mageflow("purge", "--store", str(path)).stdout == f"Removed 3 records that had expired from {path}.\n"
    assert mageflow("purge", "--store", str(path)).stdout == f"Nothing had expired in {path}.\n"
    assert json.loads(mageflow("purge", "--store", str(path), "--json").stdout) == {"removed": 0}


def test_an_empty_id_is_refused(stock: Stock) -> None:
    assert "an empty id names nothing" in refusal(mageflow("cancel", "", "--store", stock.store))
