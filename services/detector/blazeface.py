"""BlazeFace (Bazarevsky et al. 2019): candidates for faces in a whole frame.

Two nets look at a frame: the short range at 128 px for faces as on a webcam, the full range at 192 px for faces down to
a few percent of the width. Both fire on prints and patterns too, so what they give is a candidate until the landmark
net believes it (`verifying.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Rgb
from services.common.planes import Planes, rgb_view
from services.detector.sights import Box, iou

MERGE_IOU = 0.3
"""Boxes that overlap more than this are one face (the models' own value)."""


@dataclass(frozen=True, slots=True)
class Range:
    """One of the two nets.

    Attributes:
        model: folder in the model repository.
        size: side of its square input in pixels.
        threshold: score from which an anchor counts; the models' own values.
    """

    model: str
    size: int
    threshold: float


SHORT_RANGE = Range("blazeface_short", 128, 0.5)
FULL_RANGE = Range("blazeface_full", 192, 0.6)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Something that may be a face.

    Attributes:
        box: (4,) float32, pixels of the frame.
        keypoints: (n, 2) float32, pixels of the frame: the eye at the image's left, at its right, then what a detector
            has beside: BlazeFace's nose, mouth, ears; SCRFD's nose, corners of the mouth.
        score: in [0, 1].
    """

    box: Box
    keypoints: NDArray[np.float32]
    score: float


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a frame lies in a square: scaled by its longer side, centred, black beside it.

    Scale and offset are per axis because a picture of whole pixels rarely has the exact ratio.
    """

    scale: tuple[float, float]
    offset: tuple[int, int]
    size: int

    def to_frame(self, places: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(..., 2) places in 0..1 of the square to pixels of the frame."""
        inside = places.astype(np.float64) * self.size - np.asarray(self.offset, np.float64)
        return (inside / np.asarray(self.scale, np.float64)).astype(np.float32)


def letterbox(planes: Planes, size: int) -> tuple[Rgb, Letterbox]:
    """The whole frame in a black square, shrunk by area: with bilinear sampling small faces are lost.

    Returns:
        (size, size, 3) uint8 and how it lies in there.
    """
    longer = max(planes.width, planes.height)
    width = max(1, round(planes.width * size / longer))
    height = max(1, round(planes.height * size / longer))
    left, top = (size - width) // 2, (size - height) // 2
    square = np.zeros((size, size, 3), np.uint8)
    square[top : top + height, left : left + width] = rgb_view(planes, width=width, height=height)
    return square, Letterbox((width / planes.width, height / planes.height), (left, top), size)


def candidates(
    boxes: NDArray[np.float32],
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    placed: Letterbox,
    threshold: float,
) -> list[Candidate]:
    """The anchors of one frame that a net believes in, in pixels of the frame.

    Args:
        boxes: (n, 4) x0, y0, x1, y1 in 0..1 of the letterbox.
        keypoints: (n, 6, 2) in 0..1 of the letterbox.
        scores: (n,) in [0, 1].
        placed: how the frame lay in the letterbox.
        threshold: least score that counts.
    """
    kept = np.flatnonzero(scores >= threshold)
    corners = placed.to_frame(boxes[kept].reshape(-1, 2, 2)).reshape(-1, 4)
    places = placed.to_frame(keypoints[kept])
    found = [Candidate(corners[i], places[i], float(scores[row])) for i, row in enumerate(kept)]
    # A box without area (an anchor that was never trained) would make a region of interest of no size.
    return [c for c in found if c.box[2] - c.box[0] > 1 and c.box[3] - c.box[1] > 1]


def merged(found: list[Candidate]) -> list[Candidate]:
    """Weighted non-maximum suppression: overlapping candidates become one, averaged by score, best first."""
    rest = sorted(found, key=lambda c: (-c.score, *c.box.tolist()))
    faces: list[Candidate] = []
    while rest:
        overlap = iou(rest[0].box[None], np.stack([c.box for c in rest]))[0]
        group = [c for c, shared in zip(rest, overlap, strict=True) if shared > MERGE_IOU] or rest[:1]
        rest = [c for c in rest if not any(c is taken for taken in group)]
        weights = np.array([c.score for c in group], np.float64)
        weights /= weights.sum()
        box = np.tensordot(weights, np.stack([c.box for c in group]), axes=1).astype(np.float32)
        places = np.tensordot(weights, np.stack([c.keypoints for c in group]), axes=1).astype(np.float32)
        faces.append(Candidate(box, places, group[0].score))
    return faces
