"""Time given back: the source's PTS, cuts taken out, decoding times that rise and add up."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from services.compositor.timetable import DecodeOrder, Range, Timetable, timetable

TICK = Fraction(1, 90_000)


def _table(pts: list[int], end: int, *keep: Range) -> Timetable:
    return timetable(pts=np.array(pts, np.int64), end=end, time_base=TICK, keep=keep)


def _uneven(frames: int) -> list[int]:
    steps = np.random.default_rng(frames).integers(1, 9000, frames)
    return [int(at) - 4000 for at in np.cumsum(steps)]


def test_a_whole_video_keeps_the_sources_own_times() -> None:
    table = _table([-7, 3, 90], 100)
    assert (list(table.pts), table.end, table.pieces) == ([-7, 3, 90], 100, ())
    assert [table.duration_of(frame) for frame in range(3)] == [10, 87, 10]


def test_keeping_everything_is_the_same_as_cutting_nothing() -> None:
    assert _table([0, 5, 9], 12, Range(0, 3)).pieces == ()


def test_kept_ranges_follow_one_another_without_a_gap() -> None:
    table = _table([10, 20, 35, 50, 70, 75], 90, Range(1, 3), Range(4, 6))
    assert list(table.pts) == [0, 15, 30, 35]
    assert table.end == 50
    first, second = table.pieces
    assert (first.start, first.end, first.base) == (20, 50, 0)
    assert (second.start, second.end, second.base) == (70, 90, 30)
    assert (second.is_cut_before, second.is_cut_after) == (True, False)


def test_ranges_that_touch_are_no_cut() -> None:
    first, second = _table([0, 10, 20, 30], 40, Range(0, 2), Range(2, 3)).pieces
    assert (first.is_cut_before, first.is_cut_after) == (False, False)
    assert (second.is_cut_before, second.is_cut_after) == (False, True)


@pytest.mark.parametrize("keep", [(Range(2, 4), Range(3, 5)), (Range(0, 9),), (Range(3, 4), Range(0, 2))])
def test_ranges_that_overlap_or_leave_the_video_are_refused(keep: tuple[Range, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        _table([0, 10, 20, 30, 40], 50, *keep)


@pytest.mark.parametrize("pts", [[], [0, 10, 10], [0, 20, 10], [0, 50]])
def test_times_that_do_not_ascend_are_no_index(pts: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        _table(pts, 50)


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 40])
def test_decoding_times_rise_are_never_late_and_add_up_to_the_showing(frames: int, delay: int) -> None:
    pts = _uneven(frames)
    table = _table(pts, pts[-1] + 5000)
    order = DecodeOrder(table, delay)
    dts = [order.dts(packet) for packet in range(frames)]
    assert all(before < after for before, after in pairwise(dts))
    # The worst order that the delay allows: every packet is shown as early as it may be.
    depth = min(delay, frames - 1)
    assert all(dts[packet] <= table.pts[max(0, packet - depth)] for packet in range(frames))
    total = dts[-1] - dts[0] + order.duration(frames - 1, max(0, frames - 2))
    assert total == table.end - table.pts[0]
