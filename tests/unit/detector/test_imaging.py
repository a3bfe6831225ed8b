"""Pictures from strangers: three formats, upright, with limits that are felt before memory is."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from services.common.errors import ImageLimitExceeded, NotAnImage
from services.detector.imaging import ImageLimits, open_picture

RGB = np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_png_and_lossless_webp_come_out_as_they_went_in() -> None:
    image = Image.fromarray(RGB)
    assert np.array_equal(open_picture(encoded(image, "PNG"), name="a.png"), RGB)
    assert np.array_equal(open_picture(encoded(image, "WEBP", lossless=True), name="a.webp"), RGB)


def test_a_jpeg_is_turned_upright_by_its_exif() -> None:
    image = Image.fromarray(np.repeat(np.arange(40, dtype=np.uint8)[None, :, None] * 6, 60, axis=0).repeat(3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = open_picture(encoded(image, "JPEG", exif=exif, quality=95), name="a.jpg")
    assert upright.shape == (40, 60, 3)
    assert upright[-1].mean() > upright[0].mean() + 100


def test_transparency_grey_palettes_and_16_bits_become_rgb() -> None:
    layered = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    assert np.all(open_picture(encoded(Image.fromarray(layered), "PNG"), name="a") == 128)
    assert open_picture(encoded(Image.fromarray(RGB).convert("P"), "PNG"), name="a").shape == RGB.shape
    deep = Image.fromarray(RGB[..., 0].astype(np.uint16) << 8)
    assert np.array_equal(open_picture(encoded(deep, "PNG"), name="a")[..., 1], RGB[..., 0])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(NotAnImage):
        open_picture(encoded(Image.fromarray(RGB), kind), name="a")


def test_damaged_pictures_are_a_typed_error_wherever_the_damage_is() -> None:
    rng = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "WEBP"):
        good = encoded(Image.fromarray(RGB), kind)
        for content in (b"", good[:20], good[: len(good) // 2], b"hello"):
            with pytest.raises(NotAnImage):
                open_picture(content, name="a")
        for _ in range(60):
            damaged = bytearray(good)
            for place in rng.integers(0, len(good), 3):
                damaged[place] = int(rng.integers(0, 256))
            try:
                open_picture(bytes(damaged), name="a")
            except (NotAnImage, ImageLimitExceeded):
                continue


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8000, 8000), (12000, 12000), (60000, 60000)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageLimitExceeded):
        open_picture(png_header(*size), name="bomb.png")


def test_too_many_bytes_too_few_pixels_and_moving_pictures_are_refused() -> None:
    content = encoded(Image.fromarray(RGB), "PNG")
    with pytest.raises(ImageLimitExceeded):
        open_picture(content, name="a", limits=ImageLimits(most_bytes=len(content) - 1))
    with pytest.raises(ImageLimitExceeded):
        open_picture(encoded(Image.fromarray(RGB[:10]), "PNG"), name="a")
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    with pytest.raises(ImageLimitExceeded, match="frames"):
        open_picture(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), name="a.webp")
