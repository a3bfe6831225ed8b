"""How sharp a face is: the variance of the Laplacian over the face's part of the landmark crop."""

from __future__ import annotations

import cv2
import numpy as np

from services.common.arrays import Rgb
from services.detector.landmarks import CROP_PX, MARGIN

_BORDER = round(CROP_PX * (1 - 1 / MARGIN) / 2)


def sharpness_of(crop: Rgb) -> float:
    """Variance of the Laplacian of the face's luma, in squared 8-bit units.

    Faces are compared at one size (the landmark net's), so a small face that was enlarged counts as soft, as it looks.

    Args:
        crop: (192, 192, 3) uint8 as the landmark net saw it; the margin round the face is left out.
    """
    face = cv2.cvtColor(crop[_BORDER:-_BORDER, _BORDER:-_BORDER], cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(face, cv2.CV_16S, ksize=1))
    return float(np.float32(deviation[0, 0] ** 2))
