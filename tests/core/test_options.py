"""How options are merged, and how long the pause before a retry is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, fields

from mageflow.core.options import LONGEST_PAUSE, Options, backoff, merge_options

VALUES: dict[str, Any] = {
    "delay": 1.5,
    "eta": 1e9,
    "retries": 0,
    "backoff_factor": 2.0,
    "backoff_max_seconds": 0.0,
    "execution_timeout": 3.0,
    "schedule_timeout": 4.0,
    "priority": 3,
    "idempotency_key": "k",
    "idempotency_window": 60.0,
}


def test_every_field_is_tested_here() -> None:
    assert set(VALUES) == {each.name for each in fields(Options)}


@pytest.mark.parametrize("name", VALUES)
def test_a_field_of_a_weaker_layer_shows_through(name: str) -> None:
    weaker = Options(**{name: VALUES[name]})
    other = Options(retries=7) if name != "retries" else Options(priority=2)
    merged = merge_options(other, None, Options(), weaker)
    assert asdict(merged) == {**asdict(other), name: VALUES[name]}


@pytest.mark.parametrize("name", VALUES)
def test_the_first_layer_that_sets_a_field_wins_even_by_zero(name: str) -> None:
    weak: dict[str, Any] = {**VALUES, "delay": 9.0, "eta": None, "retries": 9, "priority": 1, "idempotency_key": "w"}
    weak = {key: 9.0 if isinstance(value, float) else value for key, value in weak.items()}
    merged = merge_options(Options(**{name: VALUES[name]}), Options(**weak))
    assert getattr(merged, name) == VALUES[name]


def test_nothing_given_is_nothing_set() -> None:
    assert merge_options() == merge_options(None, Options()) == Options()


@pytest.mark.parametrize(
    ("strong", "weak", "delay", "eta"),
    [
        (Options(delay=0.0), Options(eta=100.0), 0.0, None),
        (Options(eta=100.0), Options(delay=5.0), None, 100.0),
        (Options(retries=1), Options(eta=100.0), None, 100.0),
        (Options(delay=1.0), Options(delay=2.0), 1.0, None),
    ],
)
def test_delay_and_eta_both_say_when_so_the_stronger_layer_replaces_both(
    strong: Options, weak: Options, delay: float | None, eta: float | None
) -> None:
    merged = merge_options(strong, weak, Options(priority=2))
    assert (merged.delay, merged.eta, merged.priority) == (delay, eta, 2)


def test_three_layers_are_merged_field_by_field() -> None:
    run, signature, task = Options(retries=0), Options(retries=2, priority=3), Options(priority=1, backoff_factor=2.0)
    assert merge_options(run, signature, task) == Options(retries=0, priority=3, backoff_factor=2.0)


@pytest.mark.parametrize(
    ("factor", "most", "failures", "pause"),
    [
        (None, None, 1, 0.0),
        (None, 30.0, 3, 0.0),
        (2.0, None, 1, 2.0),
        (2.0, None, 3, 8.0),
        (2.0, 5.0, 3, 5.0),
        (2.0, 0.0, 3, 0.0),
        (1.0, None, 50, 1.0),
        (1.5, 60.0, 2, 2.25),
        (10.0, None, 400, LONGEST_PAUSE),  # 10.0 ** 400 is beyond a float
        (10.0, 60.0, 400, 60.0),
        (math.inf, None, 1, LONGEST_PAUSE),
    ],
)
def test_the_pause_grows_by_the_factor_up_to_its_limit(
    factor: float | None, most: float | None, failures: int, pause: float
) -> None:
    assert backoff(Options(backoff_factor=factor, backoff_max_seconds=most), failures, 0.0) == pause


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 8.0), (0.5, 7.0), (1.0, 6.0)])
def test_jitter_takes_off_up_to_a_quarter(jitter: float, pause: float) -> None:
    assert backoff(Options(backoff_factor=2.0), 3, jitter) == pause


@given(
    factor=st.floats(1, allow_nan=False, allow_infinity=False),
    most=st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    failures=st.integers(1, 10_000),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_a_pause_is_always_a_time_that_can_be_stored(
    factor: float, most: float | None, failures: int, jitter: float
) -> None:
    pause = backoff(Options(backoff_factor=factor, backoff_max_seconds=most), failures, jitter)
    assert 0 <= pause <= LONGEST_PAUSE
    assert most is None or pause <= most
