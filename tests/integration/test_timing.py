"""Invariant I1: frames out are frames in, each at its source's time to the tick, with the source's own sound."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from services.common.media.container import open_media
from services.compositor.carriage import Container
from services.compositor.timetable import Range
from tests.clips import I1_CLIPS, Sound, make_clip
from tests.support.passage import decoded_digests, heard, packets, pass_through, track_seconds

COPIED = ("cfr_24", "vfr_b_frames", "late_start", "flv", "avi", "audio_longer", "audio_late", "negative_start_matroska")


@pytest.mark.parametrize("name", sorted(I1_CLIPS))
def test_an_unchanged_video_comes_back_frame_by_frame_at_its_own_times(name: str, tmp_path: Path) -> None:
    passage = pass_through(I1_CLIPS[name](tmp_path), tmp_path, segments=3)
    verdict = passage.verdict()
    assert verdict.max_pts_error == 0
    assert decoded_digests(passage.output) == passage.sent
    dts = [decoded for _, decoded in packets(passage.output)]
    assert all(before < after for before, after in pairwise(dts))
    table = passage.table
    assert track_seconds(passage.output) == (table.end - int(table.pts[0])) * table.time_base


@pytest.mark.parametrize("segments", [1, 7])
@pytest.mark.parametrize("name", ["cfr_29_97", "vfr_holes", "vfr_matroska", "open_gop"])
def test_times_and_planes_do_not_depend_on_the_number_of_segments(name: str, segments: int, tmp_path: Path) -> None:
    passage = pass_through(I1_CLIPS[name](tmp_path), tmp_path, segments=segments)
    assert passage.verdict().max_pts_error == 0
    assert decoded_digests(passage.output) == passage.sent


@pytest.mark.parametrize("name", COPIED)
def test_copied_sound_decodes_to_the_sources_own_samples_at_their_own_time(name: str, tmp_path: Path) -> None:
    passage = pass_through(I1_CLIPS[name](tmp_path), tmp_path)
    was_at, was = heard(passage.source)
    is_at, now = heard(passage.output)
    assert np.array_equal(was, now)
    # Flash and Matroska hold milliseconds, MP4 holds samples.
    assert abs(is_at - (was_at - passage.assembled.offset)) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", ["vfr_matroska", "vp9_webm"])
def test_opus_out_of_matroska_gains_padding_at_its_end_alone_and_the_report_says_so(name: str, tmp_path: Path) -> None:
    passage = pass_through(I1_CLIPS[name](tmp_path), tmp_path)
    _, was = heard(passage.source)
    _, now = heard(passage.output)
    assert np.array_equal(was, now[:, : was.shape[1]])
    assert now.shape[1] - was.shape[1] < 960
    assert any("padding" in remark for remark in passage.assembled.remarks)


def test_streams_beside_the_picture_keep_their_languages_texts_and_titles(tmp_path: Path) -> None:
    passage = pass_through(I1_CLIPS["many_streams"](tmp_path), tmp_path)
    with open_media(passage.output) as output:
        assert [stream.metadata["language"] for stream in output.streams.audio] == ["deu", "eng"]
        assert [chapter["metadata"]["title"] for chapter in output.chapters()] == ["eins", "zwei"]
        assert output.metadata["title"] == "Many streams"
        assert output.metadata["comment"] == "made by Masquerade"
        cues = [bytes(packet) for packet in output.demux(output.streams.subtitles[0]) if packet.size > 2]
    assert [cue[2:].decode()[:5] for cue in cues] == ["Grüße", "Zeile"]


@pytest.mark.parametrize("name", ["cfr_25", "vfr_matroska"])
@pytest.mark.parametrize("container", [Container.MKV, Container.WEBM])
def test_matroska_and_webm_hold_every_frame_within_their_millisecond(
    name: str, container: Container, tmp_path: Path
) -> None:
    passage = pass_through(I1_CLIPS[name](tmp_path), tmp_path, container=container)
    assert passage.verdict().max_pts_error <= Fraction(1, 2000)
    assert decoded_digests(passage.output) == passage.sent


def test_an_edit_lists_priming_does_not_move_sound_in_matroska(tmp_path: Path) -> None:
    passage = pass_through(I1_CLIPS["flashes"](tmp_path), tmp_path, container=Container.MKV)
    passage.verdict()
    _, was = heard(passage.source)
    _, now = heard(passage.output)
    assert abs(_clicks(was)[0] - _clicks(now)[0]) <= 48


def test_fields_ranges_and_pixel_shapes_arrive_in_the_file(tmp_path: Path) -> None:
    found = {}
    for name in ("interlaced", "full_range", "rotated_270"):
        passage = pass_through(I1_CLIPS[name](tmp_path), tmp_path)
        with open_media(passage.output) as output:
            stream = output.streams.video[0]
            frame = next(output.decode(stream))
            found[name] = (frame.interlaced_frame, frame.color_range, stream.sample_aspect_ratio or Fraction(1))
            assert (frame.width, frame.height) == (passage.index.width, passage.index.height)
            assert frame.rotation == 0
    assert found["interlaced"] == (True, 1, 1)
    assert found["full_range"] == (False, 2, 1)
    assert found["rotated_270"] == (False, 1, passage.index.sar)


KEEP = (Range(5, 16), Range(24, 37), Range(60, 96))


@pytest.mark.parametrize("segments", [1, 4])
def test_a_click_stays_with_its_flash_at_every_join(segments: int, tmp_path: Path) -> None:
    # Second and last frames of the ranges: on a first frame the click of 2 ms would lie in the fade of 5 ms.
    flashes = [6, 10, 15, 25, 36, 61, 70, 90, 95]
    source = make_clip(tmp_path / "flashes.mp4", frames=100, bf=2, audio="aac", flashes=flashes)
    passage = pass_through(source, tmp_path, segments=segments, keep=KEEP)
    passage.verdict()
    _, sound = heard(passage.output)
    kept = [frame for part in KEEP for frame in range(part.first, part.last)]
    wanted = [float(passage.table.pts[kept.index(frame)] * passage.table.time_base) for frame in flashes]
    clicks = _clicks(sound) / 48_000
    assert len(clicks) == len(wanted)
    assert np.abs(clicks - wanted).max() <= 0.0005


def test_cut_sound_is_as_long_as_the_cut_picture_however_many_ranges(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=90, rate=Fraction(30000, 1001), bf=2, audio=Sound(rate=44100))
    keep = tuple(Range(first, first + 4) for first in range(1, 89, 6))
    passage = pass_through(source, tmp_path, keep=keep)
    passage.verdict()
    assert decoded_digests(passage.output) == passage.sent
    _, sound = heard(passage.output)
    wanted = round(passage.table.end * passage.table.time_base * 44_100)
    assert 0 <= sound.shape[1] - wanted <= 1023


def test_subtitles_and_chapters_are_cut_with_the_picture(tmp_path: Path) -> None:
    source = I1_CLIPS["many_streams"](tmp_path)
    passage = pass_through(source, tmp_path, keep=(Range(10, 15), Range(30, 48)))
    with open_media(passage.output) as output:
        cues = [
            (float(packet.pts * packet.time_base), bytes(packet)[2:].decode()[:5])
            for packet in output.demux(output.streams.subtitles[0])
            if packet.size > 2
        ]
        chapters = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"])
            for chapter in output.chapters()
        ]
    # The first cue, 0.2 to 0.9 s, reaches into 0.4 to 0.6; the second, 1.0 to 1.8, into 1.2 to 1.92.
    assert cues == [(0.0, "Grüße"), (pytest.approx(0.2), "Zeile")]
    assert chapters == [(0, Fraction("0.2")), (Fraction("0.2"), Fraction("0.92"))]


def _clicks(samples: np.ndarray) -> np.ndarray:
    """Places at which a click begins: far above the tone, and nothing such in the 20 ms before."""
    loud = np.flatnonzero(np.abs(samples[0]) > 0.6)
    return loud[np.diff(loud, prepend=-10_000) > 960]
