"""Pictures that users give, opened with limits.

Pillow reads three formats and nothing else, and a picture's size is judged by its header, before a pixel of it is
unfolded. What comes out is upright RGB whatever the file held.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from services.common.arrays import Rgb
from services.common.errors import ImageLimitExceeded, NotAnImage

FORMATS = ("JPEG", "PNG", "WEBP")

# Pillow's own guard is a warning from the limit on and an error from twice the limit; for us it is an error at once.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    ZeroDivisionError,
)
"""What Pillow's parsers were seen to raise on damaged files."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is opened.

    Attributes:
        most_bytes: of the file.
        most_pixels: width times height; 40 megapixels unfold to 120 MB.
        least_side_px: below, nothing can be found in it.
    """

    most_bytes: int = 32 * 1024 * 1024
    most_pixels: int = 40_000_000
    least_side_px: int = 32


def open_picture(content: bytes, *, name: str, limits: ImageLimits = ImageLimits()) -> Rgb:
    """Decode a JPEG, PNG or WebP.

    Args:
        content: the file's bytes.
        name: as the user knows it, for errors.
        limits: what is opened.

    Returns:
        (h, w, 3) uint8, turned upright by its EXIF tag, transparency over middle grey.

    Raises:
        NotAnImage: another format, or damaged.
        ImageLimitExceeded: too many bytes, pixels or frames, or too small.
    """
    if len(content) > limits.most_bytes:
        raise ImageLimitExceeded(path=name, limit="bytes", value=len(content), most=limits.most_bytes)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, name, limits)
            upright = ImageOps.exif_transpose(image)
            return _rgb(upright)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageLimitExceeded(path=name, limit="pixels", most=limits.most_pixels) from error
    except _DAMAGED as error:
        raise NotAnImage(path=name, found=_kind(content)) from error


def _check_size(image: Image.Image, name: str, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.most_pixels:
        raise ImageLimitExceeded(path=name, limit="pixels", value=width * height, most=limits.most_pixels)
    if min(width, height) < limits.least_side_px:
        raise ImageLimitExceeded(
            path=name, limit="sides", value=f"{width}x{height}", remedy="use a larger picture of the face"
        )
    if getattr(image, "n_frames", 1) != 1:
        raise ImageLimitExceeded(path=name, limit="frames", most=1, remedy="use a picture that does not move")


def _rgb(image: Image.Image) -> Rgb:
    if image.mode.startswith("I"):  # 16 bits a sample: Pillow would clip instead of scaling
        luma = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(luma[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, layered)
    return np.array(image.convert("RGB"), np.uint8)


def _kind(content: bytes) -> str:
    """What a file looks like by its first bytes, for the error."""
    signatures = {b"\xff\xd8\xff": "a damaged JPEG", b"\x89PNG": "a damaged PNG", b"GIF8": "a GIF", b"%PDF": "a PDF"}
    for signature, kind in signatures.items():
        if content.startswith(signature):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "a damaged WebP"
    return "text" if content[:64].isascii() and content else "an unknown format"
