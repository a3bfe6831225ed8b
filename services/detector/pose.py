"""How a head is turned, read from its mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import FACE_WIDTH, LEFT_EYE, RIGHT_EYE

FOREHEAD_TOP, CHIN = 10, 152


def pose_of(points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Yaw, pitch and roll of faces, from the plane through the eyes, ears, forehead and chin.

    Args:
        points: (n, 478, 3) float, pixels; z in the same unit, smaller is nearer.

    Returns:
        (n, 3) float32 in degrees: yaw positive to the image's right, pitch positive downwards, roll positive clockwise.
    """
    mesh = points.astype(np.float64)
    # Two parallels of the face's width: the eyes alone shake, the ears alone are guessed on a turned head.
    right = _unit(mesh[:, LEFT_EYE[0]] - mesh[:, RIGHT_EYE[0]]) + _unit(mesh[:, FACE_WIDTH[1]] - mesh[:, FACE_WIDTH[0]])
    right = _unit(right)
    down = _unit(mesh[:, CHIN] - mesh[:, FOREHEAD_TOP])
    # x right, y down, z away from the camera: right x down points into the head, the face looks the other way.
    looks = -_unit(np.cross(right, down))
    yaw = np.arctan2(looks[:, 0], -looks[:, 2])
    pitch = np.arcsin(np.clip(looks[:, 1], -1, 1))
    roll = np.arctan2(right[:, 1], right[:, 0])
    angles: NDArray[np.float32] = np.degrees(np.stack([yaw, pitch, roll], axis=1)).astype(np.float32)
    return angles


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-9)
    return unit
