"""From the model's small mattes to an alpha at the size of the frame.

Two steps. In time: a matte is mixed with its neighbours, the unsure parts leaning on frames that were sure; finite and
symmetric, so that a frame's matte does not depend on where a segment begins. In space: the matte follows the
picture's own edges where the model was unsure, and sure areas are returned as 0 or 255 exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Alpha, Alpha8, Plane
from services.common.shrinking import shrink
from services.compositor.tiles import TILE_PX, Tiles, reach

RADIUS_FRAMES = 2
"""R: a frame's matte takes in so many frames before it and after it."""

_REACH = np.array([1.0, 0.6, 0.35], np.float32)
"""What a neighbour counts by its distance in frames. Wider windows draw trails behind quick hands at 25 fps."""

_LEAST_TRUST = 0.05
"""What an undecided pixel counts: not nothing, or five undecided frames would give 0/0."""

GUIDE_WIDTH_PX = 640
"""Most columns at which edges are looked for. The model sees 256; more than 640 shows grain and costs the square."""

_EDGE_EPS = 6.5
"""Variance of luma (in squared levels) below which an edge is noise; 1e-4 for luma in [0, 1]."""

_UNSURE = 128
"""The verdict on a pixel that the matte says neither 0 nor 1 of."""

_RADIUS_SHARE = 1 / 80
"""Window of the guided filter as a share of the guide's width: about the breadth of the model's soft edge."""


@dataclass(frozen=True, slots=True)
class EdgeBand:
    """Where a matte is unsure, and how it is stretched.

    Attributes:
        low, high: alpha in (low, high) is unsure; the rest is 0 or 1.
        black, white: refined alpha at or below `black` becomes 0, at or above `white` 1. The model's mattes hang
            over the person by some pixels, hence not symmetric round one half.
    """

    low: float = 0.03
    high: float = 0.97
    black: float = 0.15
    white: float = 0.75


def temporal_filter(raw: NDArray[np.uint8], *, centre: int | None = None) -> Alpha:
    """Mix a matte with its neighbours in time, each pixel by how sure the model was of it.

    A pixel of which the centre frame is sure stays nearly as it is; one it is not sure of takes the mean of those
    that are. A neighbour that contradicts a sure centre shows movement, not noise, and counts little.

    Args:
        raw: (n, h, w) uint8, the mattes of neighbouring frames in order, n at most 2 R + 1; fewer at the ends of the
            video and beside cuts, where there is no neighbour.
        centre: which of them is asked for; the middle one if not said.

    Returns:
        (h, w) float32 in [0, 1].
    """
    if centre is None:
        centre = len(raw) // 2
    # Its own comes first, and they are added up in this order. All of them in each step: many small calls, each of
    # which gives up the GIL and asks for it back, cost more than the arithmetic.
    beside = [number for number in range(len(raw)) if 0 < abs(number - centre) <= RADIUS_FRAMES]
    reach = _REACH[[0, *(abs(number - centre) for number in beside)]]
    near = raw[[centre, *beside]]
    # What all of them are sure of stays as it is. The rest of one talking head is a fortieth.
    is_foreground = near.min(axis=0) == 255
    is_open = (near.max(axis=0) != 0) & ~is_foreground
    filtered: Alpha = is_foreground.astype(np.float32)
    values = near[:, is_open].astype(np.float32)
    values *= np.float32(1 / 255)
    trust = np.abs(values - np.float32(0.5))
    trust *= 2
    trust *= trust
    agreement = np.abs(values - values[0])
    agreement *= -trust[0]
    agreement += 1
    trust += np.float32(_LEAST_TRUST)
    trust *= agreement
    trust *= reach[:, None]
    total = trust.sum(axis=0)
    trust *= values
    filtered[is_open] = trust.sum(axis=0) / total
    return filtered


def refine(alpha: Alpha, guide: Plane, *, band: EdgeBand = EdgeBand()) -> Alpha8:
    """Follow the picture's own edges where the matte is unsure of them.

    Guided filter (He, Sun, Tang 2013, eq. 5-8): the coefficients are estimated at 640 columns or fewer and applied to
    the full luma, only in the tiles that the unsure band touches.

    Args:
        alpha: (h, w) float32 in [0, 1], the foreground at the model's size, stretched over the whole frame.
        guide: (H, W) uint8, luma of the frame.
        band: where to look, and the stretch afterwards.

    Returns:
        (H, W) uint8; 0 and 255 exactly where the matte was sure.
    """
    height, width = guide.shape
    factor = max(1, math.ceil(width / GUIDE_WIDTH_PX))
    small_guide = shrink(guide, factor)
    coarse = _spread(alpha, frame=(width, height), factor=factor, size=small_guide.shape)
    verdict = np.asarray(cv2.LUT(coarse, _verdicts(band)), np.uint8)
    tiles = Tiles.of(_beside_none_other(verdict), tile_px=max(1, TILE_PX // factor))
    out = tiles.painted(scale=factor, size=(width, height))
    unsure = tiles.mixed(scale=factor, size=(width, height))
    if not unsure:
        return out

    # Only where it is needed: the means of means of a tile look so far beyond it.
    radius = max(4, round(small_guide.shape[1] * _RADIUS_SHARE))
    x0, y0, x1, y1 = reach(unsure, factor, 2 * radius + 2, coarse.shape)
    part = np.s_[y0:y1, x0:x1]
    slope, offset = _edge_coefficients(small_guide[part], coarse[part], radius)
    # The stretch is linear, so it goes into the coefficients. Sure pixels get slope 0.
    gain = 1 / (band.white - band.black)
    slope *= gain
    offset -= 255 * band.black
    offset *= gain
    is_unsure = (verdict[part] == _UNSURE).view(np.uint8)
    slope = np.asarray(cv2.copyTo(slope, is_unsure), np.float32)
    offset = np.asarray(cv2.copyTo(offset, is_unsure, verdict[part].astype(np.float32)), np.float32)
    for cells in unsure:
        here = cells.moved(-x0 * factor, -y0 * factor)
        refined = cells.of(guide).astype(np.float32)
        refined *= here.enlarged(slope, factor)
        cells.put(out, np.asarray(cv2.add(refined, here.enlarged(offset, factor), dtype=cv2.CV_8U), np.uint8))
    return out


def _verdicts(band: EdgeBand) -> NDArray[np.uint8]:
    """By alpha in 1/255: 0 or 255 where the matte is sure."""
    levels = np.arange(256)
    return np.select([levels <= band.low * 255, levels >= band.high * 255], [0, 255], _UNSURE).astype(np.uint8)


def _beside_none_other(verdict: Plane) -> Plane:
    """The verdict where all neighbours have the same: bilinear interpolation reaches one pixel further than a tile."""
    kernel = np.ones((3, 3), np.uint8)
    least, most = cv2.erode(verdict, kernel), cv2.dilate(verdict, kernel)
    reached = np.full_like(verdict, _UNSURE)
    cv2.copyTo(least, np.equal(least, most).view(np.uint8), reached)
    return reached


def _spread(alpha: Alpha, *, frame: tuple[int, int], factor: int, size: tuple[int, ...]) -> Plane:
    """The model's matte at the guide's size, in 1/255. A guide that was padded covers more than the frame."""
    across = alpha.shape[1] * factor / frame[0]
    down = alpha.shape[0] * factor / frame[1]
    # From guide pixel to matte pixel, both counted from the centre of their first pixel.
    affine = np.array([[across, 0, 0.5 * across - 0.5], [0, down, 0.5 * down - 0.5]])
    coarse = np.asarray(cv2.convertScaleAbs(alpha, alpha=255))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(coarse, affine, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _edge_coefficients(guide: Plane, coarse: Plane, radius: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slope and offset such that alpha = slope * luma + offset, each (h, w) float32, in levels."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(image: NDArray[np.integer[Any] | np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray(cv2.boxFilter(image, cv2.CV_32F, window, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_alpha = mean(guide), mean(coarse)
    slope = mean(guide * coarse.astype(np.uint16))
    slope -= mean_guide * mean_alpha
    variance = np.asarray(cv2.sqrBoxFilter(guide, cv2.CV_32F, window, borderType=cv2.BORDER_REFLECT), np.float32)
    variance -= mean_guide * mean_guide
    variance += _EDGE_EPS
    slope /= variance
    mean_guide *= slope
    mean_alpha -= mean_guide
    return mean(slope), mean(mean_alpha)
