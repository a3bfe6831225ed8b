"""Segments lie on the grid of 8 behind key frames; ranges of time become ranges of frames without a gap or a doubt."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from services.common.colour import ColourTags
from services.common.errors import RangeOutsideVideo
from services.common.media.index import MediaIndex, Picture, Segment
from services.ingest.planning import GRID, frames_of_times, merged, plan_segments


def index_of(frames: int, *, keys: list[int], step: int = 512, time_base: Fraction = Fraction(1, 12800)) -> MediaIndex:
    pts = 100 + step * np.arange(frames, dtype=np.int64)
    at = np.array([100 + step * key for key in keys], np.int64)
    picture = Picture(
        width=16, height=16, coded_width=16, coded_height=16, coded_format="yuv420p", colour=ColourTags(6, 1)
    )
    return MediaIndex(
        container="mp4",
        codec="h264",
        stream=0,
        picture=picture,
        time_base=time_base,
        pts=pts,
        end=int(pts[-1]) + step,
        key_pts=at,
        key_dts=at,
    )


def cuts(segments: list[Segment]) -> list[int]:
    assert [s.number for s in segments] == list(range(len(segments)))
    for before, after in itertools.pairwise(segments):
        assert before.last == after.first
    assert all(s.first % GRID == 0 and s.frames > 0 for s in segments)
    return [s.first for s in segments] + [segments[-1].last]


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 100, 1001])
@pytest.mark.parametrize("target", [8, 24, 250])
@pytest.mark.parametrize("gop", [1, 12, 250, 10_000])
def test_segments_cover_the_video_on_the_grid(frames: int, target: int, gop: int) -> None:
    index = index_of(frames, keys=list(range(0, frames, gop)))
    bounds = cuts(plan_segments(index, target=target))
    assert (bounds[0], bounds[-1]) == (0, frames)
    lengths = np.diff(bounds)
    assert lengths.max() <= target + target // 2 + GRID
    assert len(lengths) == 1 or lengths.min() >= target // 2


def test_a_cut_lies_on_the_first_line_that_is_decoded_from_a_near_key_frame() -> None:
    index = index_of(400, keys=[0, 90, 183, 290])
    # 183 + 2 frames of lead-in: 192 is the first line whose decoding begins at 183; 184 would begin at 90.
    assert cuts(plan_segments(index, target=100)) == [0, 96, 192, 296, 400]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_as_many_segments_as_asked_as_far_as_the_grid_allows(count: int) -> None:
    index = index_of(50, keys=[0])
    segments = plan_segments(index, target=8, count=count)
    assert len(segments) == min(count, 7)
    assert cuts(segments)[-1] == 50


def test_times_become_the_frames_that_begin_in_them() -> None:
    index = index_of(100, keys=[0])  # 25 a second, the first frame not at 0
    assert frames_of_times(index, [(0, 40)]) == [(0, 1)]
    assert frames_of_times(index, [(1, 41)]) == [(1, 2)]
    assert frames_of_times(index, [(400, 1000), (3000, None)]) == [(10, 25), (75, 100)]
    assert frames_of_times(index, [(2000, 3000), (0, 1000), (1000, 1400)]) == [(0, 35), (50, 75)]


def test_a_time_said_in_milliseconds_means_the_frame_it_was_rounded_from() -> None:
    index = index_of(90, keys=[0], step=1001, time_base=Fraction(1, 30000))
    for frame in range(1, 90):
        exact = Fraction(1001 * frame, 30000) * 1000
        for said in (int(exact), -int(-exact // 1)):
            assert frames_of_times(index, [(said, None)]) == [(frame, 90)]


def test_neighbouring_ranges_leave_no_frame_out_and_give_none_twice() -> None:
    index = index_of(90, keys=[0], step=1001, time_base=Fraction(1, 30000))
    for cut in range(40, 2900, 37):
        (left,), (right,) = frames_of_times(index, [(0, cut)]), frames_of_times(index, [(cut, None)])
        assert left[1] == right[0]


@pytest.mark.parametrize("wrong", [(4000, None), (50_000, 60_000), (1000, 1000), (2000, 1000), (41, 42)])
def test_a_range_without_a_frame_is_an_error(wrong: tuple[int, int | None]) -> None:
    with pytest.raises(RangeOutsideVideo) as caught:
        frames_of_times(index_of(100, keys=[0]), [(0, 100), wrong])
    assert caught.value.fields["duration"] == "4.000 s"


def test_ranges_that_touch_are_one() -> None:
    assert merged([(5, 9), (0, 3), (3, 5), (20, 30), (22, 25)]) == [(0, 9), (20, 30)]
