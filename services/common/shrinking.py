"""Pictures made smaller by a whole factor, so that one small pixel covers exactly so many large ones."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", np.uint8, np.float32)


def shrink(picture: NDArray[Scalar], factor: int) -> NDArray[Scalar]:
    """Means of factor x factor pixels.

    Where the sides do not divide, the last row and column are repeated first. OpenCV shrinks by a factor that is not
    whole five times slower than by 4.

    Args:
        picture: (h, w) or (h, w, channels).
        factor: 1 or more; 1 gives the picture itself.

    Returns:
        ceil(h / factor) rows and ceil(w / factor) columns.
    """
    if factor == 1:
        return picture
    height, width = picture.shape[:2]
    down, right = -height % factor, -width % factor
    if down or right:
        padded = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE)
        picture = np.asarray(padded, picture.dtype)
    while factor > 1:
        # OpenCV halves ten times faster than it shrinks by any other factor. Each time it rounds halves up: means of
        # 8 bits come out brighter by an eighth of a level each time.
        step = 2 if factor % 2 == 0 else factor
        size = (picture.shape[1] // step, picture.shape[0] // step)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), picture.dtype)
        factor //= step
    return picture
