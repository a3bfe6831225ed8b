"""Full frames as the decoder's own planes, and the RGB views and crops made of them.

Chroma is taken as centred: a chroma sample lies in the middle of its four luma samples, at +0.5 of its own half-size
grid. Then one affine map serves all planes after a scaling by two, and up- and downsampling are each other's mirror:
what leaves as RGB and comes back has not moved. Files of the MPEG-2 and H.264 default put chroma half a luma pixel
further left; since the same reading is used both ways, this shows only as that half pixel between luma and chroma
inside new content, and never as a shift of the old.

All arithmetic on pixels is OpenCV's fixed point on uint8: the same input gives the same bytes whatever else is asked
for, and with any number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import xxhash
from numpy.typing import NDArray

from services.common.arrays import Affine, Plane, Rgb
from services.common.colour import ColourTags, rgb_to_yuv_matrix, yuv_to_rgb_matrix
from services.common.shrinking import shrink_at_once

PixelBuffer: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]
"""Memory in which a packed frame may lie."""

CHROMA_MARGIN = 1
"""Chroma samples looked at beyond a crop: bilinear doubling reaches one neighbour."""


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """One 8-bit 4:2:0 frame: views on memory that somebody else may own.

    Attributes:
        y: (H, W) uint8, H and W even.
        u: (H/2, W/2) uint8, Cb.
        v: (H/2, W/2) uint8, Cr.
        colour: resolved tags.
    """

    y: Plane
    u: Plane
    v: Plane
    colour: ColourTags

    def __post_init__(self) -> None:
        height, width = self.y.shape
        if height % 2 or width % 2 or not height or not width:
            raise ValueError(f"planes of 4:2:0 need even sides, not {width}x{height}")
        if self.u.shape != (height // 2, width // 2) or self.v.shape != self.u.shape:
            raise ValueError(f"chroma planes {self.u.shape}, {self.v.shape} do not belong to luma {self.y.shape}")
        if any(plane.dtype != np.uint8 for plane in (self.y, self.u, self.v)):
            raise ValueError("planes hold uint8")

    @property
    def width(self) -> int:
        """Luma samples in a row."""
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        """Rows of luma."""
        return int(self.y.shape[0])

    @classmethod
    def view(cls, buffer: PixelBuffer, width: int, height: int, colour: ColourTags) -> Planes:
        """Read a buffer as packed I420 (Y, then U, then V) without a copy; writable if the buffer is."""
        luma, chroma = width * height, (width // 2) * (height // 2)
        samples = np.frombuffer(buffer, np.uint8, count=planes_nbytes(width, height))
        return cls(
            y=samples[:luma].reshape(height, width),
            u=samples[luma : luma + chroma].reshape(height // 2, width // 2),
            v=samples[luma + chroma :].reshape(height // 2, width // 2),
            colour=colour,
        )

    @classmethod
    def empty(cls, width: int, height: int, colour: ColourTags) -> Planes:
        """Planes of their own memory, not yet written."""
        return cls.view(bytearray(planes_nbytes(width, height)), width, height, colour)


def planes_nbytes(width: int, height: int) -> int:
    """Bytes of one packed frame."""
    if width <= 0 or height <= 0 or width % 2 or height % 2:
        raise ValueError(f"planes of 4:2:0 need even sides, not {width}x{height}")
    return width * height * 3 // 2


def copy_planes(source: Planes, out: Planes) -> None:
    """Write every sample of `source` into `out`, which has the same size; tags are not touched."""
    np.copyto(out.y, source.y)
    np.copyto(out.u, source.u)
    np.copyto(out.v, source.v)


def digest(planes: Planes) -> bytes:
    """xxh3-128 of the visible samples of Y, U and V, rows without padding: 16 bytes."""
    state = xxhash.xxh3_128()
    for plane in (planes.y, planes.u, planes.v):
        state.update(np.ascontiguousarray(plane).data)
    return state.digest()


def rgb_view(planes: Planes, *, width: int, height: int) -> Rgb:
    """The whole frame stretched to a size, for models that look at all of it.

    Each plane is resampled by area before the matrix: shrinking three planes of 8 bits costs a third of shrinking RGB.

    Returns:
        (height, width, 3) uint8.
    """
    y, u, v = (_resize(plane, width, height) for plane in (planes.y, planes.u, planes.v))
    return _to_rgb(y, u, v, planes.colour)


def rgb_crop(planes: Planes, box: tuple[int, int, int, int]) -> Rgb:
    """A rectangle at native scale, chroma doubled bilinearly.

    Chroma is doubled with its neighbours outside the box, so that a crop equals the same part of the whole frame.

    Args:
        planes: the frame.
        box: x0, y0, x1, y1 in pixels, half-open, inside the frame, x0 and y0 even.

    Returns:
        (y1 - y0, x1 - x0, 3) uint8.
    """
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= planes.width and 0 <= y0 < y1 <= planes.height) or x0 % 2 or y0 % 2:
        raise ValueError(f"box {box} is not inside {planes.width}x{planes.height} with an even corner")
    left, top = max(0, x0 // 2 - CHROMA_MARGIN), max(0, y0 // 2 - CHROMA_MARGIN)
    right = min(planes.width // 2, (x1 + 1) // 2 + CHROMA_MARGIN)
    bottom = min(planes.height // 2, (y1 + 1) // 2 + CHROMA_MARGIN)
    within = np.s_[y0 - 2 * top : y1 - 2 * top, x0 - 2 * left : x1 - 2 * left]
    doubled_size = (2 * (right - left), 2 * (bottom - top))
    u, v = (
        np.asarray(cv2.resize(plane[top:bottom, left:right], doubled_size, interpolation=cv2.INTER_LINEAR), np.uint8)[
            within
        ]
        for plane in (planes.u, planes.v)
    )
    return _to_rgb(planes.y[y0:y1, x0:x1], u, v, planes.colour)


def rgb_warp(planes: Planes, affine: Affine, *, width: int, height: int) -> Rgb:
    """A rotated, scaled or letterboxed part of the frame, bilinear; beyond the frame its border is repeated.

    Args:
        planes: the frame.
        affine: (2, 3) from frame to crop, pixel centres at +0.5.
        width: of the crop, pixels.
        height: of the crop, pixels.

    Returns:
        (height, width, 3) uint8.
    """
    # A chroma coordinate is half a luma coordinate (centred siting), so the same map reads it after doubling.
    chroma_affine = np.column_stack([2.0 * affine[:, :2], affine[:, 2]])
    y = _warp_plane(planes.y, affine, width, height)
    u = _warp_plane(planes.u, chroma_affine, width, height)
    v = _warp_plane(planes.v, chroma_affine, width, height)
    return _to_rgb(y, u, v, planes.colour)


def rgb_to_yuv444(rgb: Rgb, colour: ColourTags) -> NDArray[np.uint8]:
    """(h, w, 3) R, G, B to (h, w, 3) Y, Cb, Cr of the same size, within 1 of the exact formula."""
    return np.asarray(cv2.transform(rgb, rgb_to_yuv_matrix(colour)), np.uint8)


def rgb_to_planes(rgb: Rgb, colour: ColourTags) -> Planes:
    """A picture of even sides as planes of its own memory; chroma is the mean of its four pixels."""
    height, width = rgb.shape[:2]
    planes = Planes.empty(width, height, colour)
    y, u, v = cv2.split(rgb_to_yuv444(rgb, colour))
    np.copyto(planes.y, y)
    half = (width // 2, height // 2)
    cv2.resize(u, half, dst=planes.u, interpolation=cv2.INTER_AREA)
    cv2.resize(v, half, dst=planes.v, interpolation=cv2.INTER_AREA)
    return planes


def _to_rgb(y: Plane, u: Plane, v: Plane, colour: ColourTags) -> Rgb:
    """Three planes of one size through the colour matrix (OpenCV keeps 10 bits of each coefficient)."""
    return np.asarray(cv2.transform(cv2.merge([y, u, v]), yuv_to_rgb_matrix(colour)), np.uint8)


def _resize(plane: Plane, width: int, height: int) -> Plane:
    """Mean over areas where a side shrinks, bilinear where it grows (area means would repeat samples in blocks)."""
    shrunk = (min(width, plane.shape[1]), min(height, plane.shape[0]))
    if shrunk != plane.shape[::-1]:
        plane = np.asarray(cv2.resize(plane, shrunk, interpolation=cv2.INTER_AREA), np.uint8)
    if shrunk != (width, height):
        plane = np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return plane


def _warp_plane(plane: Plane, affine: Affine, width: int, height: int) -> Plane:
    """One plane through an affine map.

    Bilinear sampling looks at four samples however far apart the crop's pixels fall, so a plane that is to become less
    than half as large is first shrunk by the whole factor below that scale, and only where the crop looks.
    """
    # Pixels of the plane under one pixel of the crop, in the mean of both directions.
    step = 1.0 / math.sqrt(max(abs(float(np.linalg.det(affine[:, :2]))), 1e-12))
    factor = max(1, min(int(step + 1e-6), *plane.shape))
    x0, y0, x1, y1 = _footprint(affine, width, height, plane.shape, margin=2 * factor, grid=factor)
    region = plane[y0:y1, x0:x1]
    if factor > 1:
        region = shrink_at_once(region, factor)
    # Crop coordinates from region coordinates: p_plane = factor * p_region + (x0, y0).
    scaled = factor * affine[:, :2]
    translation = affine[:, 2] + affine[:, :2] @ np.array([x0, y0], np.float64)
    # OpenCV puts pixel centres at integers, we at +0.5.
    translation = translation + scaled @ np.array([0.5, 0.5]) - 0.5
    warped = cv2.warpAffine(
        region,
        np.column_stack([scaled, translation]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(warped, np.uint8)


def _footprint(
    affine: Affine, width: int, height: int, shape: tuple[int, ...], *, margin: int, grid: int
) -> tuple[int, int, int, int]:
    """The box of a plane that a crop looks at, clipped to the plane, its corner on a grid; never empty.

    Where the crop reaches beyond the plane, the box ends at the plane's border, so repeating the box's border is
    repeating the plane's.
    """
    corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
    inside = (corners - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    low = np.floor(inside.min(axis=0)) - margin
    high = np.ceil(inside.max(axis=0)) + margin
    bounds = []
    for axis, length in ((0, shape[1]), (1, shape[0])):
        start = int(min(max(low[axis], 0), length - 1)) // grid * grid
        stop = int(max(min(high[axis], length), start + 1))
        bounds.append((start, min(length, start + -(-(stop - start) // grid) * grid)))
    (x0, x1), (y0, y1) = bounds
    return x0, y0, x1, y1
