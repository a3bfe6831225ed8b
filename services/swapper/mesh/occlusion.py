"""What is in front of a face, found without a model: texels that do not look like the face itself.

Link learned what each texel of a track looks like. A hand, a cup or a microphone does not look like that.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import INNER_LIPS, LEFT_EYE, MESH_POINTS, RIGHT_EYE, mesh_space, texel_grid, unwrap_map
from services.common.arrays import Alpha, Points, Rgb
from services.swapper.engines import Texture

SIZE = 64
"""Side of a texture in mesh space, as the Timeline holds it."""

_SAMPLED_PX = 96
"""Width and height that a face is brought to before it is laid out, as where textures are learned."""

_NOISE = np.array([60.0, 14.0, 14.0], np.float32)
"""Variance of L, A and B that any texel may have: compression, and light that moves over the face."""

_OUTLIER = 2.3
"""Deviations from which a texel is foreign; 2.0 took smiles for hands, 2.7 lost fingers."""

_LEAST_TEXELS = 40
"""Smallest thing that counts, about one per cent of the face: below it are creases and highlights."""


def occlusion(rgb: Rgb, points: Points, texture: Texture) -> Alpha | None:
    """What covers a face, in mesh space.

    Args:
        rgb: (h, w, 3) uint8, the crop.
        points: landmarks in pixels of the crop.
        texture: what the face looks like uncovered.

    Returns:
        (64, 64) float32 in [0, 1], 1 where something is in front; None if nothing is.
    """
    grid = texel_grid(SIZE)
    seen = _seen(rgb, points)
    judged = grid.inside & ~_moving()
    error = seen - texture.mean
    # A lamp or a cloud changes all texels alike.
    error -= np.median(error[judged], axis=0)
    distance = np.sqrt((error * error / (texture.variance + _NOISE)).sum(axis=-1)).astype(np.float32)
    distance[~judged] = 0
    distance = np.asarray(cv2.GaussianBlur(distance, (0, 0), 1.0), np.float32)
    foreign = (distance > _OUTLIER).astype(np.uint8)
    foreign[~grid.inside] = 0
    foreign = np.asarray(cv2.morphologyEx(foreign, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    if not foreign.any():
        return None
    foreign = np.asarray(cv2.morphologyEx(foreign, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)), np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(foreign)
    large = [number for number in range(1, count) if statistics[number, cv2.CC_STAT_AREA] >= _LEAST_TEXELS]
    if not large:
        return None
    kept = np.isin(labels, large).astype(np.float32)
    kept = np.asarray(cv2.dilate(kept, np.ones((3, 3), np.uint8)), np.float32)
    return np.asarray(cv2.GaussianBlur(kept, (0, 0), 0.8), np.float32)


def _seen(rgb: Rgb, points: Points) -> NDArray[np.float32]:
    """(64, 64, 3) float32: the face in mesh space, sampled as finely as the samples that the texture was learned of.

    Shrinking first, by area, keeps the grain of a large face from looking like something foreign.
    """
    flat = points[:MESH_POINTS, :2]
    spread = np.maximum(np.ptp(flat, axis=0), 1)
    height, width = rgb.shape[:2]
    size = (max(1, round(width * _SAMPLED_PX / spread[0])), max(1, round(height * _SAMPLED_PX / spread[1])))
    method = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
    small = cv2.resize(rgb, size, interpolation=method)
    at = unwrap_map(flat * np.array([size[0] / width, size[1] / height], np.float32), SIZE)
    x, y = np.ascontiguousarray(at[..., 0]), np.ascontiguousarray(at[..., 1])
    laid_out = cv2.remap(small, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(laid_out, cv2.COLOR_RGB2LAB).astype(np.float32)


@lru_cache(maxsize=1)
def _moving() -> NDArray[np.bool_]:
    """(64, 64) bool: eyes and inner mouth with a margin. They change by themselves and are the target's anyway."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for ring in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
        cv2.fillPoly(mask, [np.round(mesh_space()[list(ring)] * SIZE - 0.5).astype(np.int32)], 1)
    return np.asarray(cv2.dilate(mask, np.ones((5, 5), np.uint8)), np.uint8) > 0
