"""Patches and backgrounds into the planes of a frame, touching nothing that they do not cover.

The planes are never turned into RGB and back: a patch is brought into the planes' own space and mixed there, luma
sample by luma sample and chroma at half the size in its own rectangle on even coordinates. Where alpha is 0 not one
sample changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Affine, Alpha8, Plane, Rgb
from services.common.planes import Planes, rgb_to_yuv444
from services.common.shrinking import shrink
from services.compositor.tiles import TILE_PX, Cells, Tiles, reach

Image = NDArray[np.integer[Any] | np.floating[Any]]
"""What OpenCV's stubs say that its functions return; here always uint8."""

_SPILL_WIDTH_PX = 320
"""Columns at which the foreground's clean colour is estimated: it is smooth, and 320 of them cost 2 ms."""

_SPILL_WINDOW_SHARES = (1 / 10, 1 / 30)
"""Windows of that estimate as shares of its width: the first broader than any soft edge, the second than most."""

_LITTLE = np.float32(1 / 255)

_SURE_FOREGROUND = 254
"""Alpha from which a sample's colour is its own: less than one level shows through, so it may well round to the
source's sample, and then it must be that sample."""

_THROUGH = np.where(np.arange(256) < _SURE_FOREGROUND, 255 - np.arange(256), 0).astype(np.uint8)
"""By alpha, how much of what is behind shows through, in 1/255; nothing where the foreground is sure."""


def _identity() -> Affine:
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What covers a part of a frame.

    Attributes:
        rgb: (h, w, 3) uint8.
        alpha: (h, w) uint8, how much of the patch is seen, in 1/255.
        affine: (2, 3) float64 from the crop that was sent to the patch's own pixels; the identity for an engine that
            answers in the crop's coordinates.
    """

    rgb: Rgb
    alpha: Alpha8
    affine: Affine = field(default_factory=_identity)


def blend_patch(planes: Planes, patch: Patch, x0: int, y0: int) -> None:
    """Mix a patch into the planes in place.

    Args:
        planes: the frame; written to.
        patch: what covers it.
        x0: left edge of the crop that the patch belongs to, in pixels of the frame; a crop may reach beyond the frame.
        y0: top edge of that crop.
    """
    rgb, alpha = patch.rgb, patch.alpha
    if _only_shifts(patch.affine):
        x0, y0 = x0 - round(float(patch.affine[0, 2])), y0 - round(float(patch.affine[1, 2]))
    else:
        rgb, alpha, x0, y0 = _unwarped(patch, x0, y0)
    inside = _inside(planes, alpha, x0, y0)
    if inside is None:
        return
    left, top, right, bottom = inside
    rgb, alpha = _cut(rgb, alpha, (left - x0, top - y0, right - x0, bottom - y0))
    luma, blue, red = cv2.split(rgb_to_yuv444(rgb, planes.colour))
    _mix(planes.y[top:bottom, left:right], luma, alpha)
    half = (alpha.shape[1] // 2, alpha.shape[0] // 2)
    half_alpha = cv2.resize(alpha, half, interpolation=cv2.INTER_AREA)
    at = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
    _mix(planes.u[at], cv2.resize(blue, half, interpolation=cv2.INTER_AREA), half_alpha)
    _mix(planes.v[at], cv2.resize(red, half, interpolation=cv2.INTER_AREA), half_alpha)


def blend_background(planes: Planes, background: Planes, alpha: Alpha8) -> None:
    """Put a background behind the foreground, in place.

    Pixels of alpha 255 keep their samples, those of alpha 0 are copied from the background; between them the old
    background's light is taken out of the foreground's edge first, or it would wear a fringe of it.

    Args:
        planes: the frame; written to.
        background: of the frame's size and colour space.
        alpha: (H, W) uint8, how much of the frame stays.
    """
    if (background.width, background.height) != (planes.width, planes.height):
        raise ValueError("the background is not of the frame's size")
    # Even, so that chroma has a whole factor as well.
    factor = 2 * max(1, math.ceil(planes.width / (2 * _SPILL_WIDTH_PX)))
    tile_px = factor * max(1, round(TILE_PX / factor))
    mixed = Tiles.of(alpha, tile_px=tile_px).mixed()
    # Before the first sample is written: the colours of an edge are looked for beyond its own tile.
    spills = _spills(planes, alpha, factor, mixed) if mixed else []
    half_alpha = np.asarray(cv2.resize(alpha, planes.u.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    half_mixed = [cells.halved() for cells in mixed]
    layers = (
        (planes.y, background.y, alpha, mixed),
        (planes.u, background.u, half_alpha, half_mixed),
        (planes.v, background.v, half_alpha, half_mixed),
    )
    for number, (plane, behind, share, groups) in enumerate(layers):
        cv2.copyTo(behind, (share == 0).view(np.uint8), plane)
        for cells in groups:
            _blend_cells(plane, behind, share, cells, spills[number])


def _blend_cells(plane: Plane, background: Plane, alpha: Alpha8, cells: Cells, spill: _Spill) -> None:
    """The tiles between foreground and background, all at once."""
    share = cells.of(alpha)
    change = cells.moved(-spill.x0, -spill.y0).enlarged(spill.levels, spill.factor)
    own = _cleaned(cells.of(plane), change, cv2.LUT(share, _THROUGH))
    mixed = cells.of(background)
    _mix(mixed, own, share)
    cells.put(plane, mixed)


def _mix(plane: Plane, over: Image, alpha: Image) -> None:
    """plane += (over - plane) * alpha / 255, rounded once; exact at alpha 0 and 255."""
    difference = cv2.subtract(over, plane, dtype=cv2.CV_16S)
    # Of one type: OpenCV multiplies numbers of two types seven times slower.
    difference = cv2.multiply(difference, alpha.astype(np.int16), scale=1 / 255)
    cv2.add(plane, difference, dst=plane, dtype=cv2.CV_8U)


def _cleaned(plane: Plane, spill: NDArray[np.int16], through: Image) -> Plane:
    """The samples without the old background's light: as much of the spill is taken out as shows through.

    Each sample is corrected by its own alpha. A correction that is interpolated as a whole reaches from an open edge
    into the sure pixels beside it.
    """
    change = cv2.multiply(spill, through.astype(np.int16), scale=1 / 255)
    return np.asarray(cv2.add(plane, change, dtype=cv2.CV_8U), np.uint8)


def _inside(planes: Planes, alpha: Alpha8, x0: int, y0: int) -> tuple[int, int, int, int] | None:
    """The rectangle of the frame, on even coordinates, that holds all of the patch that is seen."""
    left, top, width, height = cv2.boundingRect(alpha)
    right, bottom = min(left + width + x0, planes.width), min(top + height + y0, planes.height)
    left, top = max(left + x0, 0), max(top + y0, 0)
    if left >= right or top >= bottom:
        return None
    # The frame's sides are even: rounding outwards stays inside.
    return left & ~1, top & ~1, right + right % 2, bottom + bottom % 2


def _cut(rgb: Rgb, alpha: Alpha8, box: tuple[int, int, int, int]) -> tuple[Rgb, Alpha8]:
    """The part of a patch in a box that may reach one pixel beyond it: there alpha is 0."""
    left, top, right, bottom = box
    height, width = alpha.shape
    margins = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    part = np.s_[max(top, 0) : bottom, max(left, 0) : right]
    rgb, alpha = rgb[part], alpha[part]
    if any(margins):
        rgb = np.asarray(cv2.copyMakeBorder(rgb, *margins, cv2.BORDER_REPLICATE), np.uint8)
        alpha = np.asarray(cv2.copyMakeBorder(alpha, *margins, cv2.BORDER_CONSTANT, value=0), np.uint8)
    return rgb, alpha


def _only_shifts(affine: Affine) -> bool:
    """Whether the map moves by whole pixels and does nothing else, so that no pixel needs to be resampled."""
    return bool(np.array_equal(affine[:, :2], np.eye(2)) and np.array_equal(affine[:, 2], np.rint(affine[:, 2])))


def _unwarped(patch: Patch, x0: int, y0: int) -> tuple[Rgb, Alpha8, int, int]:
    """A patch in its own coordinates, resampled into the frame's, with its new place there."""
    height, width = patch.alpha.shape
    linear, shift = patch.affine[:, :2], patch.affine[:, 2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    reach = (corners - shift) @ np.linalg.inv(linear).T
    low, high = np.floor(reach.min(axis=0)).astype(int), np.ceil(reach.max(axis=0)).astype(int)
    # To pixel centres at integers, counted from `low`.
    to_patch = np.column_stack([linear, shift + linear @ (low + 0.5) - 0.5])
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    rgb = cv2.warpAffine(patch.rgb, to_patch, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(patch.alpha, to_patch, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(rgb, np.uint8), np.asarray(alpha, np.uint8), x0 + int(low[0]), y0 + int(low[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Spill:
    """For a part of one plane, what is to be added to a sample, times 1 - alpha, to show the foreground alone.

    Attributes:
        levels: (h, w) int16, one for `factor` x `factor` samples.
        factor: how much larger the plane is.
        x0, y0: where the part begins, in samples of the plane.
    """

    levels: NDArray[np.int16]
    factor: int
    x0: int
    y0: int


def _spills(planes: Planes, alpha: Alpha8, factor: int, mixed: Sequence[Cells]) -> list[_Spill]:
    """The spill of Y, U and V around the tiles that need it.

    Blur fusion in two passes (Forte 2021, "Approximate fast foreground colour estimation"): local means of foreground
    and background under the matte, corrected by what they do not explain; the first pass looks far enough to find
    both colours, the second stays near. With those means F and B, a sample I = alpha F + (1 - alpha) B + rest has the
    clean colour F + alpha rest, which lies (1 - alpha)(F - B - rest) from I. The factor 1 - alpha is left out here
    and taken at the frame's own size, where it is 0 in every sure sample.
    """
    opacity = shrink(alpha, factor)
    windows = [2 * (max(5, round(opacity.shape[1] * part)) // 2) + 1 for part in _SPILL_WINDOW_SHARES]
    x0, y0, x1, y1 = reach(mixed, factor, sum(window // 2 for window in windows) + 1, opacity.shape)
    share = opacity[y0:y1, x0:x1].astype(np.float32)
    share *= np.float32(1 / 255)
    through = 1 - share
    scales = (factor, factor // 2, factor // 2)
    smalls = [
        shrink(plane, scale)[y0:y1, x0:x1] for plane, scale in zip((planes.y, planes.u, planes.v), scales, strict=True)
    ]
    # The three planes as one stack: each small call gives up the GIL and asks for it back.
    own = np.stack(smalls).astype(np.float32)
    front, back = own, own
    for window in windows:
        if front is not own:
            # What the wide means did not explain is the foreground's, as far as it is the foreground.
            front += share * _rest(own, front, back, share)
        covered = np.asarray(cv2.blur(share, (window, window), borderType=cv2.BORDER_REFLECT), np.float32)
        front = _local_colour(front, share, covered, window)
        back = _local_colour(back, through, 1 - covered, window)
    spill = front - back
    spill -= _rest(own, front, back, share)
    levels = np.rint(spill, out=spill).astype(np.int16)
    return [_Spill(one, scale, x0 * scale, y0 * scale) for one, scale in zip(levels, scales, strict=True)]


def _rest(
    own: NDArray[np.float32], front: NDArray[np.float32], back: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What foreground and background under the matte do not explain."""
    explained = front - back
    explained *= share
    explained += back
    np.subtract(own, explained, out=explained)
    return explained


def _local_colour(
    colours: NDArray[np.float32], share: NDArray[np.float32], share_nearby: NDArray[np.float32], window: int
) -> NDArray[np.float32]:
    """Means of a stack of planes over a window, each pixel by its share.

    The constant keeps a mean at the pixel's own colour where there is nothing of its side nearby.
    """
    weighted = colours * share
    found = np.empty_like(colours)
    for plane, mean in zip(weighted, found, strict=True):
        cv2.blur(plane, (window, window), dst=mean, borderType=cv2.BORDER_REFLECT)
    found += np.multiply(colours, _LITTLE, out=weighted)
    found *= 1 / (share_nearby + _LITTLE)
    return found
