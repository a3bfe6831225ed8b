"""What is put behind: pictures of strangers, colours, and the frame itself."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from services.common.colour import ColourTags
from services.common.errors import ImageLimitExceeded, NotAnImage
from services.common.planes import rgb_to_planes, rgb_view
from services.compositor import backgrounds
from services.compositor.backgrounds import (
    blurred_background,
    colour_background,
    cover,
    picture_background,
    read_picture,
)
from tests.support.faces import scenery

BT601 = ColourTags(matrix=6, range=1, primaries=1, transfer=1)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_the_usual_kinds_are_read(kind: str) -> None:
    picture = Image.fromarray(scenery(40, 30))
    assert read_picture(encoded(picture, kind)).shape == (30, 40, 3)


def test_a_picture_comes_out_upright() -> None:
    picture = Image.fromarray(scenery(40, 30))
    exif = picture.getexif()
    exif[0x0112] = 6
    assert read_picture(encoded(picture, "JPEG", exif=exif)).shape == (40, 30, 3)


def test_what_is_transparent_becomes_black() -> None:
    picture = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert read_picture(encoded(picture)).max() == 0


@pytest.mark.parametrize("data", [b"", b"RIFF", b"%PDF-1.7", b"GIF89a" + bytes(20), b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_picture_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(NotAnImage, match=r"wall\.png"):
        read_picture(data, name="wall.png")


def test_a_truncated_picture_is_refused() -> None:
    whole = encoded(Image.fromarray(scenery(200, 150)))
    with pytest.raises(NotAnImage):
        read_picture(whole[: len(whole) // 2])


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageLimitExceeded):
        read_picture(data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


def test_a_file_beyond_the_limit_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backgrounds, "MAX_BYTES", 10)
    with pytest.raises(ImageLimitExceeded):
        read_picture(encoded(Image.fromarray(scenery(8, 8))))


@pytest.mark.parametrize(("width", "height"), [(100, 50), (50, 100), (400, 300), (3, 300)])
def test_a_cover_keeps_the_middle_and_the_proportions(width: int, height: int) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[50:70, 70:90] = 255
    covered = cover(picture, width=width, height=height)
    assert covered.shape == (height, width, 3)
    assert covered[height // 2, width // 2].min() > 200
    scale = max(width / 160, height / 120)
    if width > 20:
        lit = (covered[height // 2, :, 0] > 127).sum()
        assert lit == pytest.approx(20 * scale, abs=2)


def test_a_picture_becomes_planes_of_the_targets_colour() -> None:
    planes = picture_background(scenery(300, 200), width=64, height=48, colour=BT601)
    assert (planes.width, planes.height, planes.colour) == (64, 48, BT601)


def test_a_colour_is_that_colour() -> None:
    planes = colour_background(0x2060C0, width=16, height=16, colour=BT601)
    shown = rgb_view(planes, width=16, height=16)[0, 0]
    assert np.abs(shown.astype(int) - [0x20, 0x60, 0xC0]).max() <= 2


def test_the_person_does_not_glow_into_the_blurred_background() -> None:
    picture = np.full((120, 160, 3), 60, np.uint8)
    alpha = np.zeros((120, 160), np.uint8)
    alpha[30:, 50:110] = 255
    picture[30:, 50:110] = 250
    blurred = blurred_background(rgb_to_planes(picture, BT601), alpha, blur=0.05)
    quiet = rgb_to_planes(np.full((120, 160, 3), 60, np.uint8), BT601)
    outside = np.ones((120, 160), bool)
    outside[28:, 48:112] = False
    assert np.abs(blurred.y[outside].astype(int) - int(quiet.y[0, 0])).max() <= 6


def test_a_blur_takes_away_what_is_fine() -> None:
    checks = (np.indices((240, 320)).sum(axis=0) // 2 % 2 * 200).astype(np.uint8)
    blurred = blurred_background(rgb_to_planes(np.dstack([checks] * 3), BT601), np.zeros((240, 320), np.uint8))
    assert int(blurred.y.max()) - int(blurred.y.min()) < 10
