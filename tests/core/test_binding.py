"""The message rules of API.md A, on shapes made by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mageflow.core.binding import (
    OPEN,
    Ended,
    Failed,
    Result,
    Sent,
    Shape,
    assemble,
    fill,
    fills_on_error,
    fills_on_success,
    normalise,
    rebind,
    return_key,
    unfilled,
)

PERSON = Shape(
    keys={"fullName": "fullName", "full_name": "fullName", "displayName": "fullName", "age": "age"},
    names={"fullName": "full_name", "age": "age"},
    required=("fullName",),
)
TEAM = Shape(
    keys={"lead": "lead", "members": "members", "by_role": "by_role", "results": "results"},
    names={"lead": "lead", "members": "members", "by_role": "by_role", "results": "results"},
    required=("lead", "results"),
    nested={"lead": PERSON, "members": Shape(items=PERSON), "by_role": Shape(values=PERSON, open=True)},
    return_key="results",
)
ALERT = Shape(
    keys={"order_id": "order_id", "failure": "failure"},
    names={"order_id": "order_id", "failure": "failure"},
    required=("order_id", "failure"),
    error_key="failure",
    return_key="results",
)
FAILURE = {"type": "ValueError", "message": "no"}


class TestTheBase:
    def test_what_was_sent_is_the_base(self) -> None:
        assert assemble(Sent({"order_id": 1}), [{}], OPEN) == {"order_id": 1}

    def test_nothing_sent_is_an_empty_base(self) -> None:
        assert assemble(Sent(None), [{"to": "ada"}], OPEN) == {"to": "ada"}

    @pytest.mark.parametrize("result", [None, 0, "x", [1], {"a": 1}])
    def test_a_result_goes_to_the_return_field(self, result: Any) -> None:
        assert assemble(Result(result), [{}], Shape(return_key="receipt")) == {"receipt": result}

    def test_an_outcome_goes_to_the_return_field(self) -> None:
        assert assemble(Ended({"status": "cancelled"}), [{}], OPEN) == {"results": {"status": "cancelled"}}

    def test_a_receiver_without_a_place_for_it_gets_no_result(self) -> None:
        assert assemble(Result(1), [{"a": 2}], Shape(forbids_extra=True)) == {"a": 2}

    def test_an_error_callback_gets_the_original_message_and_the_failure_where_it_asks(self) -> None:
        assert assemble(Failed({"order_id": 7}, FAILURE), [{}], ALERT) == {"order_id": 7, "failure": FAILURE}

    def test_an_error_callback_that_marks_nothing_gets_just_the_original_message_and_its_extras(self) -> None:
        assert assemble(Failed({"order_id": 7}, FAILURE), [{"why": "?"}], OPEN) == {"order_id": 7, "why": "?"}

    def test_the_failure_replaces_an_earlier_one_in_the_message(self) -> None:
        told = assemble(Failed({"order_id": 7, "failure": {"type": "Old"}}, FAILURE), [{}], ALERT)
        assert told["failure"] == FAILURE


@pytest.mark.parametrize(
    ("fields", "marked", "forbids_extra", "expected"),
    [
        ((), "receipt", False, "receipt"),
        (("results",), "receipt", True, "receipt"),
        ((), None, False, "results"),
        (("results", "mageflow_results"), None, False, "results"),
        (("mageflow_results",), None, False, "mageflow_results"),
        (("mageflow_results",), None, True, "mageflow_results"),
        (("other",), None, True, None),
    ],
)
def test_the_return_field_is_the_marked_one_else_results(
    fields: tuple[str, ...], marked: str | None, forbids_extra: bool, expected: str | None
) -> None:
    assert return_key({name: name for name in fields}, marked, forbids_extra=forbids_extra) == expected


class TestMerging:
    @pytest.mark.parametrize(
        ("base", "bound", "expected"),
        [
            ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
            ({"a": 1}, {"a": 2}, {"a": 2}),
            ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 9}}}, {"a": {"b": {"c": 9, "d": 2}}}),
            ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
            ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
            ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
            ({"a": {"b": 1}}, {"a": None}, {"a": None}),
            ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
        ],
    )
    def test_dicts_merge_to_any_depth_and_the_bound_value_stands(
        self, base: dict[str, Any], bound: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        assert assemble(Sent(base), [bound], OPEN) == expected

    @pytest.mark.parametrize("base", ["fullName", "full_name", "displayName"])
    @pytest.mark.parametrize("bound", ["fullName", "full_name", "displayName"])
    def test_spellings_of_one_field_meet(self, base: str, bound: str) -> None:
        assert assemble(Sent({base: "sent", "age": 3}), [{bound: "bound"}], PERSON) == {"fullName": "bound", "age": 3}

    def test_spellings_meet_in_nested_models_lists_and_dicts(self) -> None:
        sent = {"lead": {"full_name": "A"}, "members": [{"displayName": "B"}], "by_role": {"cook": {"full_name": "C"}}}
        assert assemble(Sent(sent), [{"lead": {"displayName": "Z"}}], TEAM) == {
            "lead": {"fullName": "Z"},
            "members": [{"fullName": "B"}],
            "by_role": {"cook": {"fullName": "C"}},
        }

    def test_the_later_spelling_of_a_field_stands(self) -> None:
        assert normalise({"fullName": 1, "full_name": 2}, PERSON) == {"fullName": 2}

    def test_computed_fields_of_the_receivers_own_dump_are_left_out(self) -> None:
        shape = Shape(keys={"a": "a"}, names={"a": "a"}, computed=("total",), forbids_extra=True)
        assert assemble(Sent({"a": 1, "total": 2}), [{}], shape) == {"a": 1}


def test_an_update_replaces_per_key_whichever_spelling_was_bound() -> None:
    assert rebind({"full_name": "A", "age": 1}, {"displayName": "B"}, PERSON) == {"age": 1, "displayName": "B"}


def test_an_update_without_a_shape_lets_the_later_spelling_stand() -> None:
    bound = rebind(rebind({"fullName": 1, "full_name": 2}, {"fullName": 3}), {})
    assert normalise(bound, PERSON) == {"fullName": 3}


class TestFilling:
    def test_missing_fields_come_from_the_dump_and_present_ones_stand(self) -> None:
        dumped = {"fullName": "other", "age": 5, "computed": 1}
        assert fill({"fullName": "A"}, dumped, PERSON) == {"fullName": "A", "age": 5}

    def test_nested_models_and_equally_long_lists_are_filled(self) -> None:
        message = {"lead": {"fullName": "A"}, "members": [{"fullName": "B"}], "by_role": {"x": {"fullName": "C"}}}
        dumped = {
            "lead": {"fullName": "A", "age": 1},
            "members": [{"fullName": "B", "age": 2}],
            "by_role": {"x": {"fullName": "C", "age": 3}},
            "results": None,
        }
        assert fill(message, dumped, TEAM) == dumped

    def test_lists_of_another_length_are_left_alone(self) -> None:
        message = {"lead": {"fullName": "A"}, "members": [{"fullName": "B"}], "by_role": {}, "results": 1}
        assert fill(message, {"members": []}, TEAM) == message

    def test_withheld_fields_are_not_filled(self) -> None:
        shape = Shape(keys={"token": "token"}, names={"token": "token"}, withheld=("token",))
        assert fill({}, {"token": "**********"}, shape) == {}


class TestUnfilled:
    def test_bound_keys_count_in_any_spelling(self) -> None:
        assert unfilled(PERSON, ["displayName"], ()) == []

    def test_names_of_fields_are_told(self) -> None:
        assert unfilled(PERSON, [], ()) == ["full_name"]

    def test_a_result_fills_the_return_field(self) -> None:
        assert unfilled(TEAM, [], fills_on_success(TEAM)) == ["lead"]

    def test_an_outcome_has_no_place_in_a_closed_model(self) -> None:
        assert fills_on_success(Shape(forbids_extra=True)) == frozenset()

    def test_a_failed_run_fills_its_own_fields_and_the_error_field(self) -> None:
        assert unfilled(ALERT, [], fills_on_error(ALERT, PERSON, ["order_id"])) == []
        assert unfilled(ALERT, [], fills_on_error(ALERT, PERSON)) == ["order_id"]

    @pytest.mark.parametrize("sender", [None, OPEN])
    def test_a_sender_that_may_hold_anything_may_fill_anything(self, sender: Shape | None) -> None:
        assert unfilled(ALERT, [], fills_on_error(ALERT, sender)) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(
    st.sampled_from(["a", "b", "fullName", "full_name", "displayName"]), json_values, max_size=4
)


@given(json_objects, json_objects)
def test_merging_changes_nothing_that_it_was_given(base: dict[str, Any], bound: dict[str, Any]) -> None:
    before = copy.deepcopy((base, bound))
    assemble(Sent(base), [bound], PERSON)
    assert (base, bound) == before


@given(json_objects, json_objects)
def test_merging_twice_is_merging_once(base: dict[str, Any], bound: dict[str, Any]) -> None:
    once = assemble(Sent(base), [bound], PERSON)
    assert assemble(Sent(once), [bound], PERSON) == once


@given(json_objects, json_objects)
def test_every_bound_value_that_is_no_dict_stands(base: dict[str, Any], bound: dict[str, Any]) -> None:
    merged = assemble(Sent(base), [bound], PERSON)
    for key, value in normalise(bound, PERSON).items():
        if not isinstance(value, dict):
            assert merged[key] == value
