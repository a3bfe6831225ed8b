"""Colours of the swap: the source's detail in the target's light."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.common.arrays import Alpha, Rgb
from services.common.shrinking import shrink

Tone = Literal["target", "source"]

_SHRINK = 4
"""The slow part of the colours is found at a quarter of the size."""

_LEAST_PX = 8
"""Sides that are left at least: a smaller face is shrunk less."""

_LOW_SIGMA = 0.18
"""Where light ends and features begin, in face widths: an eye socket is shape of the source, a lit cheek is light."""

_COARSE_FROM_PX = 6.0
"""Deviation from which means are found at half the size again."""

_GAIN_RANGE = np.array([[0.65, 0.6, 0.6], [1.1, 1.2, 1.2]], np.float32)
"""Least and most gain of L, A and B: contrast follows the target's, but a flat face is not made of a lively one."""

_LIGHT_KEPT = 0.5
"""How much of the target's light falls on a face that keeps its own colours."""


def shrink_factor(width: int, height: int) -> int:
    """By how much a face of that size is shrunk to find the slow part of its colours."""
    return next((factor for factor in (_SHRINK, _SHRINK // 2) if min(width, height) >= factor * _LEAST_PX), 1)


def toned(lab: NDArray[np.uint8], target: Rgb, weight: Alpha, *, factor: int, face_width_px: float, tone: Tone) -> Rgb:
    """The source's texture as it would look on the target.

    Args:
        lab: (h, w, 3) uint8, the source in the target's shape: L, A, B (OpenCV, 8 bits).
        target: (h, w, 3) uint8, the target.
        weight: (ceil(h / factor), ceil(w / factor)) float32, which pixels show skin of both; the rest does not count.
        factor: of `shrink_factor`.
        face_width_px: width of the face in pixels of `target`.
        tone: "target": light and skin tone of the target under the details of the source. "source": colours of the
            source, with half of the target's light falling on them.

    Returns:
        (h, w, 3) uint8.
    """
    height, width = target.shape[:2]
    own = cv2.cvtColor(shrink(target, factor), cv2.COLOR_RGB2LAB).astype(np.float32)
    source = shrink(lab, factor).astype(np.float32)
    sigma = _LOW_SIGMA * face_width_px / factor
    own_low, source_low = _low(own, weight, sigma), _low(source, weight, sigma)
    core = weight > 0.95
    if tone == "target":
        gain = _gain(own - own_low, source - source_low, core)
        shift = own_low - source_low * gain
    else:
        gain = np.ones(3, np.float32)
        shift = np.zeros_like(own)
        middle = own_low[..., 0][core].mean() if core.any() else own_low[..., 0].mean()
        shift[..., 0] = _LIGHT_KEPT * (own_low[..., 0] - middle)
    size = (weight.shape[1] * factor, weight.shape[0] * factor)
    slow = cv2.resize(np.rint(shift).astype(np.int16), size, interpolation=cv2.INTER_LINEAR)[:height, :width]
    shown = cv2.add(cv2.LUT(lab, _multiplied(gain)), slow, dtype=cv2.CV_8U)
    return np.asarray(cv2.cvtColor(shown, cv2.COLOR_LAB2RGB), np.uint8)


def _multiplied(gain: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(256, 1, 3): each level times the gain of its channel, for `cv2.LUT`."""
    levels = np.arange(256, dtype=np.float32)[:, None, None] * gain
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def _gain(own: NDArray[np.float32], source: NDArray[np.float32], core: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What the source's detail is multiplied by to be as strong as the target's, by channel."""
    if not core.any():
        return np.ones(3, np.float32)
    mask = core.view(np.uint8)
    strength, source_strength = (np.array(cv2.mean(np.abs(detail), mask)[:3]) + 0.5 for detail in (own, source))
    return np.asarray(np.clip(strength / source_strength, _GAIN_RANGE[0], _GAIN_RANGE[1]), np.float32)


def _low(image: NDArray[np.float32], weight: Alpha, sigma: float) -> NDArray[np.float32]:
    """Gaussian means of (h, w, 3), each pixel by its weight."""
    height, width = weight.shape
    # So smooth a picture needs no more pixels.
    factor = 2 if sigma >= _COARSE_FROM_PX else 1
    stacked = shrink(np.dstack([image * weight[..., None], weight]), factor)
    mean = cv2.GaussianBlur(stacked, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    low = mean[..., :3] / (mean[..., 3:] + np.float32(1e-3))
    size = (low.shape[1] * factor, low.shape[0] * factor)
    return np.asarray(cv2.resize(low, size, interpolation=cv2.INTER_LINEAR)[:height, :width], np.float32)
