"""Landmarks smoothed with knowledge of the future: no lag, steady where a face is still, faithful where it moves.

A symmetric, finite filter. Each pair of frames at the same distance before and after is trusted as far as its mean lies
where the frame itself lies: a constant motion passes unchanged whatever its speed, and what bends (a blink, a turn, a
plosive) is left alone. The pairs' trust falls with distance and never rises again, so nothing is mixed across a blink.
Eyes and mouth are judged by themselves and trusted less: a lid that is late is worse than a lid that trembles.

Every operation is a sum, product or quotient of single elements in a fixed order, so that a row's result does not
depend on how many other rows are smoothed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import (
    FACE_WIDTH,
    INNER_LIPS,
    LEFT_EYE,
    LEFT_LIDS,
    MESH_POINTS,
    OUTER_LIPS,
    RIGHT_EYE,
    RIGHT_LIDS,
    mesh_space,
)

RADIUS = 6
"""Frames on each side: a quarter of a second at 25 frames a second."""

NOSE_BASE = 2
"""The landmark under the nose: what lies below it moves with the jaw."""

_EVERY = 3
"""One in three landmarks of a region is enough to see how far it bends."""


@dataclass(frozen=True, slots=True)
class Region:
    """Landmarks that are smoothed together.

    Attributes:
        points: their indices.
        judged: indices of those by which it is seen how far the region bends.
        spread: standard deviation of the weights in frames.
        bend: deviation from even motion at which a pair's weight has fallen to a quarter, in face widths.
    """

    points: tuple[int, ...]
    judged: tuple[int, ...]
    spread: float
    bend: float


@lru_cache(maxsize=1)
def regions() -> tuple[Region, ...]:
    """The face in four: each eye with its lids and iris, the mouth with chin and jaw, and the rest.

    Spreads and bends were chosen on the shared talkers: landmarks tremble by 0.2 % of the face's width from frame to
    frame, a blink bends the lids by 3 to 6 %, speech the lips by 1 to 4 %.
    """
    right = (*RIGHT_EYE, *RIGHT_LIDS, *range(MESH_POINTS, MESH_POINTS + 5))
    left = (*LEFT_EYE, *LEFT_LIDS, *range(MESH_POINTS + 5, MESH_POINTS + 10))
    heights = mesh_space()[:, 1]
    below = [point for point in range(MESH_POINTS) if heights[point] > heights[NOSE_BASE]]
    mouth = tuple(sorted({*below, *INNER_LIPS, *OUTER_LIPS} - {*right, *left}))
    rest = tuple(point for point in range(MESH_POINTS) if point not in {*right, *left, *mouth})
    return (
        Region(rest, rest[::_EVERY], spread=2.0, bend=0.008),
        Region(right, (*RIGHT_EYE, *range(MESH_POINTS, MESH_POINTS + 5)), spread=1.2, bend=0.004),
        Region(left, (*LEFT_EYE, *range(MESH_POINTS + 5, MESH_POINTS + 10)), spread=1.2, bend=0.004),
        Region(mouth, (*INNER_LIPS, *OUTER_LIPS), spread=1.2, bend=0.005),
    )


def smooth(points: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Smooth one track's landmarks over consecutive frames.

    Args:
        points: (t, 478, 3) float32, pixels, one row a frame; rows that are not known are not looked at.
        known: (t,) bool, whether the track has the frame.

    Returns:
        (t, 478, 3) float32; rows that are not known are undefined. Rows nearer than RADIUS to either end are only
        right if the track ends there too.
    """
    out = np.empty_like(points)
    width = np.abs(points[:, FACE_WIDTH[1], 0] - points[:, FACE_WIDTH[0], 0])
    # In profile the ears fall together: the face's height stands in for its width.
    height = np.abs(points[:, 152, 1] - points[:, 10, 1])
    scale = np.maximum(np.maximum(width, height * np.float32(0.6)), np.float32(1))
    for region in regions():
        block = np.ascontiguousarray(points[:, region.points])
        judged = np.ascontiguousarray(points[:, region.judged, :2]).reshape(len(points), -1)
        out[:, region.points] = _smooth_region(block, judged, known, scale, region)
    return out


def _smooth_region(
    block: NDArray[np.float32],
    judged: NDArray[np.float32],
    known: NDArray[np.bool_],
    scale: NDArray[np.float32],
    region: Region,
) -> NDArray[np.float32]:
    total = block.copy()
    weights = np.ones(len(block), np.float32)
    trust = np.ones(len(block), np.float32)
    for distance in range(1, min(RADIUS, (len(block) - 1) // 2) + 1):
        inner = slice(distance, len(block) - distance)
        before, after = slice(0, len(block) - 2 * distance), slice(2 * distance, len(block))
        is_pair = known[before] & known[after]
        off = (judged[before] + judged[after]) * np.float32(0.5) - judged[inner]
        bend = np.sqrt((off * off).mean(axis=1)) / (scale[inner] * np.float32(region.bend))
        agreement = np.where(is_pair, np.float32(1) / (1 + bend * bend) ** 2, np.float32(0))
        # Frames too near an end for a pair at this distance have none farther out either.
        narrowed = np.zeros(len(block), np.float32)
        narrowed[inner] = np.minimum(trust[inner], agreement)
        trust = narrowed
        weight = trust * np.float32(np.exp(-0.5 * (distance / region.spread) ** 2))
        pair = (block[before] + block[after]) * weight[inner, None, None]
        total[inner] += np.where(is_pair[:, None, None], pair, np.float32(0))
        weights += 2 * weight
    total /= weights[:, None, None]
    return total


def bridge(points: NDArray[np.float32], seen: NDArray[np.bool_], *, most_gap: int) -> NDArray[np.bool_]:
    """Fill gaps between sights by even motion, in place.

    Args:
        points: (t, 478, 3) float32, rows in gaps are overwritten.
        seen: (t,) bool, whether the row is a sight.
        most_gap: frames of the longest gap that is filled.

    Returns:
        (t,) bool: which rows are known now.
    """
    known = seen.copy()
    frames = np.flatnonzero(seen)
    for before, after in pairwise(frames):
        missing = np.arange(before + 1, after)
        if not 0 < len(missing) <= most_gap:
            continue
        share = ((missing - before) / (after - before)).astype(np.float32)[:, None, None]
        points[missing] = points[before] * (1 - share) + points[after] * share
        known[missing] = True
    return known


def fade_in_gaps(seen: NDArray[np.bool_], *, frames: int) -> NDArray[np.float32]:
    """(t,) float32 in [0, 1]: 1 on sights, falling to 0 over some frames away from the nearest.

    What hides a face from the net is mostly something in front of it: the longer, the surer the original shows.
    """
    nearest = np.full(len(seen), len(seen) + frames, np.int64)
    for direction in (slice(None), slice(None, None, -1)):
        far = len(seen) + frames
        view = nearest[direction]
        for place, is_seen in enumerate(seen[direction].tolist()):
            far = 0 if is_seen else far + 1
            view[place] = min(int(view[place]), far)
    share = np.clip(1 - nearest / np.float64(frames + 1), 0, 1)
    eased: NDArray[np.float32] = (share * share * (3 - 2 * share)).astype(np.float32)
    return eased
