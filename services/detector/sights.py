"""What one look at one frame gives: a face as its landmarks, and boxes made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import MESH_POINTS
from services.common.arrays import Points

Box: TypeAlias = NDArray[np.float32]
"""(4,) float32: x0, y0, x1, y1 in pixels of the frame, half-open."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One face in one frame.

    Attributes:
        points: (478, 3) float32, pixels of the frame with centres at +0.5.
        score: in [0, 1], how sure the landmark net is that this is a face.
        sharpness: variance of the Laplacian of the landmark crop, in squared 8-bit units.
        box: of the mesh; irises lie within. Kept, because a followed face is asked for it five times a frame.
    """

    points: Points
    score: float
    sharpness: float
    box: Box = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", box_of(self.points))


def box_of(points: NDArray[np.floating[Any]]) -> Box:
    """(4,) float32: the tight box of a face's mesh."""
    # Rows of one coordinate each: reducing along a long axis is ten times as fast as across a short one.
    plane = np.ascontiguousarray(points[:MESH_POINTS, :2].T)
    return np.concatenate([plane.min(axis=1), plane.max(axis=1)]).astype(np.float32)


def iou(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Intersection over union of every box with every other.

    Args:
        a: (n, 4) boxes.
        b: (m, 4) boxes.

    Returns:
        (n, m) float64 in [0, 1]; boxes without area meet nothing.
    """
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.prod(np.clip(sides, 0, None), axis=-1)
    areas = [np.prod(np.clip(box[..., 2:] - box[..., :2], 0, None), axis=-1) for box in (first, second)]
    union = areas[0] + areas[1] - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def meets(box: Box, others: list[Box], *, at_least: float) -> bool:
    """Whether a box overlaps any of the others by that much."""
    return bool(others) and float(iou(box[None], np.stack(others)).max()) >= at_least
