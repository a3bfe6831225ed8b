"""Cutting a video into segments, and turning ranges of time into ranges of frames.

Segment bounds lie on the absolute grid of 8, because analysis works in closed groups of 8 frames. Which grid lines are
taken does not change a single sample of the output; it changes how much is decoded twice, so lines just behind key
frames are preferred.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from services.common.errors import RangeOutsideVideo
from services.common.media.index import MediaIndex, Segment

GRID: Final = 8
"""Frames of a closed group of analysis."""

LEAD_IN: Final = 2
"""Frames before a segment that rendering decodes for its temporal filters."""

Range = tuple[int, int]
"""First frame, first frame that is no longer in it."""


def plan_segments(index: MediaIndex, *, target: int, count: int = 0) -> list[Segment]:
    """Cut the whole video.

    Args:
        index: of the video.
        target: wanted frames in a segment; lengths lie between half and one and a half of it.
        count: exactly so many segments of about equal length instead, as far as the grid allows; 0 means by length.

    Returns:
        Segments in order, without gaps; every bound but the last is a multiple of 8.
    """
    bounds = _even_bounds(index.frames, count) if count else _key_bounds(index, max(GRID, target))
    return [Segment(n, first, last) for n, (first, last) in enumerate(itertools.pairwise(bounds))]


def _even_bounds(frames: int, count: int) -> list[int]:
    groups = -(-frames // GRID)
    count = min(count, groups)
    return [GRID * (groups * n // count) for n in range(count)] + [frames]


def _key_bounds(index: MediaIndex, target: int) -> list[int]:
    """Bounds near multiples of `target`, on grid lines behind which decoding wastes the least."""
    # A segment is decoded from the last key frame before its lead-in; the first line for which that is this key frame:
    lines = np.unique([_up(key + LEAD_IN) for key in index.key_frame_numbers() if key > 0]).astype(np.int64)
    bounds = [0]
    while index.frames - bounds[-1] > target + target // 2:
        wanted = bounds[-1] + target
        near = lines[(lines >= wanted - target // 2) & (lines <= wanted + target // 2) & (lines > bounds[-1])]
        line = int(near[np.argmin(abs(near - wanted))]) if len(near) else _up(wanted)
        if line >= index.frames:
            break
        bounds.append(line)
    return [*bounds, index.frames]


def _up(frame: int) -> int:
    return -(-frame // GRID) * GRID


def frames_of_times(index: MediaIndex, ranges: Iterable[tuple[int, int | None]]) -> list[Range]:
    """The frames whose time lies in half-open ranges of milliseconds after the first frame, merged and in order.

    Args:
        index: of the video.
        ranges: (start_ms, end_ms); None means the end of the video.

    Raises:
        RangeOutsideVideo: a range in which no frame begins.
    """
    found = []
    for start_ms, end_ms in ranges:
        first = _frame_at(index, start_ms)
        last = index.frames if end_ms is None else _frame_at(index, end_ms)
        if first >= last:
            shown = f"{start_ms / 1000:g}:{'' if end_ms is None else f'{end_ms / 1000:g}'}"
            raise RangeOutsideVideo(range=shown, duration=f"{float(index.duration):.3f} s")
        found.append((first, last))
    return merged(found)


def _frame_at(index: MediaIndex, time_ms: int) -> int:
    """The first frame at or after a time said in whole milliseconds, however the sayer rounded.

    A frame at 33.333 ms is meant by one who writes 0.033 and by one who writes 0.034: a frame counts as at a time if it
    is less than a millisecond before it.
    """
    if time_ms <= 0:
        return 0
    before = Fraction(time_ms - 1, 1000) / index.time_base
    return int(np.searchsorted(index.pts, int(index.pts[0]) + before.__floor__(), side="right"))


def merged(ranges: Sequence[Range]) -> list[Range]:
    """Ranges in order, those that touch or overlap as one."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out
