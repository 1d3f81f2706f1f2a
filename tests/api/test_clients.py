"""Clients: which one a function of the module uses, what one is made from, and its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import mageflow
from mageflow import (
    ClosedError,
    ConfigurationError,
    Mageflow,
    NoClientError,
    NotRunningError,
    current,
    current_run,
)


def test_a_function_of_the_module_needs_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_chosen", None)
    monkeypatch.setattr(current, "_last", None)
    with pytest.raises(NoClientError, match=r"mage = Mageflow\(\)"):
        asyncio.run(mageflow.load_signature("sig_x"))


async def test_the_current_client_is_the_chosen_one_else_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_chosen", None)
    first, second = Mageflow(store="memory://"), Mageflow(store="memory://")
    assert current.get_client() is second
    mageflow.set_default(first)
    assert current.get_client() is first


def test_current_run_is_refused_outside_of_a_body() -> None:
    with pytest.raises(NotRunningError, match="outside of a task's body"):
        current_run()


async def test_a_closed_client_is_not_used_again(tmp_path: Path) -> None:
    mage = Mageflow(store=tmp_path / "closed.db")

    @mage.task
    async def noop() -> None: ...

    async with mage:
        signature = await mage.sign(noop)
    with pytest.raises(ClosedError, match="make a new Mageflow"):
        await signature.start()
    with pytest.raises(ClosedError):
        await mage.sign(noop)
    with pytest.raises(ClosedError):
        async with mage.worker():
            pass


def test_constructing_a_client_opens_nothing(tmp_path: Path) -> None:
    Mageflow(store=tmp_path / "nothing.db")
    assert list(tmp_path.iterdir()) == []


def test_the_store_is_chosen_by_argument_environment_and_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Mageflow().store.location.endswith("mageflow.db")
    monkeypatch.setenv("MAGEFLOW_STORE", "sqlite:///env.db")
    assert Mageflow().store.location.endswith("env.db")
    assert Mageflow(store="sqlite:///given.db").store.location.endswith("given.db")
    absolute = tmp_path / "absolute.db"
    assert Mageflow(store=f"sqlite:///{absolute}").store.location == str(absolute)
    monkeypatch.setenv("MAGEFLOW_STORE", "memory://")
    assert Mageflow().store.location == "memory"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"store": "redis://localhost"}, ["engine", "one machine"]),
        ({"store": "sqlite://file.db"}, ["sqlite:///flows.db"]),
        ({"store": "sqlite:///"}, ["names no file"]),
        ({"store": "sqlit:///x.db"}, ["sqlit://", "did you mean 'sqlite'"]),
        ({"store": " "}, ["empty"]),
        ({"store": 42}, ["int is no store"]),
        ({"engine": object()}, ["object is no engine"]),
    ],
)
def test_a_client_that_cannot_work_is_refused_with_advice(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Mageflow(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_a_hatchet_and_redis_environment_asks_for_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_TOKEN", "x")
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    with pytest.raises(ConfigurationError, match=r"Mageflow\(hatchet, redis\)"):
        Mageflow()
    assert Mageflow(store="memory://").store.location == "memory"
    monkeypatch.setenv("MAGEFLOW_STORE", "memory://")
    assert Mageflow().store.location == "memory"


def test_a_fastapi_application_runs_a_worker(tmp_path: Path) -> None:
    mage = Mageflow(store=tmp_path / "app.db")

    @mage.task
    async def double(msg: dict[str, int]) -> int:
        return msg["n"] * 2

    app = FastAPI(lifespan=mage.lifespan(concurrency=2))

    @app.get("/double/{n}")
    async def route(n: int) -> int:
        signature = await mageflow.sign(double)
        return await signature.run({"n": n})

    mageflow.set_default(mage)
    try:
        with TestClient(app) as http:
            assert http.get("/double/21").json() == 42
    finally:
        mageflow.set_default(None)
