"""Faces made of nothing: landmarks that lie as mesh space does, and pictures to lay under them."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from masquerade import facemesh
from masquerade.identity import Identity, Picture

POINTS = 478


def require_topology() -> None:
    """Skip the calling test where the models were not pulled."""
    try:
        facemesh.topology()
    except FileNotFoundError:
        pytest.skip("the mesh's topology is absent: run `make models`")


def face_points(
    width_px: float, *, at: tuple[float, float] = (0.0, 0.0), height_px: float | None = None, shut_eyes: bool = False
) -> NDArray[np.float32]:
    """(478, 3) float32: a frontal face of some width whose box begins at `at`; its middle is nearest."""
    layout = facemesh.mesh_space().astype(np.float64)
    low, high = layout.min(axis=0), layout.max(axis=0)
    size = np.array([width_px, height_px or 1.25 * width_px])
    points = np.zeros((POINTS, 3), np.float32)
    points[: facemesh.MESH_POINTS, :2] = (layout - low) / (high - low) * size + at
    if shut_eyes:
        for ring in (facemesh.RIGHT_EYE, facemesh.LEFT_EYE):
            points[list(ring), 1] = points[list(ring), 1].mean()
    # The irises, in the middle of each eye.
    for first, ring in ((468, facemesh.RIGHT_EYE), (473, facemesh.LEFT_EYE)):
        points[first : first + 5, :2] = points[list(ring), :2].mean(axis=0)
    middle = (layout - 0.5) ** 2
    points[: facemesh.MESH_POINTS, 2] = width_px * middle.sum(axis=1)
    return points


def scenery(width: int, height: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """(h, w, 3) uint8: a smooth picture without anything in it."""
    few = np.random.default_rng(seed).integers(60, 200, (5, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def portrait(
    width_px: int = 240, *, kind: Literal["photo", "drawn"] = "drawn", colour: tuple[int, int, int] = (40, 90, 220)
) -> Identity:
    """An identity of one colour, with features a shade darker; blue unless asked otherwise: no skin is."""
    height = round(1.25 * width_px)
    points = face_points(width_px, at=(20.0, 20.0))
    rgb = np.full((height + 40, width_px + 40, 3), colour, np.uint8)
    dark = tuple(int(0.5 * channel) for channel in colour)
    for ring in (facemesh.RIGHT_LIDS, facemesh.LEFT_LIDS, facemesh.OUTER_LIPS):
        cv2.fillPoly(rgb, [np.round(points[list(ring), :2]).astype(np.int32)], dark)
    return Identity(kind=kind, pictures=(Picture(rgb=rgb, points=points),))
