"""How much of the swap each pixel shows: soft at the rim, nothing over the target's own eyes, lids' edges and mouth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from masquerade.facemesh import INNER_LIPS, LEFT_EYE, LEFT_LIDS, MESH_POINTS, RIGHT_EYE, RIGHT_LIDS
from services.common.arrays import Alpha, Points

_RIM = (0.02, 0.13)
"""Nothing of the swap nearer to the rim than the first, all of it from the second on, in face widths."""

_LID_REACH = 1.0
"""How far towards the ring of the lids the target shows through round an open eye. The lids' edges are what moves
with an eye: shown from the source alone they double the target's lashes and lose a third of the eye's movement."""

_EYE_OPEN, _EYE_SHUT = 0.27, 0.17
"""Opening of an eye as a share of its length between which the target's lids come in wholly. A lid of the source,
stretched over a closing eye, smears its lashes; the target's own blink is right."""

_SHUT_REACH = 1.4
"""How far beyond the ring of the lids the target is kept when the eye is shut."""

_LID_SOFTNESS = 0.05
"""Deviation of the lids' soft edge in face widths: as broad as a lid, from the target's lashes to the source's
socket."""

_SOFTNESS = 0.01
"""The same of eyeballs and inner mouth: as narrow as the edge of a lip, where teeth begin."""

_YAW_FADE_DEGREES = (55.0, 75.0)
"""Where a turned head begins and ends to lose the swap: there is no texture for a profile."""


def rim_alpha(covered: NDArray[np.bool_], face_width_px: float) -> Alpha:
    """(h, w) float32: smooth from 0 at the outline of what is seen of the face to 1 inside."""
    distance = np.asarray(cv2.distanceTransform(covered.astype(np.uint8), cv2.DIST_L2, 3), np.float32)
    first, last = _RIM[0] * face_width_px, _RIM[1] * face_width_px
    distance -= np.float32(first)
    distance *= np.float32(1 / (last - first))
    np.clip(distance, 0, 1, out=distance)
    smooth: Alpha = distance * distance * (3 - 2 * distance)
    return smooth


@dataclass(frozen=True, slots=True, eq=False)
class Holes:
    """Where the target's own pixels stay.

    Attributes:
        mask: (h, w) uint8, 255 on eyes, their lids and the inner mouth; with a hard edge.
        share: (h, w) float32 in [0, 1], how much of the target stays; soft.
    """

    mask: NDArray[np.uint8]
    share: Alpha


def holes(points: Points, *, width: int, height: int, face_width_px: float) -> Holes:
    """The target's eyes with the edges of their lids, and its inner mouth.

    Args:
        points: landmarks in pixels of the mask, centres at +0.5.
        width: of the mask.
        height: of the mask.
        face_width_px: of the face in pixels of the mask.
    """
    flat = points[:MESH_POINTS, :2]
    sharp, blurred = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    _fill(sharp, flat[list(INNER_LIPS)])
    for eye, lids in ((RIGHT_EYE, RIGHT_LIDS), (LEFT_EYE, LEFT_LIDS)):
        inner, outer = flat[list(eye)], flat[list(lids)]
        length = float(np.linalg.norm(inner[0] - inner[8]))
        opening = float(np.linalg.norm(inner[4] - inner[12])) / (length + 1e-6)
        shut = min(max((_EYE_OPEN - opening) / (_EYE_OPEN - _EYE_SHUT), 0.0), 1.0)
        _fill(sharp, inner + np.float32(shut * _SHUT_REACH) * (outer - inner))
        _fill(blurred, inner + np.float32(max(_LID_REACH, shut * _SHUT_REACH)) * (outer - inner))
    share = np.maximum(_softened(sharp, _SOFTNESS * face_width_px), _softened(blurred, _LID_SOFTNESS * face_width_px))
    share *= np.float32(1 / 255)
    return Holes(mask=np.asarray(cv2.max(sharp, blurred), np.uint8), share=share)


def pose_weight(yaw_degrees: float) -> float:
    """How much of the swap a head shows that is turned so far."""
    first, last = _YAW_FADE_DEGREES
    return min(max((last - abs(yaw_degrees)) / (last - first), 0.0), 1.0)


def _softened(mask: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """The mask with soft edges; only what lies near it is looked at."""
    sigma = max(0.8, sigma)
    left, top, width, height = cv2.boundingRect(mask)
    # OpenCV's window reaches 4 sigma: what it finds beyond the part is 0 then, mirrored or not.
    reach = math.ceil(4 * sigma) + 2
    part = np.s_[max(top - reach, 0) : top + height + reach, max(left - reach, 0) : left + width + reach]
    soft = np.zeros(mask.shape, np.float32)
    # As float32: with 8 bits OpenCV takes four times as long over a window of forty.
    soft[part] = cv2.GaussianBlur(mask[part].astype(np.float32), (0, 0), sigma)
    return soft


def _fill(mask: NDArray[np.uint8], ring: NDArray[np.float32]) -> None:
    cv2.fillPoly(mask, [np.rint((ring - 0.5) * 16).astype(np.int32)], 255, 8, 4)
