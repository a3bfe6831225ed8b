"""The demo's face: a theatrical mask painted in mesh space, so that nobody is impersonated.

It is drawn over the 478 landmarks of a portrait and uses nothing else of it; its own landmarks are therefore known.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade import facemesh
from services.common.arrays import Points, Rgb

PORCELAIN = (238, 226, 205)
TEAL = (24, 112, 128)
GOLD = (222, 172, 54)
CRIMSON = (172, 22, 44)
INK = (28, 24, 40)
SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates."""

NOSE_TIP, CHIN, BROW_CENTRE, FOREHEAD_TOP = 4, 152, 9, 10
CHEEKS = (205, 425)
BROWS = ((46, 53, 52, 65, 55, 107, 66, 105, 63, 70), (276, 283, 282, 295, 285, 336, 296, 334, 293, 300))


def paint(points: Points, *, face_width_px: float = 420.0) -> tuple[Rgb, Points]:
    """Paint the mask over landmarks.

    Args:
        points: (478, 3) float32, landmarks of a frontal portrait in its pixels.
        face_width_px: how wide the painted face is to be.

    Returns:
        The picture, (h, w, 3) uint8, and the landmarks in it, (478, 3) float32.
    """
    left, right = (points[index, :2] for index in facemesh.FACE_WIDTH)
    scale = face_width_px / float(np.linalg.norm(right - left))
    scaled = points * np.float32(scale)
    margin = 0.35 * face_width_px
    low = scaled[:, :2].min(axis=0) - margin
    scaled[:, :2] -= low
    width, height = (int(side) // 2 * 2 for side in scaled[:, :2].max(axis=0) + margin)
    # Painted at twice the size and shrunk: every edge of the pattern is smooth.
    canvas = np.full((2 * height, 2 * width, 3), INK, np.uint8)
    _paint_pattern(canvas, scaled[:, :2] * 2.0)
    picture = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(picture, np.uint8), scaled.astype(np.float32)


def _paint_pattern(canvas: Rgb, at: NDArray[np.float32]) -> None:
    """All shapes, from the ground up; `at` are landmark positions on the canvas."""
    unit = float(np.linalg.norm(at[facemesh.FACE_WIDTH[1]] - at[facemesh.FACE_WIDTH[0]]))
    hull = cv2.convexHull(np.round(at[: facemesh.MESH_POINTS]).astype(np.int32))
    centre = hull.reshape(-1, 2).mean(axis=0)
    # A little beyond the rim: the outermost triangles sample there when the target's face is turned.
    grown = np.round((hull.reshape(-1, 2) - centre) * 1.12 + centre).astype(np.int32)
    cv2.fillConvexPoly(canvas, grown, PORCELAIN, cv2.LINE_AA)
    _harlequin(canvas, at, grown, unit)
    for ring in (facemesh.RIGHT_LIDS, facemesh.LEFT_LIDS):
        _star(canvas, at[list(ring)].mean(axis=0), radius=0.235 * unit, colour=INK)
        _star(canvas, at[list(ring)].mean(axis=0), radius=0.205 * unit, colour=GOLD)
        _polygon(canvas, _grown(at[list(ring)], 1.12), INK)
    for brow in BROWS:
        _polygon(canvas, np.asarray(cv2.convexHull(at[list(brow)]), np.float32).reshape(-1, 2), INK)
    for cheek in CHEEKS:
        cv2.circle(canvas, _fixed(at[cheek]), int(0.085 * unit * 2**SHIFT), CRIMSON, -1, cv2.LINE_AA, SHIFT)
        cv2.circle(canvas, _fixed(at[cheek]), int(0.045 * unit * 2**SHIFT), PORCELAIN, -1, cv2.LINE_AA, SHIFT)
    _polygon(canvas, _grown(at[list(facemesh.OUTER_LIPS)], 1.10), INK)
    _polygon(canvas, at[list(facemesh.OUTER_LIPS)], CRIMSON)
    _diamond(canvas, (at[BROW_CENTRE] + at[FOREHEAD_TOP]) / 2, half_width=0.05 * unit, half_height=0.10 * unit)
    for step in range(3):
        spot = at[CHIN] + (at[NOSE_TIP] - at[CHIN]) * (0.10 + 0.07 * step)
        cv2.circle(canvas, _fixed(spot), int(0.016 * unit * 2**SHIFT), GOLD, -1, cv2.LINE_AA, SHIFT)


def _harlequin(canvas: Rgb, at: NDArray[np.float32], hull: NDArray[np.int32], unit: float) -> None:
    """Diamonds over one half of the face, divided by the line from forehead to chin."""
    axis = at[CHIN] - at[FOREHEAD_TOP]
    down = axis / np.linalg.norm(axis)
    across = np.array([-down[1], down[0]], np.float32)
    rows, columns = np.indices(canvas.shape[:2], dtype=np.float32)
    from_top = np.stack([columns - at[FOREHEAD_TOP][0], rows - at[FOREHEAD_TOP][1]], axis=-1)
    u, v = from_top @ across / (0.13 * unit), from_top @ down / (0.20 * unit)
    is_diamond = (np.floor(u + v) + np.floor(u - v)) % 2 == 0
    inside = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, hull, 1)
    canvas[(inside > 0) & (u > 0) & is_diamond] = TEAL
    canvas[(inside > 0) & (np.abs(u) < 0.04)] = GOLD


def _star(canvas: Rgb, centre: NDArray[np.float32], *, radius: float, colour: tuple[int, int, int]) -> None:
    """Eight points round an eye."""
    angles = np.arange(16) * (np.pi / 8)
    lengths = np.where(np.arange(16) % 2 == 0, radius, 0.62 * radius)
    _polygon(canvas, centre + np.stack([np.sin(angles) * lengths, -np.cos(angles) * lengths], axis=-1), colour)


def _diamond(canvas: Rgb, centre: NDArray[np.float32], *, half_width: float, half_height: float) -> None:
    corners = np.array([[0, -half_height], [half_width, 0], [0, half_height], [-half_width, 0]], np.float32)
    _polygon(canvas, centre + corners, CRIMSON)
    _polygon(canvas, centre + 0.5 * corners, GOLD)


def _polygon(canvas: Rgb, corners: NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    cv2.fillPoly(canvas, [np.round(corners * 2**SHIFT).astype(np.int32)], colour, cv2.LINE_AA, SHIFT)


def _grown(corners: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    centre = corners.mean(axis=0)
    return np.asarray(centre + (corners - centre) * np.float32(factor), np.float32)


def _fixed(place: NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.round(place * 2**SHIFT).astype(int)
    return int(x), int(y)
