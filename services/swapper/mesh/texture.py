"""A source face, laid out once in mesh space so that any target can read it through one map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import INNER_LIPS, MESH_POINTS, texel_grid, unwrap_map
from masquerade.identity import Identity, Picture
from services.common.arrays import Rgb
from services.swapper.mesh.skin import FACE_WIDTH_SHARE, lips_gate, skin_gate

SIZES = (256, 512)
"""Sides that a texture can have. A face of 384 px, the largest that is worked on, shows 512 texels of mesh space."""

_LEAST_SIZE = 64
"""Smallest level of the pyramid; a face that shows less is some 50 px wide."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceTexture:
    """A prepared source.

    Attributes:
        levels: (n, n, 4) uint8 each, n halving from the first: L, A, B as OpenCV has them in 8 bits, and how far the
            texel may be used.
    """

    levels: tuple[NDArray[np.uint8], ...]

    @property
    def nbytes(self) -> int:
        """Bytes that keeping it costs."""
        return sum(level.nbytes for level in self.levels)

    def level_for(self, face_width_px: float) -> NDArray[np.uint8]:
        """The smallest level that still has a texel for each pixel of a face that wide."""
        wanted = face_width_px / FACE_WIDTH_SHARE * 0.8
        return next((level for level in reversed(self.levels) if len(level) >= wanted), self.levels[0])


def prepare_texture(identity: Identity) -> SourceTexture:
    """Lay the identity's best picture out in mesh space.

    A drawing is used to its rim as it is. A photo's texels that are no skin where skin should be are shut out.
    """
    picture = identity.pictures[0]
    face_width = float(np.ptp(picture.points[:MESH_POINTS, 0]))
    size = next((size for size in SIZES if size * FACE_WIDTH_SHARE >= face_width), SIZES[-1])
    rgb, points = _reduced(picture, face_width, size * FACE_WIDTH_SHARE)
    grid = texel_grid(size)
    at = unwrap_map(points, size, grid=grid)
    flat = cv2.remap(rgb, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lab = np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), np.uint8)
    gate = grid.inside.astype(np.uint8) * 255
    if identity.kind == "photo":
        gate = np.minimum(skin_gate(lab), lips_gate(_mouth_opening(points), size))
    levels = [np.dstack([lab, gate])]
    while len(levels[-1]) > _LEAST_SIZE:
        half = len(levels[-1]) // 2
        levels.append(np.asarray(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA), np.uint8))
    return SourceTexture(levels=tuple(levels))


def _mouth_opening(points: NDArray[np.float32]) -> float:
    """Distance of the lips in the middle as a share of the mouth's breadth."""
    ring = points[list(INNER_LIPS)]
    return float(np.linalg.norm(ring[5] - ring[15]) / (np.linalg.norm(ring[0] - ring[10]) + 1e-6))


def _reduced(picture: Picture, face_width: float, wanted: float) -> tuple[Rgb, NDArray[np.float32]]:
    """The picture scaled down if its face has more pixels than the texture: bilinear sampling would skip some."""
    points = picture.points[:MESH_POINTS, :2]
    if face_width <= 1.5 * wanted:
        return picture.rgb, points
    height, width = picture.rgb.shape[:2]
    size = (max(1, round(width * wanted / face_width)), max(1, round(height * wanted / face_width)))
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    return np.asarray(cv2.resize(picture.rgb, size, interpolation=cv2.INTER_AREA), np.uint8), points * scale
