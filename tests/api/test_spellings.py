"""The names of 0.3 and of Hatchet: that they are there, and what they do that is not just another name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import mageflow
from mageflow import (
    ChainTaskSignature,
    Mageflow,
    OptionError,
    ReturnValue,
    RunHandle,
    RunOptions,
    RunStatus,
    SignatureNotFoundError,
    SwarmTaskSignature,
    TaskSignature,
)
from tests.api.conftest import Face, work

SAME = [
    (mageflow.asign, mageflow.sign),
    (mageflow.achain, mageflow.chain),
    (mageflow.aswarm, mageflow.swarm),
    (Mageflow.asign, Mageflow.sign),
    (Mageflow.achain, Mageflow.chain),
    (Mageflow.aswarm, Mageflow.swarm),
]

OF_ALL = (
    "key task_name kwargs success_callbacks error_callbacks task_status creation_time model_validators "
    "return_field_name aio_run_no_wait aio_run acall aduplicate aduplicate_many remove suspend interrupt resume "
    "pause_task"
)
OF_SWARMS = (
    "aio_run_in_swarm aio_run_tasks_in_swarm add_task add_tasks close_swarm is_swarm_done tasks config progress members"
)
NAMES = [
    *((kind, name) for kind in (TaskSignature, ChainTaskSignature, SwarmTaskSignature) for name in OF_ALL.split()),
    *((SwarmTaskSignature, name) for name in OF_SWARMS.split()),
    (ChainTaskSignature, "tasks"),
    *((mageflow, name) for name in ["load_signature", "pause", "resume", "remove"]),
    *((Mageflow, name) for name in ["load_signature", "pause", "resume", "remove", "worker", "task"]),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_another_spelling_is_the_same_function(one: Any, other: Any) -> None:
    assert one is other


@pytest.mark.parametrize(("owner", "name"), NAMES)
def test_a_name_of_0_3_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name)


class Item(BaseModel):
    n: Annotated[int, ReturnValue()] = 0
    plus: int = 1


@pytest.fixture
def ran(mage: Mageflow) -> list[int]:
    """What `add` gave, in order."""
    values: list[int] = []

    @mage.task
    async def add(msg: Item) -> int:
        values.append(msg.n + msg.plus)
        return values[-1]

    return values


@dataclass
class TriggerWorkflowOptions:
    """As Hatchet has it."""

    priority: int | None = None
    additional_metadata: dict[str, Any] | None = None
    sticky: bool = False


async def test_aio_run_takes_options_by_name_as_run_options_and_as_hatchets(
    mage: Mageflow, face: Face, ran: list[int]
) -> None:
    signature = await face.sign("add")
    handles: list[Any] = [
        await signature.aio_run({"n": 1}, wait_for_result=False, priority=3),
        await signature.aio_run({"n": 2}, RunOptions(priority=2), False),
        await signature.aio_run_no_wait({"n": 3}, options=TriggerWorkflowOptions(priority=3)),
        await signature.aio_run_no_wait(msg=Item(n=4), options=RunOptions(priority=3), priority=2),
    ]
    assert all(isinstance(handle, RunHandle) for handle in handles)
    assert [handle.seen.priority for handle in handles] == [3, 2, 3, 2]
    async with mage.worker():
        assert await signature.aio_run(Item(n=5), options=RunOptions(retries=1)) == 6
    assert [await handle.aio_result() for handle in handles] == [2, 3, 4, 5]
    assert handles[0].workflow_run_id == handles[0].id


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"additional_metadata": {"tenant": 1}}, ["additional_metadata", "Hatchet alone"]),
        ({"options": TriggerWorkflowOptions(additional_metadata={"tenant": 1})}, ["additional_metadata", "Hatchet"]),
        ({"options": TriggerWorkflowOptions(sticky=True)}, ["sticky", "Hatchet"]),
        ({"options": {"priority": 3}}, ["not a RunOptions"]),
        ({"priorty": 3}, ["'priorty'", "did you mean 'priority'"]),
        ({"priority": 9}, ["priority=9", "from 1 to 3"]),
    ],
)
async def test_an_option_that_means_nothing_here_is_refused_before_anything_runs(
    mage: Mageflow, face: Face, ran: list[int], given: dict[str, Any], words: list[str]
) -> None:
    signature = await face.sign("add")
    for start in (signature.aio_run, signature.aio_run_no_wait):
        with pytest.raises(OptionError) as caught:
            await start({"n": 1}, **given)
        for word in words:
            assert word in str(caught.value)
    assert await mage.find_runs() == []


async def test_acall_fills_the_return_field_and_binds_for_one_run(mage: Mageflow, face: Face, ran: list[int]) -> None:
    signature = await face.sign("add", plus=10)
    handles = [
        await signature.acall(1),
        await signature.acall(2, plus=100),
        await signature.acall({"n": 3}, False),
        await signature.acall(Item(n=4), set_return_field=False, plus=1000),
        await signature.acall(5, options=RunOptions(priority=3)),
    ]
    await work(mage)
    assert [await handle.result() for handle in handles] == [11, 102, 13, 1004, 15]
    assert dict(signature.kwargs) == {"plus": 10}


async def test_what_acall_binds_stays_with_a_run_that_is_tried_again(mage: Mageflow, face: Face) -> None:
    seen: list[Any] = []

    @mage.task(retries=1)
    async def shaky(msg: dict[str, Any]) -> None:
        seen.append(msg)
        raise RuntimeError("again")

    handle = await (await face.sign(shaky)).acall("value", once=1)
    await work(mage)
    await handle.retry()
    await work(mage)
    assert seen == [{"results": "value", "once": 1}] * 4


class PauseActionTypes(Enum):
    SUSPEND = "suspend"
    INTERRUPT = "interrupt"


@pytest.mark.parametrize("pause_type", ["interrupt", PauseActionTypes.INTERRUPT])
async def test_pausing_by_a_word(mage: Mageflow, face: Face, ran: list[int], pause_type: Any) -> None:
    signature = await face.sign("add")
    await face.pause(signature.key)
    await signature.refresh()
    assert signature.task_status == "suspended"
    await signature.pause_task()
    await signature.pause_task(pause_type)
    assert signature.task_status == "interrupted"
    await face.pause(signature.key, pause_type=pause_type)
    handle = await signature.start()
    await work(mage)
    assert await handle.status() is RunStatus.SUSPENDED
    await face.resume(signature.key)
    await work(mage)
    assert await handle.result() == 1


async def test_another_word_and_another_key_are_refused(mage: Mageflow, face: Face, ran: list[int]) -> None:
    signature = await face.sign("add")
    for pause in (signature.pause_task("stop"), face.pause(signature.key, pause_type="stop")):
        with pytest.raises(OptionError, match="'suspend'"):
            await pause
    await signature.remove()
    for deed in (face.pause(signature.key), face.resume(signature.key)):
        with pytest.raises(SignatureNotFoundError, match="sign it again"):
            await deed


async def test_a_duplicate_is_a_signature_of_its_own_that_shares_its_callbacks(
    mage: Mageflow, face: Face, ran: list[int]
) -> None:
    after = await face.sign("add", plus=100)
    signature = await face.sign("add", plus=1, success_callbacks=[after])
    await signature.suspend()
    copy = await signature.aduplicate()
    many = await signature.aduplicate_many(205)
    assert len({each.key for each in [signature, copy, *many]}) == 207
    assert (type(copy), copy.task_status, list(copy.success_callbacks)) == (TaskSignature, "active", [after.key])
    await copy.kwargs.aupdate(plus=2)
    await copy.success_callbacks.aappend(await face.sign("add", plus=1000))
    await signature.refresh()
    assert (dict(signature.kwargs), len(signature.success_callbacks)) == ({"plus": 1}, 1)
    await copy.start()
    await work(mage)
    assert sorted(ran) == [2, 102, 1002]
    await copy.remove()
    assert await face.load_signature(after.key) is not None, "the original uses it"
    assert await signature.aduplicate_many(0) == []


@pytest.mark.parametrize("count", [-1, 1.5, True, "two"])
async def test_no_number_of_copies(mage: Mageflow, face: Face, ran: list[int], count: Any) -> None:
    with pytest.raises(OptionError, match="whole number"):
        await (await face.sign("add")).aduplicate_many(count)


async def test_a_duplicate_of_what_is_gone_is_refused(mage: Mageflow, face: Face, ran: list[int]) -> None:
    signature = await face.sign("add")
    await signature.remove()
    with pytest.raises(SignatureNotFoundError):
        await signature.aduplicate()
