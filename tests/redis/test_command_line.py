"""Looking into a Redis store from the command line, and a whole flow on one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from mageflow import Mageflow, UnknownTaskWarning
from mageflow.errors import ConfigurationError
from mageflow.stores.redis import RedisStore
from tests.cli.processes import mageflow, refusal
from tests.redis.servers import Server


async def flow(server: Server) -> str:
    """Run a task with a callback; give the run's id."""
    mage = Mageflow(store=RedisStore(server.url))

    @mage.task
    async def greet(message: dict[str, str]) -> str:
        return f"hello {message['name']}"

    @mage.task
    async def shout(message: dict[str, str]) -> str:
        return message["results"].upper()

    async with mage:
        signature = await mage.sign(greet, success_callbacks=[shout])
        async with mage.worker():
            run = await signature.start({"name": "ann"})
            await run.settled(timeout=20)
        assert await run.result() == "hello ann"
        return run.id


@pytest.mark.timeout(240)  # some processes, each of which has much to import
async def test_a_flow_is_shown(redis_server: Server) -> None:
    """`ls`, `show`, `explain`, `purge` and `doctor` on its URL."""
    run = await flow(redis_server)
    url = redis_server.url
    listed = mageflow("ls", "--store", url)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert run in listed.stdout
    assert "shout" in listed.stdout
    assert "hello ann" in mageflow("show", run, "--store", url).stdout
    assert "greet" in mageflow("explain", run, "--store", url).stdout
    assert "Nothing had expired" in mageflow("purge", "--store", url).stdout
    done = mageflow("doctor", "--store", url, "--json")
    assert done.returncode == 0
    found = {finding["about"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "answers in" in found["store"]["found"]
    assert "appendonly yes" in found["restart"]["remedy"]
    assert "journal" not in done.stdout


@pytest.mark.timeout(240)
def test_a_password_is_not_repeated(redis_server: Server) -> None:
    url = f"redis://default:geheim@127.0.0.1:{redis_server.port}/0"
    redis_server.command("CONFIG", "SET", "requirepass", "")
    for command in (["ls"], ["purge"], ["doctor", "--json"]):
        done = mageflow(*command, "--store", url)
        assert "geheim" not in done.stdout + done.stderr


def test_a_server_that_is_away_is_one_line() -> None:
    assert "cannot be reached" in refusal(mageflow("ls", "--store", "redis://127.0.0.1:1"))


def test_the_extra_is_named_where_it_is_not_installed(tmp_path: Path) -> None:
    """In one line, with the command that installs it."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "__init__.py").write_text("raise ImportError('as if it were not installed')")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for command in (["ls"], ["doctor"]):
        done = mageflow(*command, "--store", "redis://127.0.0.1:1", PYTHONPATH=path)
        assert done.returncode == 1
        assert "pip install 'mageflow[redis]'" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_the_embedded_engine_is_refused() -> None:
    for store in ("redis://localhost", "valkey://localhost", "rediss://localhost"):
        with pytest.raises(ConfigurationError, match="Redis needs an engine"):
            Mageflow(store=store)


@pytest.mark.timeout(240)
async def test_every_command_takes_the_url(redis_server: Server) -> None:
    """Of a namespace too; a command that is suggested names the store so that it can be called."""
    url = f"{redis_server.url}?namespace=shop"
    async with Mageflow.looking_at(url) as mage:
        with pytest.warns(UnknownTaskWarning):
            handle = await (await mage.sign("press")).start({"n": 1})

    def told(*words: str) -> str:
        done = mageflow(*words, "--store", url)
        assert (done.returncode, done.stdout != "") == (0, True), f"{words}: {done.stderr}"
        return done.stdout

    assert handle.id in told("ls")
    told("suspend", handle.id)
    assert "suspended" in told("show", handle.id)
    assert f"resume {handle.id} --store '{url}'" in told("explain", handle.id)
    told("resume", handle.id)
    told("interrupt", handle.id)
    assert "press" in told("graph", handle.id)
    assert "cancelled" in told("cancel", handle.id)
    assert set(re.findall(r"run_\w+", told("retry", handle.id))) - {handle.id}, "the new run is named"
    assert told("run", "press", "{}").startswith("run_")
    assert "Nothing had expired" in told("purge")
