"""Frames found by seeking are the frames of one straight decode, and every PTS is the source's (invariant I1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.common.media.index import MediaIndex, read_index, write_index
from services.common.planes import Planes, digest
from services.ingest.decoding import decode_range
from services.ingest.indexing import fill_missing, index_video, separate
from services.ingest.limits import MediaLimits
from services.ingest.upright import Uprighter
from tests.clips import I1_CLIPS, frame_number, make_clip
from tests.unit.ingest.conftest import straight, upright_420


def decoded(path: Path, index: MediaIndex, first: int, last: int) -> list[tuple[int, Planes]]:
    uprighter = Uprighter(index.picture)
    out = []
    for number, frame in decode_range(path, index, first, last):
        planes = Planes.empty(index.width, index.height, index.colour)
        uprighter.write(uprighter.stored(frame, number=number), planes)
        out.append((number, planes))
    return out


def starts(frames: int) -> list[int]:
    """Beginnings in every part of the video, at every phase of the grid of 8, and the last frame."""
    return sorted({*range(0, frames, 9), max(0, frames - 1)})


@pytest.mark.parametrize("name", sorted(I1_CLIPS))
def test_the_index_holds_the_pts_of_a_straight_decode(name: str, clip: Callable[[str], Path]) -> None:
    path = clip(name)
    index = index_video(path, MediaLimits())
    reference = [pts for pts, _ in straight(path)]
    assert index.frames == len(reference)
    known = [(ours, theirs) for ours, theirs in zip(index.pts, reference, strict=True) if theirs is not None]
    assert all(ours == theirs for ours, theirs in known)
    assert index.filled == len(reference) - len(known)
    assert index.end > index.pts[-1]
    assert bool(np.all(np.diff(index.pts) > 0))


@pytest.mark.parametrize("name", sorted(I1_CLIPS))
def test_planes_found_by_seeking_are_those_of_a_straight_decode(name: str, clip: Callable[[str], Path]) -> None:
    path = clip(name)
    index = index_video(path, MediaLimits())
    whole = decoded(path, index, 0, index.frames)
    assert [number for number, _ in whole] == list(range(index.frames))
    assert [frame_number(planes.y) for _, planes in whole] == list(range(index.frames))
    for (_, planes), (_, frame) in zip(whole, straight(path), strict=True):
        expected = upright_420(frame)
        if expected is not None:
            for ours, theirs in zip((planes.y, planes.u, planes.v), expected, strict=True):
                assert np.array_equal(ours, theirs)
    digests = [digest(planes) for _, planes in whole]
    for first in starts(index.frames):
        last = min(index.frames, first + 4)
        part = decoded(path, index, first, last)
        assert [number for number, _ in part] == list(range(first, last))
        assert [digest(planes) for _, planes in part] == digests[first:last]


@pytest.mark.parametrize("name", ["cfr_29_97", "odd_rotated", "negative_start_matroska", "many_streams"])
def test_an_index_reads_back_as_it_was_written(name: str, clip: Callable[[str], Path]) -> None:
    index = index_video(clip(name), MediaLimits())
    stored = write_index(index)
    again = read_index(stored)
    assert write_index(again) == stored
    assert list(again.pts) == list(index.pts)
    assert (again.picture, again.time_base, again.others, again.notes) == (
        index.picture,
        index.time_base,
        index.others,
        index.notes,
    )


def test_a_recording_that_begins_in_the_middle_has_the_frames_that_can_be_shown(
    clip: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = clip("mpeg2_ts").read_bytes()
    cut = tmp_path / "middle.ts"
    cut.write_bytes(whole[len(whole) // 3 // 188 * 188 :])
    index = index_video(cut, MediaLimits())
    frames = decoded(cut, index, 0, index.frames)
    numbers = [frame_number(planes.y) for _, planes in frames]
    assert numbers == list(range(numbers[0], 48))
    assert numbers[0] > 0
    assert [digest(p) for _, p in decoded(cut, index, 9, 14)] == [digest(p) for _, p in frames[9:14]]


def test_frames_that_an_edit_list_hides_are_no_frames(tmp_path: Path) -> None:
    hidden = make_clip(tmp_path / "hidden.mp4", frames=40, start=-0.4, bf=2, container_options={"use_editlist": "1"})
    reference = straight(hidden)
    index = index_video(hidden, MediaLimits())
    assert list(index.pts) == [pts for pts, _ in reference]
    shown = [frame_number(planes.y) for _, planes in decoded(hidden, index, 0, index.frames)]
    assert shown == list(range(40 - index.frames, 40))


def test_real_clips_decode_exactly_from_anywhere(footage: list[Path]) -> None:
    for path in footage:
        index = index_video(path, MediaLimits())
        reference = [pts for pts, _ in straight(path)]
        assert list(index.pts) == reference, path.name
        first = index.frames * 2 // 3
        last = min(index.frames, first + 4)
        expected = [digest(planes) for _, planes in decoded(path, index, 0, last)][first:]
        assert [digest(planes) for _, planes in decoded(path, index, first, last)] == expected, path.name


def test_missing_times_are_counted_back_from_the_first_known_one() -> None:
    assert fill_missing([None, None, 0, 40, None, 130], 40) == ([-80, -40, 0, 40, 80, 130], 3)
    assert fill_missing([None, None], 40) == ([0, 40], 2)


def test_a_repeated_time_moves_by_one_tick() -> None:
    times = [0, 40, 40, 40, 41, 90]
    assert separate(times) == 3
    assert times == [0, 40, 41, 42, 43, 90]
