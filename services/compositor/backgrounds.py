"""What is put behind the foreground: a picture, a colour, or the frame itself, blurred.

All of them come out as planes of the target's size, in the target's colour space, so that blending is one operation.
"""

from __future__ import annotations

import io
import math
import warnings
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from services.common.arrays import Alpha8, Plane, Rgb
from services.common.colour import ColourTags, rgb_to_yuv_matrix
from services.common.errors import ImageLimitExceeded, NotAnImage
from services.common.planes import Planes, rgb_to_planes

MAX_PIXELS: Final = 64_000_000
"""Largest picture that is decoded: 192 MB of RGB, beyond any camera's need for a background."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest file that is opened at all."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP")

DEFAULT_BLUR: Final = 0.02
"""Standard deviation of the blur as a share of the width: shapes stay, letters and faces go."""

_BLUR_WIDTH_PX: Final = 160
"""Columns at which the blur is made. It leaves nothing finer than that, and 160 of them cost 0.3 ms."""


def read_picture(data: bytes, *, name: str = "the background") -> Rgb:
    """Decode a picture that somebody sent: JPEG, PNG or WebP, upright, its transparent parts on black.

    Raises:
        NotAnImage: it cannot be read as one of these.
        ImageLimitExceeded: it is too large to be opened.
    """
    if len(data) > MAX_BYTES:
        raise ImageLimitExceeded(path=name, limit="bytes", value=len(data), most=MAX_BYTES)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures by a limit of its own; ours is checked below, before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ImageLimitExceeded(
                        path=name, limit="pixels", value=picture.width * picture.height, most=MAX_PIXELS
                    )
                upright = ImageOps.exif_transpose(picture)
                return np.asarray(_flattened(upright), np.uint8)
    except Image.DecompressionBombError as error:
        raise ImageLimitExceeded(path=name, limit="pixels", most=MAX_PIXELS) from error
    except UnidentifiedImageError as error:
        raise NotAnImage(path=name) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's decoders answer damage with any of these.
        raise NotAnImage(path=name, found=f"a damaged picture: {error}") from error


def _flattened(picture: Image.Image) -> Image.Image:
    if picture.has_transparency_data:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def cover(rgb: Rgb, *, width: int, height: int) -> Rgb:
    """Scale a picture until it covers the target, and cut what hangs over evenly on both sides.

    The cut comes first: of a panorama only the part that is seen is resampled.
    """
    source_height, source_width = rgb.shape[:2]
    scale = max(width / source_width, height / source_height)
    cut_width = min(source_width, max(1, round(width / scale)))
    cut_height = min(source_height, max(1, round(height / scale)))
    left, top = (source_width - cut_width) // 2, (source_height - cut_height) // 2
    part = rgb[top : top + cut_height, left : left + cut_width]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), np.uint8)


def picture_background(rgb: Rgb, *, width: int, height: int, colour: ColourTags) -> Planes:
    """A picture as planes of the target's size and colour space, cropped to cover."""
    return rgb_to_planes(cover(rgb, width=width, height=height), colour)


def colour_background(rgb: int, *, width: int, height: int, colour: ColourTags) -> Planes:
    """One colour, given as 0xRRGGBB, as planes."""
    red, green, blue = rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255
    matrix = rgb_to_yuv_matrix(colour)
    y, u, v = np.clip(np.rint(matrix[:, :3] @ [red, green, blue] + matrix[:, 3]), 0, 255).astype(int)
    planes = Planes.empty(width, height, colour)
    planes.y[:] = y
    planes.u[:] = u
    planes.v[:] = v
    return planes


def blurred_background(planes: Planes, alpha: Alpha8, *, blur: float = 0.0) -> Planes:
    """The frame's own background, blurred, without the light of the foreground in it.

    Each pixel is the mean of the background pixels nearby, so that the person does not glow into what is behind.

    Args:
        planes: the frame.
        alpha: (H, W) uint8, the foreground.
        blur: standard deviation as a share of the width; 0 means 1/50.

    Returns:
        Planes of the same size and colour space, their own memory.
    """
    width, height = planes.width, planes.height
    small_width = min(width // 2, _BLUR_WIDTH_PX)
    size = (small_width, max(1, round(height * small_width / width)))
    # A blur finer than a small pixel could not be made at this size.
    sigma = max((blur or DEFAULT_BLUR) * small_width, 0.8)
    behind = 255 - cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # Hardly any background is better than none: it decides alone only where there is no other far and wide.
    behind += 0.5
    total = _gauss(behind, sigma)
    out = Planes.empty(width, height, planes.colour)
    for source, target in ((planes.y, out.y), (planes.u, out.u), (planes.v, out.v)):
        light = cv2.resize(source, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        light *= behind
        mean = _gauss(light, sigma)
        mean /= total
        _enlarged_into(target, np.rint(mean).astype(np.uint8))
    return out


def _gauss(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    radius = math.ceil(3 * sigma)
    kernel = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.GaussianBlur(image, kernel, sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _enlarged_into(target: Plane, small: Plane) -> None:
    cv2.resize(small, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_LINEAR)
