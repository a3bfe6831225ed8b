"""A small sample of what a face looks like, laid out in mesh space, taken every few frames.

What a face looks like when nothing is in front of it is learned from these in Link; they are biometric data and are
erased with the job.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import TexelGrid, unwrap_map
from masquerade.timeline import TEXTURE_SIZE
from services.common.arrays import Points
from services.common.planes import Planes, rgb_warp

EVERY = 4
"""Frames between samples, counted on the absolute grid so that a split changes nothing. Half a group: each face that
lives for four frames is sampled, at under 0.2 CPU-ms a frame."""

SMALLEST_PX = 32
"""A face narrower than this fills less than every second texel."""

_CROP_PX = 96
"""The crop that is unwrapped: a little above the texture's own resolution, so that sampling it bilinearly is enough."""

Texture: TypeAlias = NDArray[np.uint8]
"""(64, 64, 3) uint8, 8-bit LAB of OpenCV, mesh space."""


def is_sampled(frame: int) -> bool:
    """Whether textures are taken in this frame."""
    return frame % EVERY == 0


def texture_of(planes: Planes, points: Points, *, grid: TexelGrid | None = None) -> Texture | None:
    """The face laid out in mesh space, or None where it is too small to say anything.

    Args:
        planes: the frame.
        points: (478, 3) pixels of the frame.
        grid: for tests, made of another topology than the model repository's.
    """
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    width, height = np.maximum(high - low, 1.0).astype(np.float64)
    if width < SMALLEST_PX:
        return None
    scale = np.array([_CROP_PX / width, _CROP_PX / height])
    affine = np.column_stack([np.diag(scale), -scale * low])
    crop = rgb_warp(planes, affine, width=_CROP_PX, height=_CROP_PX)
    placed = (points[:, :2] - low) * scale
    at = unwrap_map(placed, TEXTURE_SIZE, grid=grid)
    x, y = np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1])
    flat = cv2.remap(crop, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), np.uint8)
