"""One segment: what goes into the encoder comes out of it, tags and fields kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from services.common.colour import ColourTags
from services.common.planes import Planes, digest, planes_nbytes
from services.compositor.encoding import EncodeSettings, Fields, SegmentEncoder, Shape, count_frames, settings_for
from services.compositor.proofs import PlaneProof, running_digest, split_digests

LOSSLESS = EncodeSettings(preset="ultrafast", crf=0)
SD = ColourTags(6, 1, 2, 2)


def _planes(number: int, width: int, height: int, colour: ColourTags = SD) -> Planes:
    noise = np.random.default_rng(number).integers(0, 256, planes_nbytes(width, height), np.uint8)
    return Planes.view(noise, width, height, colour)


def _shape(width: int = 64, height: int = 48, **rest: Any) -> Shape:
    return Shape(width, height, rest.pop("colour", SD), Fraction(25), **rest)


def _encode(path: Path, shape: Shape, frames: int = 12, settings: EncodeSettings = LOSSLESS) -> list[bytes]:
    encoder = SegmentEncoder(path, shape, settings)
    sent = []
    for number in range(frames):
        planes = _planes(number, shape.width, shape.height, shape.colour)
        encoder.add(planes)
        sent.append(digest(planes))
    assert encoder.finish() == frames
    return sent


def _decoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            planes = [
                np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
                for plane in frame.planes
            ]
            found.append(digest(Planes(*planes, SD)))
        return found


@pytest.mark.parametrize("codec", ["h264", "vp9"])
@pytest.mark.parametrize("size", [(64, 48), (64, 50), (66, 182), (18, 16)])
def test_lossless_segments_give_every_sample_back_at_any_even_size(
    codec: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "segment.mp4"
    settings = settings_for(".webm" if codec == "vp9" else ".mp4", LOSSLESS)
    assert settings.codec == codec
    assert _encode(path, _shape(*size), settings=settings) == _decoded(path)
    assert count_frames(path) == 12


def test_planes_that_are_not_packed_are_encoded_as_well(tmp_path: Path) -> None:
    wide = _planes(1, 128, 96)
    part = Planes(wide.y[:48, 32:96], wide.u[:24, 16:48], wide.v[:24, 16:48], SD)
    encoder = SegmentEncoder(tmp_path / "a.mp4", _shape(), LOSSLESS)
    encoder.add(part)
    encoder.finish()
    assert _decoded(tmp_path / "a.mp4") == [digest(part)]


def test_planes_may_be_used_again_as_soon_as_they_were_taken(tmp_path: Path) -> None:
    planes = Planes.empty(64, 48, SD)
    encoder = SegmentEncoder(tmp_path / "a.mp4", _shape(), LOSSLESS)
    sent = []
    for number in range(10):
        planes.y[:] = planes.u[:] = planes.v[:] = 20 * number
        encoder.add(planes) if planes.y.shape == (48, 64) else None
        sent.append(digest(planes))
    encoder.finish()
    assert _decoded(tmp_path / "a.mp4") == sent


def test_a_frame_of_another_size_is_refused_and_not_rescaled(tmp_path: Path) -> None:
    encoder = SegmentEncoder(tmp_path / "a.mp4", _shape(), LOSSLESS)
    with pytest.raises(ValueError, match="64x46"):
        encoder.add(_planes(0, 64, 46))
    encoder.abandon()


@pytest.mark.parametrize(
    ("colour", "tags"),
    [(ColourTags(1, 1, 1, 1), (1, 1, 1, 1)), (ColourTags(6, 2, 6, 6), (6, 2, 6, 6)), (ColourTags(5, 1, 5, 6), None)],
)
def test_colour_tags_and_pixel_shape_arrive(colour: ColourTags, tags: object, tmp_path: Path) -> None:
    _encode(tmp_path / "a.mp4", _shape(colour=colour, sar=Fraction(4, 3)), settings=EncodeSettings("h264", "ultrafast"))
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        found = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        assert found == (tags or (5, 1, 5, 6))
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize(("fields", "order"), [(Fields.TOP_FIRST, 2), (Fields.BOTTOM_FIRST, 3)])
def test_interlaced_video_keeps_its_fields(fields: Fields, order: int, tmp_path: Path) -> None:
    sent = _encode(tmp_path / "a.mp4", _shape(fields=fields))
    assert _decoded(tmp_path / "a.mp4") == sent
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
        assert container.streams.video[0].codec_context.field_order == order


def test_all_segments_of_a_video_have_the_same_headers(tmp_path: Path) -> None:
    shape = Shape(64, 48, SD, Fraction(10_007, 401))
    headers = set()
    for number, frames in enumerate((3, 17)):
        path = tmp_path / f"{number}.mp4"
        _encode(path, shape, frames, EncodeSettings(preset="ultrafast"))
        with av.open(str(path)) as container:
            headers.add(container.streams.video[0].codec_context.extradata)
    assert len(headers) == 1


@pytest.mark.parametrize(("bf", "delay"), [(0, 0), (1, 1), (2, 2), (3, 2), (8, 2)])
def test_the_reorder_delay_is_what_the_encoder_really_does(bf: int, delay: int, tmp_path: Path) -> None:
    settings = EncodeSettings(preset="veryfast", bf=bf)
    assert settings.delay == delay
    encoder = SegmentEncoder(tmp_path / "a.mp4", _shape(), settings)
    base = _planes(0, 64, 48)
    for number in range(40):
        base.y[:] = np.roll(base.y, 1, axis=1) // 2 + number
        encoder.add(base) if number >= 0 else None
    encoder.finish()
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [packet.pts or 0 for packet in container.demux(video=0) if packet.size]
    rank = {pts: number for number, pts in enumerate(sorted(shown))}
    # Packet j may be decoded when frame j - delay is shown, and not a frame later.
    assert all(rank[pts] >= place - delay for place, pts in enumerate(shown))


def test_digests_do_not_depend_on_where_they_were_split() -> None:
    proofs = [PlaneProof(), PlaneProof()]
    for number in range(6):
        proofs[number // 4].add(_planes(number, 32, 16))
    joined = b"".join(proof.data() for proof in proofs)
    whole = PlaneProof()
    for number in range(6):
        whole.add(_planes(number, 32, 16))
    assert running_digest(split_digests(joined)) == whole.running()
    with pytest.raises(ValueError, match="whole number"):
        split_digests(joined[:-1])
