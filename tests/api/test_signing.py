"""What can be signed, what can be bound, and what both mean."""

from __future__ import annotations

import asyncio
import warnings
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

import mageflow
from mageflow import (
    ContextMessage,
    InvalidSignatureError,
    Mageflow,
    OptionError,
    RunOptions,
    SignatureNotFoundError,
    UndumpableError,
    UnknownTaskError,
    UnknownTaskWarning,
)
from tests.api.conftest import Sign, work


async def test_a_task_is_signed_by_name_and_by_the_task_itself(mage: Mageflow, sign: Sign) -> None:
    ran: list[str] = []

    @mage.task
    async def process_data(msg: dict[str, Any]) -> None:
        ran.append(msg["by"])

    by_name = await sign("process_data", by="name")
    by_task = await sign(process_data, by="task")
    for signature in (by_name, by_task):
        assert signature.task_name == "process_data"
        await signature.start()
    await work(mage)
    assert sorted(ran) == ["name", "task"]


async def test_a_task_with_a_name_of_its_own_is_signed_by_it(mage: Mageflow, sign: Sign) -> None:
    @mage.task("process-data")
    async def first() -> str:
        return "one"

    @mage.task(name="other-data")
    async def second() -> str:
        return "two"

    async with mage.worker():
        assert await (await sign("process-data")).run() == "one"
        assert await (await sign("other-data")).run() == "two"
        assert await (await sign(first)).run() == "one"


async def test_bound_kwargs_are_data_and_never_options(mage: Mageflow, sign: Sign) -> None:
    calls: list[dict[str, Any]] = []

    @mage.task("send-notification")
    async def send(msg: dict[str, Any]) -> None:
        calls.append(msg)
        raise ValueError("once")

    signature = await sign("send-notification", template="welcome_email", priority="high", retry_count=3, retries=5)
    handle = await signature.start()
    await work(mage)
    assert calls == [{"template": "welcome_email", "priority": "high", "retry_count": 3, "retries": 5}]
    info = await handle.info()
    assert (info.attempts, info.retries, info.priority) == (1, 0, 1)


async def test_aupdate_counts_for_a_run_that_has_not_begun(mage: Mageflow, sign: Sign) -> None:
    seen: list[dict[str, Any]] = []

    @mage.task
    async def user_task(msg: dict[str, Any]) -> None:
        seen.append(msg)

    signature = await sign(user_task, preferences={"theme": "light", "lang": "en"})
    await signature.start()
    await signature.kwargs.aupdate(user_id="12345", preferences={"theme": "dark"}, processing_mode="batch")
    await work(mage)
    assert seen == [{"user_id": "12345", "preferences": {"theme": "dark"}, "processing_mode": "batch"}]
    again = await mage.load_signature(signature.key)
    assert again is not None
    assert dict(again.kwargs) == dict(signature.kwargs) == seen[0]


async def test_bound_kwargs_are_set_taken_and_cleared_one_by_one(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop(msg: dict[str, Any]) -> None: ...

    signature = await sign(noop, a=1, b=2)
    await signature.kwargs.aset_item("c", 3)
    assert await signature.kwargs.apop("a") == 1
    assert await signature.kwargs.apop("a", "none") == "none"
    await signature.kwargs.adel_item("b")
    assert signature.kwargs == {"c": 3}
    with pytest.raises(KeyError):
        await signature.kwargs.apop("b")
    await signature.kwargs.aclear()
    assert dict(signature.kwargs) == {}


async def test_any_field_can_be_bound_by_kwargs_with_reserved_names_too(mage: Mageflow, sign: Sign) -> None:
    class Reserved(BaseModel):
        success_callbacks: list[int]
        kwargs: dict[str, int]
        task: str

    @mage.task
    async def takes(msg: Reserved) -> list[int]:
        return [*msg.success_callbacks, *msg.kwargs.values()]

    signature = await sign(takes, kwargs={"success_callbacks": [1, 2], "kwargs": {"x": 3}, "task": "t"})
    async with mage.worker():
        assert await signature.run() == [1, 2, 3]


async def test_bound_values_are_dumped_as_results_are(mage: Mageflow, sign: Sign) -> None:
    class Colour(Enum):
        RED = "red"

    class Inner(BaseModel):
        at: datetime

    @mage.task
    async def noop(msg: dict[str, Any]) -> None: ...

    at = datetime(2026, 1, 2, tzinfo=UTC)
    signature = await sign(
        noop, inner=Inner(at=at), id=UUID(int=7), price=Decimal("1.50"), colour=Colour.RED, raw=b"\xff"
    )
    assert dict(signature.kwargs) == {
        "inner": {"at": "2026-01-02T00:00:00Z"},
        "id": "00000000-0000-0000-0000-000000000007",
        "price": "1.50",
        "colour": "red",
        "raw": "_w==",
    }


async def test_aupdate_by_alias_replaces_what_was_bound_by_name(mage: Mageflow, sign: Sign) -> None:
    class User(BaseModel):
        user_id: str = Field(alias="userId")

    @mage.task
    async def greet(msg: User) -> str:
        return msg.user_id

    signature = await sign(greet, user_id="by name")
    await signature.kwargs.aupdate(userId="by alias")
    async with mage.worker():
        assert await signature.run() == "by alias"


async def test_model_validators_overrides_the_tasks_own_model(mage: Mageflow, sign: Sign) -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        number: int

    seen: list[Any] = []

    @mage.task("validate-data", input_validator=Strict)
    async def validate(msg: Any) -> None:
        seen.append(msg)

    signature = await sign("validate-data", model_validators=ContextMessage)
    assert signature.model_validators == "ContextMessage"
    await signature.start({"number": "no number", "context": {"a": 1}})
    await work(mage)
    assert isinstance(seen[0], ContextMessage)
    assert seen[0].context == {"a": 1}
    assert seen[0].model_extra == {"number": "no number"}


async def test_a_registered_model_can_validate_instead(mage: Mageflow, sign: Sign) -> None:
    @mage.register_model
    class Shout(BaseModel):
        word: str

    @mage.task
    async def say(msg: Any) -> str:
        return type(msg).__name__

    async with mage.worker():
        assert await (await sign(say, model_validators=Shout)).run({"word": "hi"}) == "Shout"
        assert await (await sign(say, model_validators="Shout")).run({"word": "hi"}) == "Shout"


async def test_a_signature_is_loaded_by_its_key_in_another_client(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop() -> None: ...

    signature = await sign(noop, success_callbacks=[noop], x=1)
    for loaded in (await mage.load_signature(signature.key), await mageflow.load_signature(signature.key)):
        assert loaded == signature
        assert loaded is not None
        assert loaded.success_callbacks == signature.success_callbacks
        assert loaded.creation_time == signature.creation_time
    assert await mage.load_signature("sig_none") is None


async def test_a_removed_signature_takes_only_its_own_callbacks_along(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop() -> None: ...

    shared = await sign(noop)
    own = await sign(noop)
    first = await sign(noop, success_callbacks=[shared, own], error_callbacks=[shared])
    second = await sign(noop, success_callbacks=[shared])
    assert await mageflow.remove(first.key)
    assert not await mage.remove(first.key)
    assert await mage.load_signature(first.key) is None
    assert await mage.load_signature(own.key) is None
    assert await mage.load_signature(shared.key) is not None
    assert await second.remove()
    assert await mage.load_signature(shared.key) is None
    with pytest.raises(SignatureNotFoundError, match="removed"):
        await second.start()
    with pytest.raises(SignatureNotFoundError, match="removed"):
        await second.kwargs.aupdate(x=1)
    with pytest.raises(SignatureNotFoundError, match="removed"):
        await second.refresh()


async def test_remove_spares_the_callbacks_that_it_is_told_to(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def noop() -> None: ...

    good, bad = await sign(noop), await sign(noop)
    signature = await sign(noop, success_callbacks=[good], error_callbacks=[bad])
    await signature.remove(with_error=False)
    assert await mage.load_signature(good.key) is None
    assert await mage.load_signature(bad.key) is not None


async def test_removing_a_signature_spares_what_its_live_runs_will_call(mage: Mageflow, sign: Sign) -> None:
    entered, over = asyncio.Event(), asyncio.Event()
    heard: list[str] = []

    @mage.task
    async def slow() -> None:
        entered.set()
        await over.wait()

    @mage.task
    async def tell(msg: dict[str, Any]) -> None:
        heard.append(msg["who"])

    used, unused = await sign(tell, who="used"), await sign(tell, who="unused")
    flow = await sign(slow, success_callbacks=[used])
    other = await sign(slow, success_callbacks=[unused])
    async with mage.worker():
        handle = await flow.start()
        await entered.wait()
        assert await flow.remove()
        assert await other.remove()
        assert await mage.load_signature(used.key) is not None
        assert await mage.load_signature(unused.key) is None
        over.set()
        await handle.settled(timeout=10)
    assert heard == ["used"]


async def test_an_unknown_name_is_refused_with_the_near_ones(mage: Mageflow, sign: Sign) -> None:
    @mage.task("process-order")
    async def process() -> None: ...

    with pytest.raises(UnknownTaskError, match=r"process-ordr.*did you mean 'process-order'") as caught:
        await sign("process-ordr")
    assert caught.value.task_name == "process-ordr"


async def test_an_unknown_name_warns_in_a_process_without_tasks(mage: Mageflow, sign: Sign) -> None:
    with pytest.warns(UnknownTaskWarning, match="'elsewhere'"):
        await sign("elsewhere")


async def test_model_validators_skips_the_check_of_the_name(mage: Mageflow, sign: Sign) -> None:
    @mage.task
    async def here() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signature = await sign("elsewhere", model_validators=ContextMessage)
    assert signature.task_name == "elsewhere"


async def test_the_store_remembers_the_names_that_processes_registered(tmp_path: Any) -> None:
    there, here = Mageflow(store=tmp_path / "shared.db"), Mageflow(store=tmp_path / "shared.db")

    @there.task("far-away")
    async def far() -> str:
        return "from there"

    @here.task
    async def near_by() -> None: ...

    async with there, here, there.worker():
        signature = await here.sign("far-away")
        assert await signature.run() == "from there"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"on_success": "signature"}, OptionError, ["on_success=", "a signature", "success_callbacks="]),
        ({"error_callback": "signature"}, OptionError, ["did you mean error_callbacks="]),
        ({"callbacks": ["signature"]}, OptionError, ["a list of signatures", "callbacks="]),
        ({"options": RunOptions(retries=1)}, OptionError, ["run_options="]),
        ({"validator": ContextMessage}, OptionError, ["model_validators="]),
        ({"run_options": {"retries": 3}}, OptionError, ["run_options", "RunOptions(retries=3)"]),
        ({"connection": object()}, UndumpableError, ["kwargs.connection", "object"]),
        ({"deep": {"list": [1, {2}, lambda: 0]}}, UndumpableError, ["kwargs.deep", "[2]", "function"]),
        ({"success_callbacks": [42]}, InvalidSignatureError, ["success_callbacks[0]", "42"]),
        ({"error_callbacks": [None]}, InvalidSignatureError, ["error_callbacks[0]", "None"]),
        ({"done_callbacks": "noop"}, InvalidSignatureError, ["done_callbacks", "[...]"]),
        ({"success_callbacks": ["nop"]}, UnknownTaskError, ["'nop'", "did you mean 'noop'"]),
        ({"success_callbacks": ["sig_gone"]}, SignatureNotFoundError, ["sig_gone", "removed or has expired"]),
    ],
)
async def test_what_cannot_be_given_to_sign_is_refused_with_advice(
    mage: Mageflow, sign: Sign, given: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    @mage.task
    async def noop() -> None: ...

    signature = await mage.sign(noop)
    swapped = {
        name: signature if value == "signature" else [signature] if value == ["signature"] else value
        for name, value in given.items()
    }
    with pytest.raises(error) as caught:
        await sign(noop, **swapped)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (print, ["'print'", "@mage.task"]),
        (42, ["42", "cannot be signed"]),
        ("", ["no task's name"]),
        ("sig_0123", ["load_signature"]),
    ],
)
async def test_what_cannot_be_signed_is_refused_with_advice(
    mage: Mageflow, sign: Sign, target: Any, words: list[str]
) -> None:
    with pytest.raises(InvalidSignatureError) as caught:
        await sign(target)
    for word in words:
        assert word in str(caught.value)


async def test_a_task_of_another_client_is_refused(mage: Mageflow, sign: Sign) -> None:
    other = Mageflow(store="memory://")
    mageflow.set_default(mage)

    @other.task
    async def theirs() -> None: ...

    with pytest.raises(InvalidSignatureError, match="another client"):
        await sign(theirs)


async def test_a_function_beside_its_task_is_signed_as_that_task(mage: Mageflow, sign: Sign) -> None:
    async def plain() -> str:
        return "plain"

    task = mage.task(plain)
    assert await plain() == await task() == "plain"
    assert (await sign(plain)).task_name == "plain"
