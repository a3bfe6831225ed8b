"""Invariant I1 through all services: frames out are frames in, at their own times, with their own sound.

What the compositor alone promises is tested in `integration/test_timing.py`; here clips go through every door, so that
decoding over the wire, padding, turning and cutting are judged with it. Sources are chosen for what ingest must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from masquerade.v1 import media_pb2
from services.common.media.container import open_media, video_of
from services.common.planes import digest
from tests.clips import I1_CLIPS, Sound, frame_number, make_clip
from tests.e2e.mesh_driver import BLUR, Driver, Indexed, Result
from tests.support.passage import heard, packets, planes_of, track_seconds

pytestmark = pytest.mark.asyncio(loop_scope="module")

THROUGH_ALL_DOORS = (
    *("cfr_29_97", "vfr_b_frames", "vfr_matroska", "open_gop_hevc", "negative_start", "negative_start_matroska"),
    *("rotated_90", "rotated_180", "rotated_270", "odd_size", "odd_rotated", "av1_opus", "vp9_webm", "ten_bit"),
    *("full_range", "interlaced", "mpeg2_ts", "gif", "many_streams", "audio_longer", "one_frame"),
)
COPIED = ("vfr_b_frames", "negative_start_matroska", "many_streams", "audio_longer")


def relative(times: Sequence[int], time_base: Fraction) -> list[Fraction]:
    """Seconds after the first."""
    return [(time - times[0]) * time_base for time in times]


def source_times(source: Indexed) -> list[Fraction]:
    """Seconds after the first kept frame, gaps between ranges closed."""
    index = source.index
    ends = [*index.pts[1:].tolist(), index.end]
    times, now = [], 0
    for frame in source.kept:
        times.append(now * index.time_base)
        now += ends[frame] - int(index.pts[frame])
    return times


def assert_times_are_the_sources(result: Result) -> None:
    """Every PTS, read from the file itself and not from the service's verdict."""
    with open_media(result.file) as file:
        time_base = Fraction(video_of(file).time_base or 1)
    found = relative(sorted(pts for pts, _ in packets(result.file)), time_base)
    wanted = source_times(result.source)
    assert len(found) == len(wanted)
    # One tick of the coarser clock: MP4 keeps the source's, Matroska and Flash have milliseconds.
    assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) <= time_base
    assert result.verified.frames == len(wanted)
    assert result.verified.max_pts_error_ms <= 0.5


def numbers(file: Path) -> list[int]:
    """The number that each frame bears."""
    with open_media(file) as container:
        found = []
        for frame in container.decode(video_of(container)):
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
            found.append(frame_number(luma[:, : frame.width]))
    return found


@pytest.mark.parametrize("name", THROUGH_ALL_DOORS)
async def test_a_clip_comes_through_all_doors_frame_by_frame(name: str, mesh: Driver, tmp_path: Path) -> None:
    clip = I1_CLIPS[name](tmp_path)
    result = await mesh.transform(clip, segments=3 if name != "one_frame" else 0)
    assert_times_are_the_sources(result)
    index = result.source.index
    assert result.digests == [digest(planes) for planes in planes_of(clip, index, 0, index.frames)]
    assert track_seconds(result.file) == (index.end - int(index.pts[0])) * index.time_base
    if name != "gif":  # 256 colours hold no bar code
        assert numbers(result.file) == list(range(index.frames))


@pytest.mark.parametrize("name", COPIED)
async def test_copied_sound_is_the_sources_sample_for_sample(name: str, mesh: Driver, tmp_path: Path) -> None:
    clip = I1_CLIPS[name](tmp_path)
    result = await mesh.transform(clip, segments=2)
    offset = Fraction(result.assembled.offset_num, result.assembled.offset_den)
    with open_media(clip) as source, open_media(result.file) as file:
        tracks = len(source.streams.audio)
        assert len(file.streams.audio) == tracks
    for track in range(tracks):
        was_at, was = heard(clip, track)
        is_at, now = heard(result.file, track)
        assert np.array_equal(was, now)
        assert abs(is_at - (was_at - offset)) <= Fraction(1, 1000)


@pytest.mark.parametrize("start", [0, 0.010, 0.3])
async def test_encoded_sound_is_in_step_whenever_it_begins(start: float, mesh: Driver, tmp_path: Path) -> None:
    # Players of MP4 do not take MP2: it becomes AAC, whose priming must not be heard and must not move anything.
    clip = make_clip(tmp_path / "a.mkv", frames=40, audio=Sound("mp2", start=start), flashes=[12, 33])
    result = await mesh.transform(clip, segments=2)
    (was_at, was), (is_at, now) = heard(clip), heard(result.file)
    assert is_at == 0
    assert np.abs(clicks_at(now) - clicks_at(was) - round(was_at * 48_000)).max() <= 48
    silent = max(0, round(was_at * 48_000) - 480)
    assert np.abs(now[:, :silent]).max(initial=0) < 0.01


@pytest.mark.parametrize("segments", [1, 5])
async def test_sound_and_picture_are_in_step_to_the_end_of_a_cut(segments: int, mesh: Driver, tmp_path: Path) -> None:
    # 29.97 frames a second and samples at 44.1 kHz: nothing of one divides the other, errors would add up.
    flashes = [7, 40, 64, 100, 141, 146]
    rate = Fraction(30_000, 1001)
    clip = make_clip(tmp_path / "a.mp4", frames=150, rate=rate, bf=2, audio=Sound(rate=44_100), flashes=flashes)
    keep = [media_pb2.TimeRange(start_ms=100, end_ms=1500), media_pb2.TimeRange(start_ms=2000, end_ms=2300)]
    keep += [media_pb2.TimeRange(start_ms=3200)]
    result = await mesh.transform(clip, keep=keep, segments=segments)
    assert_times_are_the_sources(result)
    kept = result.source.kept
    shown = numbers(result.file)
    lit = [place for place, frame in enumerate(kept) if frame in flashes]
    # A white frame bears its number too.
    assert shown == kept
    rate_hz, samples = 44_100, heard(result.file)[1]
    clicks = clicks_at(samples) / rate_hz
    assert len(clicks) == len(lit)
    assert np.abs(clicks - [float(source_times(result.source)[place]) for place in lit]).max() <= 0.005
    length = float(track_seconds(result.file))
    assert 0 <= samples.shape[1] / rate_hz - length <= 1024 / rate_hz


def clicks_at(samples: NDArray[np.float32]) -> NDArray[np.int64]:
    """Samples at which a click begins: far above the tone, and nothing such in the 20 ms before."""
    loud = np.flatnonzero(np.abs(samples[0]) > 0.6)
    return loud[np.diff(loud, prepend=-10_000) > 900]


async def test_an_effect_changes_no_time(mesh: Driver, tmp_path: Path) -> None:
    result = await mesh.transform(I1_CLIPS["vfr_b_frames"](tmp_path), background=BLUR, segments=3)
    assert_times_are_the_sources(result)
