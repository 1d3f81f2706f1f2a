"""`mageflow show`."""

from __future__ import annotations

import json

from mageflow import RunInfo
from tests.cli.conftest import Kept
from tests.cli.processes import mageflow, refusal


def test_a_run_that_succeeded(kept: Kept) -> None:
    done = mageflow("show", kept.good, "--store", kept.store)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{kept.good}  process_order  succeeded"
    assert [line.split()[0] for line in lines[2:8]] == [
        "created",
        "started",
        "ended",
        "attempts",
        "signature",
        "worker",
    ]
    assert done.stdout.split("\n\n", 2)[2] == (
        'message\n  {\n    "order_id": 7\n  }\n\n'
        'result\n  "receipt 14"\n\n'
        f"caused\n  {kept.email}  send_email  succeeded\n"
    )


def test_a_run_that_failed_shows_why_and_what_it_caused(kept: Kept) -> None:
    shown = mageflow("show", kept.bad, "--store", kept.store).stdout
    assert "attempts  2 (1 retry allowed)" in shown
    assert "failure\n  ZeroDivisionError: integer division or modulo by zero\n" in shown
    assert "  Traceback (most recent call last):" in shown
    assert 'in process_order\n      return f"receipt {100 // order.order_id}"' in shown
    assert f"caused\n  {kept.alert}  alert  succeeded" in shown


def test_a_callback_shows_its_cause(kept: Kept) -> None:
    shown = mageflow("show", kept.email, "--store", kept.store).stdout
    assert f'cause     {kept.good}  process_order  succeeded  "receipt 14"' in shown
    assert '"to": "ada@example.com"' in shown
    assert "result\n  nothing\n" in shown


def test_json_holds_the_run_and_what_it_caused(kept: Kept) -> None:
    shown = json.loads(mageflow("show", kept.bad, "--store", kept.store, "--json").stdout)
    assert shown.pop("caused") == [kept.alert]
    run = RunInfo.model_validate(shown)
    assert (run.id, run.status, run.attempts) == (kept.bad, "failed", 2)
    assert run.failure is not None
    assert run.failure.type == "ZeroDivisionError"


def test_control_characters_of_a_result_do_not_reach_the_terminal(kept: Kept) -> None:
    for arguments in (["show", kept.alert], ["ls"], ["show", kept.alert, "--json"]):
        assert "\x1b" not in mageflow(*arguments, "--store", kept.store).stdout


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(kept: Kept) -> None:
    others = (kept.bad, kept.email, kept.alert)
    length = next(n for n in range(len(kept.good)) if not any(other.startswith(kept.good[:n]) for other in others))
    for prefix in (kept.good[:length], kept.good[:length].removeprefix("run_")):
        shown = mageflow("show", prefix, "--store", kept.store).stdout
        assert shown.startswith(f"{kept.good}  process_order")


def test_a_beginning_that_several_ids_have_is_refused(kept: Kept) -> None:
    said = refusal(mageflow("show", "run_", "--store", kept.store))
    assert "4 runs begin with run_" in said
    assert kept.good in said


def test_an_unknown_id_is_refused(kept: Kept) -> None:
    said = refusal(mageflow("show", "run_zzz", "--store", kept.store))
    assert "no run run_zzz is in" in said
    assert "mageflow ls" in said


def test_the_key_of_a_signature_is_refused_with_what_to_give(kept: Kept) -> None:
    signature = json.loads(mageflow("show", kept.good, "--store", kept.store, "--json").stdout)["signature"]
    assert "is the key of a signature" in refusal(mageflow("show", signature, "--store", kept.store))
