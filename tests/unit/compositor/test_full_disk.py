"""A disk that is full while a segment is encoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from services.common.colour import ColourTags
from services.common.errors import NoSpace
from services.common.planes import Planes
from services.compositor.encoding import EncodeSettings, Shape
from services.compositor.sinks import SegmentSink
from tests.clips import picture

SD = ColourTags(6, 1, 2, 2)
WIDTH, HEIGHT = 320, 240


def fill(sink: SegmentSink, *, frames: int) -> None:
    with sink:
        for number in range(frames):
            sink.take(Planes(*picture(number, WIDTH, HEIGHT), SD))
        sink.finish()


def test_a_full_disk_is_named_and_the_segment_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "segment.mp4").symlink_to("/dev/full")
    settings = EncodeSettings(preset="ultrafast", crf=1)
    sink = SegmentSink(tmp_path, Shape(WIDTH, HEIGHT, SD, Fraction(25)), settings, digests=True, dump=False)
    with pytest.raises(NoSpace) as caught:
        fill(sink, frames=64)
    assert caught.value.fields["path"] == str(tmp_path)


def test_planes_that_find_no_room_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "planes.i420").symlink_to("/dev/full")
    settings = EncodeSettings(preset="ultrafast")
    sink = SegmentSink(tmp_path, Shape(WIDTH, HEIGHT, SD, Fraction(25)), settings, digests=False, dump=True)
    with pytest.raises(NoSpace):
        fill(sink, frames=4)
