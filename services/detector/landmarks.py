"""Where the landmark net looks, and how what it answers comes back to the frame.

The net wants a square of 192 px with an upright face in it, 1.5 times as wide as the face. After a detection the square
is made of the detector's box and eyes, and again of the landmarks found in it (the detector's box is coarser); while a
face is followed it is made of the landmarks of the frame before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import LEFT_EYE, RIGHT_EYE
from services.common.arrays import Affine, Points
from services.detector.blazeface import Candidate
from services.detector.sights import Sight

CROP_PX = 192
"""Side of the landmark net's input."""

MARGIN = 1.5
"""Side of the square over the longer side of the face: what the net was trained with."""

PRESENT = 0.5
"""The net's own threshold on its presence output."""

LARGEST_SIDE_PX = 1 << 15
"""A region wider than any frame that we take: landmarks that say so have left the picture."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rotated square in the frame: centre and side in pixels, angle in radians, clockwise on the screen."""

    x: float
    y: float
    side: float
    angle: float

    @property
    def affine(self) -> Affine:
        """(2, 3) float64 from frame to crop, pixel centres at +0.5."""
        scale = CROP_PX / self.side
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        linear = np.array([[cos, sin], [-sin, cos]])
        offset = np.full(2, CROP_PX / 2) - linear @ np.array([self.x, self.y])
        return np.column_stack([linear, offset])

    @property
    def is_usable(self) -> bool:
        """Whether a crop can be made of it: finite, and neither a point nor larger than any frame."""
        numbers = (self.x, self.y, self.side, self.angle)
        return all(map(math.isfinite, numbers)) and 2.0 <= self.side <= LARGEST_SIDE_PX


def region_of_candidate(candidate: Candidate) -> Region:
    """Where to look for the landmarks of a detected face."""
    first, second = candidate.keypoints[0], candidate.keypoints[1]
    return _region(candidate.box.reshape(2, 2), first, second)


def region_of_sight(sight: Sight) -> Region:
    """Where to look for a face whose landmarks are known, in this frame or in the one before."""
    return _region(sight.box.reshape(2, 2), sight.points[RIGHT_EYE[0], :2], sight.points[LEFT_EYE[0], :2])


def points_in_frame(points: NDArray[np.float32], region: Region) -> Points:
    """Landmarks from pixels of the crop to pixels of the frame; depth is scaled alike.

    The net counts from the crop's edge, as we do, so no half pixel is lost or gained.

    Args:
        points: (478, 3) float32, pixels of the crop.
        region: the crop's place.
    """
    scale = region.side / CROP_PX
    cos, sin = math.cos(region.angle) * scale, math.sin(region.angle) * scale
    x, y, z = np.ascontiguousarray(points.T, np.float64)
    x, y = x - CROP_PX / 2, y - CROP_PX / 2
    placed = np.stack([cos * x - sin * y + region.x, sin * x + cos * y + region.y, z * scale], axis=1)
    return placed.astype(np.float32)


def _region(extent: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]) -> Region:
    low, high = extent.astype(np.float64)
    centre = (low + high) / 2
    across, down = (second - first).astype(np.float64)
    return Region(
        x=float(centre[0]),
        y=float(centre[1]),
        side=float((high - low).max() * MARGIN),
        angle=math.atan2(down, across),
    )
