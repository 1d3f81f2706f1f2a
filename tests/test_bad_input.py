"""Bad input, a row each: what was done, the error's class, and the words that tell what to do.

Nothing vanishes: each row leaves an exception, or a failed run whose failure says the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import mageflow
from mageflow import Mageflow, MageflowConfig, ReturnValue, RunOptions, SwarmConfig, current
from mageflow.stores.memory import MemoryStore
from mageflow.testing.clock import ManualClock

Deed = Callable[[Mageflow, Path], Awaitable[Any]]


class Two(BaseModel):
    first: Annotated[int, ReturnValue()]
    second: Annotated[int, ReturnValue()]


class Form(BaseModel):
    age: int
    name: str


async def _run(mage: Mageflow, task: Any, message: Any = None, **given: Any) -> Any:
    signature = await mage.sign(task, **given)
    async with mage.worker():
        return await signature.run(message)


async def no_client(mage: Mageflow, path: Path) -> None:
    mageflow.set_default(None)
    current.constructed(None)
    await mageflow.sign("noop")


async def unknown_task_here(mage: Mageflow, path: Path) -> None:
    await mage.sign("no-op")


async def unknown_task_at_execution(mage: Mageflow, path: Path) -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    client = Mageflow(store=store)
    worker = Mageflow(store=store, config=MageflowConfig(unknown_task_after=0))

    @worker.task
    async def other() -> None: ...

    with pytest.warns(mageflow.UnknownTaskWarning):
        signature = await client.sign("nobody-knows")
    async with worker.worker():
        await signature.run()


async def invalid_message(mage: Mageflow, path: Path) -> None:
    @mage.task
    async def fill(msg: Form) -> None: ...

    await _run(mage, fill, {"age": "old"})


async def undumpable_kwargs(mage: Mageflow, path: Path) -> None:
    await mage.sign("noop", connection={"pool": [object()]})


async def undumpable_result(mage: Mageflow, path: Path) -> None:
    @mage.task
    async def give() -> Any:
        return {"pool": [object()]}

    await _run(mage, give)


async def callback_that_is_no_signature(mage: Mageflow, path: Path) -> None:
    given: Any = [3.14]
    await mage.sign("noop", success_callbacks=given)


async def deleted_signature(mage: Mageflow, path: Path) -> None:
    signature = await mage.sign("noop")
    await signature.remove()
    await signature.start()


async def deleted_before_its_run_began(mage: Mageflow, path: Path) -> None:
    signature = await mage.sign("noop")
    handle = await signature.start()
    await signature.remove()
    async with mage.worker():
        await handle.result()


async def negative_delay(mage: Mageflow, path: Path) -> None:
    RunOptions(delay=-0.5)


async def naive_eta(mage: Mageflow, path: Path) -> None:
    RunOptions(eta=datetime(2030, 1, 1))  # noqa: DTZ001 - naive on purpose


async def unknown_option(mage: Mageflow, path: Path) -> None:
    given: Any = {"retrys": 3}
    mage.task(**given)(lambda: None)


async def option_of_another_engine(mage: Mageflow, path: Path) -> None:
    given: Any = {"rate_limits": []}
    mage.task(**given)(lambda: None)


async def two_tasks_with_one_name(mage: Mageflow, path: Path) -> None:
    async def another() -> None: ...

    mage.task("noop")(another)


async def parameters_that_cannot_be_served(mage: Mageflow, path: Path) -> None:
    async def several(msg: Form, count: int) -> None: ...

    mage.task(several)


async def two_return_values(mage: Mageflow, path: Path) -> None:
    async def torn(msg: Two) -> None: ...

    mage.task(torn)


async def store_that_is_not_ours(mage: Mageflow, path: Path) -> None:
    with sqlite3.connect(path / "theirs.db") as db:
        db.execute("CREATE TABLE invoices (id)")
    db.close()
    await Mageflow(store=path / "theirs.db").find_runs()


async def store_of_a_newer_release(mage: Mageflow, path: Path) -> None:
    file = path / "newer.db"
    async with Mageflow(store=file) as older:
        await older.find_runs()
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 9999")
    db.close()
    await Mageflow(store=file).find_runs()


async def store_in_a_folder_that_is_none(mage: Mageflow, path: Path) -> None:
    await Mageflow(store=path / "no" / "such" / "folder.db").find_runs()


async def store_that_is_a_folder(mage: Mageflow, path: Path) -> None:
    await Mageflow(store=path).find_runs()


async def corrupt_row(mage: Mageflow, path: Path) -> None:
    file = path / "corrupt.db"
    client = Mageflow(store=file)

    @client.task
    async def noop() -> None: ...

    async with client:
        signature = await client.sign(noop)
    with sqlite3.connect(file) as db:
        db.execute("UPDATE records SET data = 'no record' WHERE key = ?", (signature.key,))
    db.close()
    await Mageflow(store=file).load_signature(signature.key)


async def chain_of_one_step(mage: Mageflow, path: Path) -> None:
    await mage.chain(["noop"])


async def chain_that_is_no_list(mage: Mageflow, path: Path) -> None:
    given: Any = "noop"
    await mage.chain(given)


async def step_that_is_no_signature(mage: Mageflow, path: Path) -> None:
    given: Any = ["noop", {"task": "noop"}]
    await mage.chain(given)


async def step_of_an_unknown_task(mage: Mageflow, path: Path) -> None:
    await mage.chain(["noop", "no-op"])


async def step_that_was_removed(mage: Mageflow, path: Path) -> None:
    gone = await mage.sign("noop")
    await gone.remove()
    await mage.chain(["noop", gone])


async def member_that_was_removed(mage: Mageflow, path: Path) -> None:
    gone = await mage.sign("noop")
    await gone.remove()
    await mage.swarm(["noop", gone])


async def member_that_was_removed_later(mage: Mageflow, path: Path) -> None:
    swarm, gone = await mage.swarm(), await mage.sign("noop")
    await gone.remove()
    await swarm.add_task(gone)


async def chain_whose_name_is_no_name(mage: Mageflow, path: Path) -> None:
    given: Any = 7
    await mage.chain(["noop", "noop"], given)


async def swarm_option_under_another_name(mage: Mageflow, path: Path) -> None:
    await mage.swarm(["noop"], success_callback=[await mage.sign("noop")])


async def swarm_config_under_another_name(mage: Mageflow, path: Path) -> None:
    await mage.swarm(["noop"], settings=SwarmConfig(max_concurrency=3))


async def swarm_config_for_a_chain(mage: Mageflow, path: Path) -> None:
    await mage.chain(["noop", "noop"], config=SwarmConfig(max_concurrency=3))


async def swarm_config_that_is_a_dict(mage: Mageflow, path: Path) -> None:
    given: Any = {"max_concurrency": 3}
    await mage.swarm(["noop"], config=given)


async def window_of_nothing(mage: Mageflow, path: Path) -> None:
    SwarmConfig(max_concurrency=0)


async def new_window_of_nothing(mage: Mageflow, path: Path) -> None:
    await (await mage.swarm(["noop"])).resume(max_concurrency=0)


async def too_many_members(mage: Mageflow, path: Path) -> None:
    await mage.swarm(["noop"] * 3, config=SwarmConfig(max_task_allowed=2))


async def member_for_a_closed_swarm(mage: Mageflow, path: Path) -> None:
    await (await mage.swarm(is_swarm_closed=True)).add_task("noop")


async def member_for_a_cancelled_swarm(mage: Mageflow, path: Path) -> None:
    swarm = await mage.swarm(["noop"])
    await swarm.start()
    await swarm.cancel()
    await swarm.add_task("noop")


async def waiting_for_an_open_swarm(mage: Mageflow, path: Path) -> None:
    await (await mage.swarm(["noop"])).run()


async def tasks_without_their_messages(mage: Mageflow, path: Path) -> None:
    await (await mage.swarm()).aio_run_tasks_in_swarm(["noop", "noop"], [None])


async def inputs_without_a_task(mage: Mageflow, path: Path) -> None:
    given: Any = {"inputs": [1, 2]}
    await mage.swarm(**given)


async def input_that_is_no_message(mage: Mageflow, path: Path) -> None:
    given: Any = {"task": "noop", "inputs": [{"n": 1}, 2]}
    await mage.swarm(**given)


async def swarm_that_was_removed(mage: Mageflow, path: Path) -> None:
    swarm = await mage.swarm(["noop"])
    await swarm.remove()
    await swarm.add_task("noop")


ROWS: list[tuple[Deed, type[Exception], list[str]]] = [
    (no_client, mageflow.NoClientError, ["no mageflow client", "mage = Mageflow()"]),
    (unknown_task_here, mageflow.UnknownTaskError, ["'no-op'", "did you mean 'noop'"]),
    (
        unknown_task_at_execution,
        mageflow.RunFailedError,
        ["'nobody-knows'", "start a worker of the code that registers"],
    ),
    (invalid_message, mageflow.RunFailedError, ["InvalidMessageError", "'fill'", "age", "name", "required"]),
    (undumpable_kwargs, mageflow.UndumpableError, ["kwargs.connection.pool[0]", "object"]),
    (undumpable_result, mageflow.RunFailedError, ["UndumpableError", "result.pool[0]", "object"]),
    (callback_that_is_no_signature, mageflow.InvalidSignatureError, ["success_callbacks[0]", "3.14", "@mage.task"]),
    (deleted_signature, mageflow.SignatureNotFoundError, ["removed", "sign it again"]),
    (deleted_before_its_run_began, mageflow.RunFailedError, ["SignatureNotFoundError", "removed", "sign it again"]),
    (negative_delay, mageflow.OptionError, ["delay=-0.5", "zero or more"]),
    (naive_eta, mageflow.OptionError, ["no time zone", "aware datetime"]),
    (unknown_option, mageflow.OptionError, ["'retrys'", "did you mean 'retries'"]),
    (option_of_another_engine, mageflow.OptionError, ["rate_limits", "Hatchet"]),
    (two_tasks_with_one_name, mageflow.DuplicateTaskError, ["two tasks are called 'noop'", "@mage.task(name="]),
    (parameters_that_cannot_be_served, mageflow.TaskShapeError, ["'several'", "'count'"]),
    (two_return_values, mageflow.ModelShapeError, ["Two", "first", "second"]),
    (store_that_is_not_ours, mageflow.StoreVersionError, ["theirs.db", "another"]),
    (store_of_a_newer_release, mageflow.StoreVersionError, ["newer.db", "newer", "upgrade"]),
    (store_in_a_folder_that_is_none, mageflow.StoreError, ["folder.db", "does not exist; make it"]),
    (store_that_is_a_folder, mageflow.StoreError, ["file"]),
    (chain_of_one_step, mageflow.InvalidSignatureError, ["at least two steps", "has 1", "sign it"]),
    (chain_that_is_no_list, mageflow.InvalidSignatureError, ["tasks='noop' is not a list"]),
    (step_that_is_no_signature, mageflow.InvalidSignatureError, ["tasks[1]", "cannot be a"]),
    (step_of_an_unknown_task, mageflow.UnknownTaskError, ["'no-op'", "did you mean 'noop'"]),
    (step_that_was_removed, mageflow.SignatureNotFoundError, ["the member sig_", "removed", "sign it again"]),
    (member_that_was_removed, mageflow.SignatureNotFoundError, ["the member sig_", "removed", "sign it again"]),
    (member_that_was_removed_later, mageflow.SignatureNotFoundError, ["the member sig_", "removed", "sign it again"]),
    (chain_whose_name_is_no_name, mageflow.OptionError, ["7", "a string that is not empty"]),
    (swarm_option_under_another_name, mageflow.OptionError, ["success_callback=", "did you mean success_callbacks=?"]),
    (
        swarm_config_under_another_name,
        mageflow.OptionError,
        ["settings=", "a SwarmConfig", "config=", "options of swarm"],
    ),
    (
        swarm_config_for_a_chain,
        mageflow.OptionError,
        ["config=", "a SwarmConfig", "options of chain are name=, error="],
    ),
    (swarm_config_that_is_a_dict, mageflow.OptionError, ["is not a SwarmConfig", "mageflow.SwarmConfig("]),
    (window_of_nothing, mageflow.OptionError, ["max_concurrency=0", "1 or more"]),
    (new_window_of_nothing, mageflow.OptionError, ["max_concurrency=0", "1 or more"]),
    (too_many_members, mageflow.TooManyTasksError, ["3 members", "max_task_allowed is 2"]),
    (member_for_a_closed_swarm, mageflow.SwarmClosedError, ["'swarm'", "is closed", "make a new swarm"]),
    (member_for_a_cancelled_swarm, mageflow.SwarmIsCanceledError, ["cancelled", "make a new swarm"]),
    (waiting_for_an_open_swarm, mageflow.SwarmOpenError, ["close_swarm()", "auto_close=True"]),
    (tasks_without_their_messages, mageflow.TaskAndMsgsDontMatchForSwarmError, ["2 tasks and 1 messages"]),
    (inputs_without_a_task, mageflow.OptionError, ["task= and inputs= go together"]),
    (input_that_is_no_message, mageflow.UndumpableError, ["a message is a model", "int"]),
    (swarm_that_was_removed, mageflow.SignatureNotFoundError, ["sig_", "removed", "sign it again"]),
    (corrupt_row, mageflow.CorruptRecordError, ["sig_", "cannot be read"]),
]


@pytest.mark.parametrize(("deed", "error", "words"), ROWS, ids=[row[0].__name__ for row in ROWS])
async def test_bad_input_is_refused_with_what_to_do(
    deed: Deed, error: type[Exception], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "_last", None)
    monkeypatch.setattr(current, "_chosen", None)
    mage = Mageflow(store="memory://")

    @mage.task
    async def noop() -> None: ...

    with pytest.raises(error) as caught:
        await deed(mage, tmp_path)
    for word in words:
        assert word in str(caught.value)
