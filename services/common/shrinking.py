"""Pictures made smaller by a whole factor, so that one small pixel covers exactly so many large ones."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", np.uint8, np.float32)


def shrink(picture: NDArray[Scalar], factor: int) -> NDArray[Scalar]:
    """Means of factor x factor pixels, by halves as far as they go.

    OpenCV halves ten times faster than it shrinks by any other factor, and by one that is not whole five times slower
    than by 4. Each time it rounds halves up: means of 8 bits come out brighter by an eighth of a level each time.

    Args:
        picture: (h, w) or (h, w, channels).
        factor: 1 or more; 1 gives the picture itself.

    Returns:
        ceil(h / factor) rows and ceil(w / factor) columns; where the sides do not divide, the last row and column are
        repeated first.
    """
    picture = _filled(picture, factor)
    while factor > 1:
        step = 2 if factor % 2 == 0 else factor
        picture = _means(picture, step)
        factor //= step
    return picture


def shrink_at_once(picture: NDArray[Scalar], factor: int) -> NDArray[Scalar]:
    """The same in one step, slower and rounded once: what models look at must not grow brighter by half a level."""
    return _means(_filled(picture, factor), factor)


def _filled(picture: NDArray[Scalar], factor: int) -> NDArray[Scalar]:
    height, width = picture.shape[:2]
    down, right = -height % factor, -width % factor
    if down or right:
        return np.asarray(cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE), picture.dtype)
    return picture


def _means(picture: NDArray[Scalar], factor: int) -> NDArray[Scalar]:
    size = (picture.shape[1] // factor, picture.shape[0] // factor)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), picture.dtype)
