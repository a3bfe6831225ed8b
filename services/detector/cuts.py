"""Scene cuts: where one frame has nothing to do with the one before.

Decided for each pair of neighbours by itself, so that it does not matter where a segment begins. Too many cuts cost a
detection each and break a track that Link joins again; one too few lets landmarks of one face slide onto another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.planes import Planes

Thumbnail: TypeAlias = NDArray[np.uint8]
"""(36, 64) uint8: a frame's luma, shrunk by area."""

_SIZE = (64, 36)
_BINS = 32


@dataclass(frozen=True, slots=True)
class CutLimits:
    """From which change two neighbours are a cut.

    The picture's structure must be another (correlation, blind to a flash or a fade), and either many pixels change or
    the tones do (histogram). Measured on the shared footage: inside a scene at most 0.06 of the pixels change, the
    correlation stays above 0.92 and at most 0.05 of the tones move; between any two scenes at least 0.22 change, and
    the correlation is at most 0.80, though two of them show one person before one wall.
    """

    correlation: float = 0.86
    changed: float = 0.15
    tones: float = 0.12


def thumbnail(planes: Planes) -> Thumbnail:
    """(36, 64) uint8: what cuts are judged by."""
    # Every few lines are enough: four of them still meet in each pixel, and most of the frame is never read.
    lines = planes.y[:: max(1, planes.height // (4 * _SIZE[1]))]
    return np.asarray(cv2.resize(lines, _SIZE, interpolation=cv2.INTER_AREA), np.uint8)


def is_cut(before: Thumbnail, after: Thumbnail, limits: CutLimits = CutLimits()) -> bool:
    """Whether a new scene begins with `after`."""
    changed, correlation, tones = change(before, after)
    return correlation < limits.correlation and (changed > limits.changed or tones > limits.tones)


def change(before: Thumbnail, after: Thumbnail) -> tuple[float, float, float]:
    """How far two neighbours differ.

    Returns:
        The share of pixels that change by more than 24 of 255; the correlation of the pictures in [-1, 1] (of a flat
        one: 1 with another flat one, else 0); the share of pixels whose tone would have to change for the histograms
        to agree.
    """
    a, b = before.astype(np.int64), after.astype(np.int64)
    changed = float(np.count_nonzero(np.abs(a - b) > 24)) / a.size
    # In whole numbers: sums of products that are exact cannot depend on the order of adding.
    covariance = a.size * int((a * b).sum()) - int(a.sum()) * int(b.sum())
    spread = [a.size * int((x * x).sum()) - int(x.sum()) ** 2 for x in (a, b)]
    scale = float(np.sqrt(float(spread[0]) * float(spread[1])))
    correlation = covariance / scale if scale > 0 else float(spread[0] == spread[1])
    tones = [np.bincount(x.ravel() * _BINS // 256, minlength=_BINS) for x in (a, b)]
    moved = float(np.abs(tones[0] - tones[1]).sum()) / (2 * a.size)
    return changed, correlation, moved
