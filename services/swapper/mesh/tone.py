"""Colours of the swap: the source's detail in the target's light."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Alpha, Rgb

Tone = Literal["target", "source"]

SHRINK = 4
"""The slow part of the colours is found at a quarter of the size."""

_LOW_SIGMA = 0.18
"""Where light ends and features begin, in face widths: an eye socket is shape of the source, a lit cheek is light."""

_GAIN_RANGE = np.array([[0.65, 0.6, 0.6], [1.1, 1.2, 1.2]], np.float32)
"""Least and most gain of L, A and B: contrast follows the target's, but a flat face is not made of a lively one."""

_LIGHT_KEPT = 0.5
"""How much of the target's light falls on a face that keeps its own colours."""


def toned(warped: NDArray[np.uint8], target: Rgb, weight: Alpha, *, face_width_px: float, tone: Tone) -> Rgb:
    """The source's texture as it would look on the target.

    Args:
        warped: (h, w, 4) uint8, the source in the target's shape: L, A, B (OpenCV, 8 bits) and validity, unused here.
        target: (h, w, 3) uint8, the target.
        weight: (h / 4, w / 4) float32, which pixels show skin of both; the rest does not count.
        face_width_px: width of the face in pixels of `target`.
        tone: "target": light and skin tone of the target under the details of the source. "source": colours of the
            source, with half of the target's light falling on them.

    Returns:
        (h, w, 3) uint8.
    """
    height, width = target.shape[:2]
    size = (weight.shape[1], weight.shape[0])
    own = cv2.cvtColor(cv2.resize(target, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB).astype(np.float32)
    source = cv2.resize(warped, size, interpolation=cv2.INTER_AREA)[..., :3].astype(np.float32)
    sigma = _LOW_SIGMA * face_width_px / SHRINK
    total = _gauss(weight, sigma)[..., None] + np.float32(1e-3)
    own_low = _gauss(own * weight[..., None], sigma) / total
    source_low = _gauss(source * weight[..., None], sigma) / total
    core = weight > 0.95
    if tone == "target":
        gain = _gain(own - own_low, source - source_low, core)
        shift = own_low - source_low * gain
    else:
        gain = np.ones(3, np.float32)
        shift = np.zeros_like(own)
        middle = own_low[..., 0][core].mean() if core.any() else own_low[..., 0].mean()
        shift[..., 0] = _LIGHT_KEPT * (own_low[..., 0] - middle)
    # One pass: the gain, and validity dropped.
    scaled = cv2.transform(warped, np.column_stack([np.diag(gain), np.zeros(3)]))
    slow = cv2.resize(np.rint(shift).astype(np.int16), (width, height), interpolation=cv2.INTER_LINEAR)
    lab = cv2.add(scaled, slow, dtype=cv2.CV_8U)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def _gain(own: NDArray[np.float32], source: NDArray[np.float32], core: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What the source's detail is multiplied by to be as strong as the target's, by channel."""
    if not core.any():
        return np.ones(3, np.float32)
    ratio = (np.abs(own[core]).mean(axis=0) + 0.5) / (np.abs(source[core]).mean(axis=0) + 0.5)
    return np.asarray(np.clip(ratio, _GAIN_RANGE[0], _GAIN_RANGE[1]), np.float32)


def _gauss(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
