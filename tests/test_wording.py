"""Numbers and times as people read them."""

from __future__ import annotations

import pytest

from mageflow.wording import listed, plural, say_span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1.0, "0 ms"),
        (0.0421, "42 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (61.0, "1 min 1 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (3600 * 24 - 1, "24 h 0 min"),
        (3600 * 47.5, "47 h 30 min"),
        (3600 * 48 - 1, "2 days 0 h"),
        (3600 * 24 * 9.5, "9 days 12 h"),
    ],
)
def test_a_span_is_rounded_to_what_is_said_of_it(seconds: float, said: str) -> None:
    assert say_span(seconds) == said


def test_lists_and_counts() -> None:
    assert listed(["a"]) == "a"
    assert listed("abc") == "a, b and c"
    assert (plural(1, "run"), plural(0, "run"), plural(1234, "run")) == ("1 run", "0 runs", "1,234 runs")
