"""Records survive being stored, by this release and by its neighbours; what was broken is named and never guessed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mageflow.core.members import Form, Member, Roster, Tally
from mageflow.core.options import Options
from mageflow.core.records import (
    Control,
    Cursor,
    Failure,
    Index,
    KeyRecord,
    LockRecord,
    MembersRecord,
    NoteRecord,
    Origin,
    Record,
    RunRecord,
    SignatureRecord,
    TaskRecord,
    Waiter,
    WorkerRecord,
    advance_key,
    decode,
    encode,
    index_of,
    replace,
    task_key,
)
from mageflow.core.status import LIVE, TERMINAL, RunStatus
from mageflow.errors import CorruptRecordError

OPTIONS = Options(
    delay=1.0,
    eta=2.0,
    retries=3,
    backoff_factor=1.5,
    backoff_max_seconds=4.0,
    execution_timeout=5.0,
    schedule_timeout=6.0,
    priority=2,
    idempotency_key="k",
    idempotency_window=60.0,
)
SIGNATURE = SignatureRecord(
    key="sig_1",
    rev=3,
    token="a",
    created_at=1.5,
    expires_at=9.25,
    task="t",
    route="r",
    kwargs={"text": "ü\u2028\u0000", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}, "big": 2**70},
    on_success=("sig_2", "sig_2"),
    on_error=("sig_3",),
    on_done=("sig_4",),
    model="M",
    options=OPTIONS,
    control=Control.SUSPEND,
    control_at=1.25,
    form=Form.SWARM,
    roster=Roster(
        count=51,
        closed=False,
        stopped=True,
        auto_close=True,
        window=3,
        stop_after=2,
        most=60,
        feeds=("run_1",),
    ),
    active_ttl=60.0,
    done_ttl=7.0,
)
MEMBERS = MembersRecord(
    key="sig_1/0",
    rev=2,
    token="e",
    created_at=1.0,
    expires_at=2.0,
    owner="sig_1",
    members=(Member(signature="sig_5", sent=Raw(b'{"a":1}')), Member(signature="sig_6")),
)
RUN = RunRecord(
    key="run_3",
    rev=7,
    token="b",
    created_at=1.5,
    expires_at=9.25,
    signature="sig_1",
    task="t",
    route="r",
    status=RunStatus.FAILED,
    due_at=2.5,
    origin=Origin.FAILURE,
    sent=Raw(b'{"a": [1, 2.50]}'),
    kwargs={"once": 1},
    message=Raw(b'{"a":1}'),
    result=Raw(b"null"),
    failure=Failure(type="ValueError", message="no", traceback="Traceback ...", attempt=2),
    on_success=("sig_2",),
    on_error=("sig_3",),
    on_done=("sig_4",),
    model="M",
    options=OPTIONS,
    control=Control.INTERRUPT,
    worker="wrk_1",
    ref="7f",
    attempt=2,
    failures=1,
    losses=1,
    started_at=3.5,
    ended_at=4.5,
    unroutable_at=5.5,
    waits_since=6.5,
    root="run_1",
    form=Form.CHAIN,
    tally=Tally(
        total=9,
        closed=False,
        auto_close=True,
        window=3,
        stop_after=2,
        made=8,
        succeeded=1,
        failed=2,
        cancelled=1,
        stopping=True,
        told=1,
        earlier="run_7",
    ),
    parent="run_0",
    place=4,
    owner="sig_9",
    cause="run_2",
    source="run_5",
    answer="run_6",
    lineage=("run_1", "run_0"),
    cursor=Cursor(callbacks=400, fill=True, sweep=3),
    since=1.75,
    hops=3,
    begin_by=8.5,
    keeps=("sig_2",),
    done_ttl=7.0,
)
WORKER = WorkerRecord(
    key="wrk_1", rev=1, token="c", created_at=1.0, name="w", host="h", pid=42, tasks=("t", "u"), routes=("r",)
)
TASK = TaskRecord(key="task:t", rev=1, token="d", created_at=1.0, expires_at=2.0, route="r", needs_message=True)
KEY = KeyRecord(key="key:k", rev=1, token="e", created_at=1.0, expires_at=2.0, run="run_3")
NOTE = NoteRecord(key="note:n", rev=1, token="f", created_at=1.0, expires_at=2.0, about="run_3", text="t")
LOCK = LockRecord(
    key="lock:sig_1",
    rev=1,
    token="g",
    created_at=1.0,
    expires_at=2.0,
    about="sig_1",
    holder="h",
    until=3.0,
    waiters=(Waiter(holder="w", until=4.0),),
    released="i",
)
FULL: list[Record] = [SIGNATURE, MEMBERS, RUN, WORKER, TASK, KEY, NOTE, LOCK]
BARE: list[Record] = [
    SignatureRecord(key="sig_1", created_at=0.0, task="t", route="r", active_ttl=1.0, done_ttl=1.0),
    RunRecord(
        key="run_1",
        created_at=0.0,
        signature="sig_1",
        task="t",
        route="r",
        status=RunStatus.QUEUED,
        due_at=0.0,
        done_ttl=1.0,
    ),
    WorkerRecord(key="wrk_1", created_at=0.0, name="w"),
    TaskRecord(key="task:t", created_at=0.0, route="r"),
]


def kind(record: Record) -> str:
    return type(record).__name__


@pytest.mark.parametrize("record", [*FULL, *BARE], ids=kind)
def test_a_record_survives_being_stored(record: Record) -> None:
    assert decode(encode(record), record.key) == record
    assert encode(decode(encode(record), record.key)) == encode(record)


@pytest.mark.parametrize("record", FULL, ids=kind)
def test_every_field_is_stored_under_its_own_name(record: Record) -> None:
    stored = json.loads(encode(record))
    left_out = {"expires_at"} if isinstance(record, WorkerRecord) else set[str]()
    assert set(stored) - {"kind"} == set(record.__struct_fields__) - left_out


def test_json_of_users_is_kept_byte_for_byte() -> None:
    read = decode(encode(RUN), RUN.key)
    assert isinstance(read, RunRecord)
    assert read.sent is not None
    assert bytes(read.sent) == b'{"a": [1, 2.50]}'
    assert read.result == Raw(b"null"), "a result of None is a result"


@pytest.mark.parametrize("status", list(RunStatus))
@pytest.mark.parametrize("control", list(Control))
@pytest.mark.parametrize("origin", list(Origin))
def test_every_state_of_a_run_survives(status: RunStatus, control: Control, origin: Origin) -> None:
    run = replace(RUN, status=status, control=control, origin=origin)
    assert decode(encode(run), run.key) == run


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(kwargs=st.dictionaries(st.text(), json_values, max_size=5))
def test_bound_values_survive_in_their_order(kwargs: dict[str, Any]) -> None:
    read = decode(encode(replace(SIGNATURE, kwargs=kwargs)), SIGNATURE.key)
    assert isinstance(read, SignatureRecord)
    assert list(read.kwargs.items()) == list(kwargs.items())


def test_two_records_never_share_what_they_bind() -> None:
    one, other = (decode(encode(BARE[0]), "sig_1") for _ in range(2))
    assert isinstance(one, SignatureRecord)
    assert isinstance(other, SignatureRecord)
    one.kwargs["a"] = 1
    assert other.kwargs == {}


# Neighbouring releases


@pytest.mark.parametrize("record", FULL, ids=kind)
def test_fields_of_a_newer_release_are_passed_over(record: Record) -> None:
    if isinstance(record, RunRecord):
        record = replace(record, sent=None)  # the only JSON here that another writer would space differently
    stored = json.loads(encode(record))
    stored["colour"] = {"of": ["the", "future"]}
    if isinstance(record, RunRecord):
        stored["failure"]["severity"] = stored["cursor"]["members"] = stored["options"]["rate"] = 7
    assert encode(decode(json.dumps(stored, separators=(",", ":")).encode(), record.key)) == encode(record)


@pytest.mark.parametrize(
    ("stored", "record"),
    [
        (
            b'{"kind":"signature","key":"sig_1","created_at":0,"task":"t","route":"r","active_ttl":1,"done_ttl":1}',
            BARE[0],
        ),
        (
            b'{"kind":"run","key":"run_1","created_at":0.0,"signature":"sig_1","task":"t","route":"r",'
            b'"status":"queued","due_at":0.0,"done_ttl":1.0}',
            BARE[1],
        ),
        (b'{"kind":"worker","key":"wrk_1","created_at":0.0,"name":"w"}', BARE[2]),
        (b'{"kind":"task","key":"task:t","created_at":0.0,"route":"r"}', BARE[3]),
    ],
    ids=["signature", "run", "worker", "task"],
)
def test_what_the_first_release_wrote_still_opens(stored: bytes, record: Record) -> None:
    assert decode(stored, record.key) == record


# Broken


BROKEN = {
    "nothing": b"",
    "no JSON": b"\x80\x04\x95",
    "not UTF-8": encode(TASK).replace(b"task:t", b"task:\xff"),
    "cut off": encode(RUN)[:-20],
    "no object": b"null",
    "of no kind": b"{}",
    "of an unknown kind": b'{"kind":"galaxy","key":"x","created_at":0}',
    "a field is missing": b'{"kind":"task","key":"task:t","created_at":0}',
    "a field is of another type": encode(TASK).replace(b"1.0", b'"noon"'),
    "a status of a newer release": encode(RUN).replace(b'"failed"', b'"dreaming"'),
    "nested without end": encode(TASK)[:-1] + b',"x":' + b"[" * 100_000,
    "bound values nested without end": encode(BARE[0])[:-1] + b',"kwargs":{"a":' + b"[" * 100_000,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=list(BROKEN))
def test_broken_bytes_are_named_and_not_guessed_at(data: bytes) -> None:
    with pytest.raises(CorruptRecordError, match="the record 'the key' cannot be read") as caught:
        decode(data, "the key")
    assert caught.value.key == "the key"
    assert caught.value.__cause__ is not None


@given(at=st.integers(0, len(encode(RUN)) - 1), byte=st.integers(0, 255))
def test_one_wrong_byte_is_read_or_refused(at: int, byte: int) -> None:
    data = bytearray(encode(RUN))
    data[at] = byte
    try:
        record = decode(bytes(data), "k")
    except CorruptRecordError:
        return
    assert isinstance(record, msgspec.Struct)


# What stores index


def test_a_signature_keeps_the_callbacks_that_it_names() -> None:
    pages = ("sig_1/0", "sig_1/1")
    names = ("sig_2", "sig_3", "sig_4", *pages)
    assert index_of(SIGNATURE) == Index(kind="signature", live=False, task="t", names=names)
    assert index_of(MEMBERS) == Index(kind="members", live=False, names=("sig_5", "sig_6"))


def test_a_worker_is_live_and_the_name_of_a_task_is_not() -> None:
    assert index_of(WORKER) == Index(kind="worker", live=True)
    assert index_of(TASK) == Index(kind="task", live=False)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_live_run_keeps_what_its_controls_come_from_and_the_callbacks_left_to_it(status: RunStatus) -> None:
    run = replace(RUN, status=status, cursor=None, lineage=("run_1", "run_0", "run_2"))
    assert index_of(run) == Index(
        kind="run",
        status=status.value,
        live=True,
        task="t",
        signature="sig_1",
        root="run_1",
        cause="run_2",
        worker="wrk_1" if status is RunStatus.RUNNING else None,
        names=("run_0", "sig_2", "run_7"),
        parent="run_0",
    )


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_run_lives_on_while_it_has_a_continuation(status: RunStatus) -> None:
    run = replace(RUN, status=status)
    assert index_of(run).live
    assert index_of(run).names == ("run_0", "sig_2", "run_7")
    ended = index_of(replace(run, cursor=None))
    assert (ended.live, ended.names, ended.worker) == (False, ("run_7",), None)


def test_keys_tell_what_they_are_of() -> None:
    assert (advance_key("run_1"), task_key("t")) == ("advance:run_1", "task:t")
