"""Ranges of time as people type them."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidSpec
from services.standalone.ranges import Range, parse_range, parse_ranges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:3", Range(0, 3000)),
        ("1.5:2.25", Range(1500, 2250)),
        (":5", Range(0, 5000)),
        ("5:", Range(5000, None)),
        ("01:30:02:00", Range(90_000, 120_000)),
        ("00:01:30.250:00:02:00", Range(90_250, 120_000)),
        ("01:30:", Range(90_000, None)),
        (":01:30", Range(0, 90_000)),
        ("1:02:03:", Range(3_723_000, None)),
        ("90:120", Range(90_000, 120_000)),
    ],
)
def test_both_ends_are_seconds_or_a_clock(text: str, expected: Range) -> None:
    assert parse_range(text, option="--keep") == expected


@pytest.mark.parametrize(
    "text", ["", ":", "3", "3:1", "2:2", "a:b", "1:60:02:00", "-1:2", "1e3:2e3", "1:2:3:4:5", "0.0001:1"]
)
def test_what_is_no_range_is_refused_by_its_words(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_range(text, option="--apply")
    assert caught.value.exit_code == 2
    assert "--apply" in str(caught.value)


def test_ranges_are_put_in_order_and_may_touch_but_not_overlap() -> None:
    assert parse_ranges(["4:6", "1:2", "2:4"], option="--keep") == (
        Range(1000, 2000),
        Range(2000, 4000),
        Range(4000, 6000),
    )
    with pytest.raises(InvalidSpec):
        parse_ranges(["1:3", "2:4"], option="--keep")
    with pytest.raises(InvalidSpec):
        parse_ranges(["1:", "5:6"], option="--keep")
